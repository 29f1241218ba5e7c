"""Resident memory of a whole run, the parent and its workers, while it judges programs and writes its events; Linux only (it reads /proc).

Growth is what the parent and the workers hold at the end beyond what they held after a fifth of the programs: caches are filled by then, so
what grows after it grows without end.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import figures

from conformance.known_failures import SHIPPED, load
from conformance.run import Settings, execute

PROC = Path("/proc")


class Watch:
    """Takes a run's events as a terminal would, and notes memory after every batch: ``seen`` holds (programs, parent MB, workers' MB
    together).
    """

    def __init__(self) -> None:
        self.programs = 0
        self.seen: list[tuple[int, float, float]] = []
        self.peaks: dict[int, float] = defaultdict(float)  # process id -> MB

    def feed(self, event: Mapping[str, Any]) -> None:
        if event["type"] != "batch":
            return
        self.programs += event["programs"]
        held = {pid: resident(pid) for pid in [os.getpid(), *children(os.getpid())]}
        for pid, megabytes in held.items():
            self.peaks[pid] = max(self.peaks[pid], megabytes)
        mine = held.pop(os.getpid())
        self.seen.append((self.programs, mine, sum(held.values())))

    def around(self, programs: int) -> tuple[float, float]:
        """Parent's and workers' MB when ``programs`` had been judged, the median of the three samples around it."""
        place = next((i for i, row in enumerate(self.seen) if row[0] >= programs), len(self.seen) - 1)
        near = self.seen[max(place - 2, 0) : place + 1]
        return sorted(row[1] for row in near)[len(near) // 2], sorted(row[2] for row in near)[len(near) // 2]


def resident(pid: int) -> float:
    """MB of resident memory; 0 for a process that has just ended."""
    try:
        pages = int((PROC / str(pid) / "statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def children(parent: int) -> list[int]:
    """The processes that ``parent`` started and that still run."""
    found = []
    for stat in PROC.glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent:
            found.append(int(stat.parent.name))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=int, default=100_000, help="how many programs to judge")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="worker processes")
    options = parser.parse_args()
    if not (PROC / "self" / "statm").exists():
        print("bench_memory.py reads /proc, which this system does not have: run it on Linux", file=sys.stderr)
        sys.exit(2)
    watch = Watch()
    with tempfile.TemporaryDirectory() as folder:
        execute(Settings(programs=options.programs, jobs=options.jobs, out=Path(folder)), load([SHIPPED]), watch.feed)
    figures.heading()
    _print(watch, options.programs)


def _print(watch: Watch, programs: int) -> None:
    mine = watch.peaks.pop(os.getpid())
    together = max(row[1] + row[2] for row in watch.seen)
    rows = [["parent", f"{mine:.0f}"], ["largest worker", f"{max(watch.peaks.values()):.0f}"], ["together", f"{together:.0f}"]]
    counted = f"{len(watch.peaks)} workers, those that a program killed included"
    figures.table(f"peak of resident memory while {watch.programs} programs were judged ({counted})", ["", "MB"], rows)
    early, late = watch.around(programs // 5), watch.around(programs)
    grown = [[who, f"{a:.0f}", f"{b:.0f}", f"{b - a:+.0f}"] for who, a, b in zip(("parent", "workers"), early, late, strict=True)]
    figures.table("growth", ["", f"MB at {programs // 5}", f"MB at {programs}", "grown"], grown)


if __name__ == "__main__":
    main()
