"""The kill matrix at the end of the run: which mutant was caught under which seed, after how long."""

from __future__ import annotations

from typing import Any

import pytest

from tests.quality.planting import MUTANTS
from tests.quality.runner import SEEDS, Outcome

MATRIX = pytest.StashKey[dict[tuple[str, int], Outcome]]()


@pytest.fixture
def matrix(request: pytest.FixtureRequest) -> dict[tuple[str, int], Outcome]:
    """(mutant, seed) -> outcome, of the whole session."""
    return request.config.stash.setdefault(MATRIX, {})


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    matrix = config.stash.get(MATRIX, {})
    if not matrix:
        return
    terminalreporter.section("kill matrix: seconds (programs) until a new cause named the planted op and facet")
    names = dict.fromkeys(name for name, _ in matrix)
    widths = max(map(len, names)), max(len(_place(name)) for name in names)
    seeds = [f"seed {seed}".rjust(14) for seed in SEEDS]
    terminalreporter.line("  ".join(["mutant".ljust(widths[0]), "op, facet".ljust(widths[1]), *seeds]))
    for name in names:
        cells = [_cell(matrix.get((name, seed))).rjust(14) for seed in SEEDS]
        terminalreporter.line("  ".join([name.ljust(widths[0]), _place(name).ljust(widths[1]), *cells, MUTANTS[name].what]))
    caught = sum(outcome.caught is not None for outcome in matrix.values())
    terminalreporter.line(f"{caught} of {len(matrix)} searches caught their mutant")


def _place(name: str) -> str:
    return f"{MUTANTS[name].op}, {MUTANTS[name].facet}"


def _cell(outcome: Outcome | None) -> str:
    if outcome is None:
        return "-"
    return f"{outcome.seconds:.1f} ({outcome.programs})" if outcome.caught else f"MISSED ({outcome.programs})"
