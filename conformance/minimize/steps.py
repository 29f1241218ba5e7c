"""What a pass is: a generator that yields candidates and is sent the program to go on from."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable

from conformance.program import Program

Steps = Generator[Program, Program, None]
Pass = Callable[[Program], Steps]


def first_taken(program: Program, candidates: Iterable[Program]) -> Generator[Program, Program, Program]:
    """Offers candidates until one is taken; returns the program to go on from."""
    for candidate in candidates:
        current = yield candidate
        if current is not program:
            return current
    return program
