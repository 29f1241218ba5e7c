"""What the benchmarks share: timing in turn, the mix's programs, small tables that begin with the command that prints them."""

from __future__ import annotations

import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from conformance.program import Program

MIX = Path(__file__).with_name("mix.json")

Run = Callable[[], Any]


def mix() -> list[Program]:
    """The programs of mix.json."""
    return [Program.from_json(data) for data in json.loads(MIX.read_text(encoding="utf-8"))]


def seconds(run: Run, times: int) -> float:
    """Seconds that one call takes, over ``times`` calls."""
    started = time.perf_counter()
    for _ in range(times):
        run()
    return (time.perf_counter() - started) / times


def in_turn(first: Run, second: Run, times: int, repeats: int) -> tuple[float, float, float]:
    """Medians over ``repeats`` of seconds per call of each, and of their ratio.

    They run in turn, so that what slows the machine slows both.
    """
    pairs = [(seconds(first, times), seconds(second, times)) for _ in range(repeats)]
    return (
        statistics.median(a for a, _ in pairs),
        statistics.median(b for _, b in pairs),
        statistics.median(a / b for a, b in pairs),
    )


def heading() -> None:
    """The command, and what it ran on."""
    import torch

    print(f"$ python {' '.join([_relative(sys.argv[0]), *sys.argv[1:]])}")
    print(
        f"  torch {torch.__version__}, {torch.get_num_threads()} thread, {torch.backends.cpu.get_cpu_capability()}; "
        f"Python {platform.python_version()}"
    )


def _relative(script: str) -> str:
    path = Path(script).resolve()
    return f"{path.parent.name}/{path.name}"


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table in aligned columns: the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    print(f"\n{title}")
    for row in [head, *rows]:
        print(
            "  "
            + "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))).rstrip()
        )
