"""Writes mix.json, the programs that the benchmarks run: the default mix's programs of the seeds 0, 1, 2 … in order, one program a line.

Programs whose text is longer than LONGEST are left out (about one in eighty: they hold a tensor of thousands of elements), so that the file
stays small enough for a repository. The file is kept, so that figures of different commits are of the same programs; it is written anew
only where a change of the program format or of the table makes it unreadable:

    python benchmarks/make_mix.py
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

from conformance.generate.programs import from_seed

PROGRAMS = 1_000
LONGEST = 6_000
MIX = Path(__file__).with_name("mix.json")


def texts() -> Iterator[str]:
    """The programs as compact JSON."""
    for seed in count():
        text = json.dumps(from_seed(seed).to_json(), separators=(",", ":"))
        if len(text) <= LONGEST:
            yield text


def main() -> None:
    lines = ",\n".join(islice(texts(), PROGRAMS))
    MIX.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    print(f"{MIX}: {PROGRAMS} programs, {MIX.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
