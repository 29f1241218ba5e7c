"""The loop: run the passes until none finds anything, or the budget is spent.

A pass is a generator: it yields a candidate and is sent the program to go on from, which is that very candidate where it was taken.

Exceptions: ``NotInteresting`` (a ValueError) for a program that does not show what it is to be minimized for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from conformance.minimize.passes import PASSES
from conformance.minimize.simplicity import simplicity
from conformance.minimize.steps import Pass
from conformance.program import Program

BUDGET: Final = 400

Predicate = Callable[[Program], bool]


class NotInteresting(ValueError):
    """The program to minimize is ill-formed, or ``is_interesting`` denies it: it may be flaky, so run it again first."""


class _BudgetSpent(Exception):
    """Ends the search; the best program so far is the answer."""


def minimize(program: Program, is_interesting: Predicate, *, budget: int = BUDGET, passes: Sequence[Pass] = PASSES) -> Program:
    """The simplest program found for which ``is_interesting`` still holds; never larger by ``sort_key``, always well-formed.

    ``budget`` counts calls of ``is_interesting``, the first one on ``program`` itself included. Within it the answer is a fixed point: no
    pass has a simpler candidate left. The same input gives the same answer. Raises NotInteresting.
    """
    search = _Search(program, is_interesting, budget)
    with suppress(_BudgetSpent):
        search.run_to_fixed_point(passes)
    return search.best


class _Search:
    """``best`` is interesting and well-formed at all times, and every new best is simpler than the last."""

    def __init__(self, program: Program, is_interesting: Predicate, budget: int) -> None:
        if problems := program.problems():
            raise NotInteresting(f"an ill-formed program cannot be minimized: {problems[0]}")
        if not is_interesting(program):
            raise NotInteresting("the program to minimize is not interesting itself: run it again to see whether it is flaky")
        self.best = program
        self._simplicity = simplicity(program)
        self._is_interesting = is_interesting
        self._left = budget - 1
        self._refused: set[str] = set()

    def run_to_fixed_point(self, passes: Sequence[Pass]) -> None:
        settled: dict[Pass, Program] = {}  # the program for which the pass has nothing left
        while any(settled.get(each) is not self.best for each in passes):
            for each in passes:
                if settled.get(each) is not self.best and not self._run(each):
                    settled[each] = self.best

    def _run(self, each: Pass) -> bool:
        """Whether the pass found anything."""
        before = self.best
        steps = each(before)
        candidate = next(steps, None)
        while candidate is not None:
            self._offer(candidate)
            try:
                candidate = steps.send(self.best)
            except StopIteration:
                candidate = None
        return self.best is not before

    def _offer(self, candidate: Program) -> None:
        if not candidate.statements or candidate.problems():  # without statements there is nothing to see
            return
        found = simplicity(candidate)
        if found < self._simplicity and self._ask(candidate):
            self.best, self._simplicity = candidate, found

    def _ask(self, candidate: Program) -> bool:
        # By text, since == takes 1 for True and one NaN for different from the next.
        text = f"{candidate.hooked} {candidate.statements!r}"
        if text in self._refused:
            return False
        if self._left <= 0:
            raise _BudgetSpent
        self._left -= 1
        if self._is_interesting(candidate):
            return True
        self._refused.add(text)
        return False
