"""How fast programs are judged on one core, and what judging costs beside running torch and observing it.

A *judged* program is all that a run does with it once it is drawn: it runs on torch and is observed after each statement, runs on the
reference, which takes over torch's values, and the oracle judges every statement. *Observed* is the first of these alone: the same walk
with its hooks. *Bare* is the same walk without hooks, observed at the end only.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import figures

from conformance.batch import run_and_judge
from conformance.generate.programs import from_seed
from conformance.program import Program
from conformance.subjects import subject
from conformance.subjects.walk import walk

BLOCK = 50  # programs run one way before they are run the other way


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="how often the whole mix is run")
    repeats = parser.parse_args().repeats
    warnings.simplefilter("ignore")
    engine = subject("torch")
    programs = figures.mix()
    bare = [_bare(p) for p in programs]
    ways: dict[str, tuple[list[Program], Callable[[Program], Any]]] = {
        "judged": (programs, lambda p: run_and_judge(p, engine)),
        "observed": (programs, lambda p: walk(p, engine)),
        "bare": (bare, lambda p: walk(p, engine)),
    }
    for chosen, run in ways.values():  # once before the clock starts: tables fill, kernels load
        for p in chosen[:200]:
            run(p)
    blocks = [_times(ways, start) for _ in range(repeats) for start in range(0, len(programs), BLOCK)]
    figures.heading()
    _print(programs, blocks)


def _bare(program: Program) -> Program:
    last = len(program) - 1
    return replace(program, statements=tuple(replace(s, observe=i == last) for i, s in enumerate(program)), hooked=False)


def _times(ways: dict[str, tuple[list[Program], Callable[[Program], Any]]], start: int) -> dict[str, float]:
    """Seconds per program of one block, each way in turn, and of drawing as many."""
    found = {}
    for name, (programs, run) in ways.items():
        block = programs[start : start + BLOCK]
        started = time.perf_counter()
        for p in block:
            run(p)
        found[name] = (time.perf_counter() - started) / len(block)
    started = time.perf_counter()
    for seed in range(start, start + BLOCK):
        from_seed(seed)
    found["drawn"] = (time.perf_counter() - started) / BLOCK
    return found


def _print(programs: list[Program], blocks: list[dict[str, float]]) -> None:
    mean = {name: statistics.fmean(b[name] for b in blocks) for name in blocks[0]}
    lengths = statistics.median(len(p) for p in programs)
    rows = [[name, f"{mean[name] * 1e3:.2f}", f"{1 / mean[name]:.0f}"] for name in ("judged", "observed", "bare", "drawn")]
    figures.table(
        f"{len(programs)} programs of benchmarks/mix.json (median {lengths:.0f} statements), one core",
        ["", "ms/program", "programs/s"],
        rows,
    )
    ratios = [[f"judged / {other}", f"{statistics.median(b['judged'] / b[other] for b in blocks):.2f}"] for other in ("observed", "bare")]
    figures.table("ratios, medians over blocks run in turn", ["", "ratio"], ratios)


if __name__ == "__main__":
    main()
