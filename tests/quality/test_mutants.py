"""Is the tester any good: planted defects are caught, as new causes with their op and facet, and nothing where nothing was planted."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from conformance.divergence import FACETS
from conformance.program import KINDS
from refgrad._table import TABLE
from tests.quality.mutants import unplanted
from tests.quality.planting import MUTANTS, PARTS
from tests.quality.runner import SEEDS, Outcome, search

#: one of each part, and caught within few programs: they run in the ordinary tests, which bound programs and no time
QUICK = {"sum_short": 200, "var_uncorrected": 1000, "backward_overwrites": 200, "detach_copies": 200, "sgd_without_decay": 1000}


def caught(name: str, seed: int, matrix: dict[tuple[str, int], Outcome] | None = None, **limits: float) -> Outcome:
    """The search for this mutant; fails where the harness did, or where no new cause named its op and facet."""
    mutant = MUTANTS[name]
    outcome = search(f"tests.quality.mutants:{name}", (mutant.op, mutant.facet), seed, **limits)
    if matrix is not None:
        matrix[name, seed] = outcome
    assert not outcome.failures, outcome.failures[0]
    missed = f"{mutant.what}: no new {mutant.op} {mutant.facet} in {outcome.programs} programs, {outcome.seconds:.1f} s"
    assert outcome.caught is not None, f"{missed}; other new causes: {outcome.unwanted() or 'none'}"
    return outcome


def test_every_mutant_names_an_op_a_facet_and_a_part_that_exist() -> None:
    ops = {*TABLE, *KINDS, "SGD"}
    assert [name for name, m in MUTANTS.items() if m.op not in ops or m.facet not in FACETS or m.part not in PARTS] == []


def test_there_are_thirty_mutants_of_all_parts_on_fifteen_ops_and_at_most_three_on_one() -> None:
    per_op = Counter(m.op for m in MUTANTS.values())
    assert len(MUTANTS) >= 30 and len(per_op) >= 15 and max(per_op.values()) <= 3 and {m.part for m in MUTANTS.values()} == set(PARTS)


def test_the_quick_mutants_are_one_of_each_part() -> None:
    assert sorted(MUTANTS[name].part for name in QUICK) == sorted(PARTS)


@pytest.mark.parametrize("name", QUICK)
def test_a_planted_defect_is_told_by_its_op_and_facet(name: str) -> None:
    found = caught(name, SEEDS[0], seconds=math.inf, programs=QUICK[name], jobs=1).caught
    assert found is not None and len(found.program) <= 6


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
@pytest.mark.parametrize("seed", SEEDS)
def test_every_planted_defect_is_caught_in_time_under_every_seed(name: str, seed: int, matrix: dict[tuple[str, int], Outcome]) -> None:
    caught(name, seed, matrix)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_new_is_found_in_the_same_time_where_nothing_is_planted(seed: int) -> None:
    outcome = search(f"{unplanted.__module__}:{unplanted.__name__}", None, seed)
    assert not outcome.failures, outcome.failures[0]
    assert outcome.others == {} and outcome.programs > 0, outcome.unwanted()
