"""From what was found to the gate's answer: the verdict, its exit code, and what ``--fail-on`` makes of a status."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

#: worst first; also the order of causes in every report
STATUSES: Final = ("new", "expired", "flaky", "stale", "known")
DEFAULT_FAIL_ON: Final = ("new", "expired")

EXIT_CODES: Final = {"green": 0, "red": 1, "usage": 2, "broken": 3, "nothing_judged": 4, "interrupted": 130}
#: where several apply, the first of these is the answer
PRECEDENCE: Final = ("usage", "broken", "interrupted", "red", "nothing_judged", "green")


class FailOnError(ValueError):
    """``--fail-on`` names something that is no status. The message is one line."""


def parse_fail_on(text: str) -> tuple[str, ...]:
    """``new,expired`` as statuses; the empty text lets every run pass. Raises FailOnError."""
    words = tuple(word.strip() for word in text.split(",") if word.strip())
    for word in words:
        if word not in STATUSES:
            raise FailOnError(f"--fail-on {word}: no such status; use any of {', '.join(STATUSES)}")
    return words


def strongest(verdicts: Iterable[str]) -> str:
    """The one of several verdicts that the run answers with."""
    return min({*verdicts, "green"}, key=PRECEDENCE.index)


def verdict(statuses: Iterable[str], judged: int, *, interrupted: bool, broken: bool, fail_on: Iterable[str] = DEFAULT_FAIL_ON) -> str:
    """One of ``green``, ``red``, ``nothing_judged``, ``interrupted``, ``broken``."""
    applying = {"broken": broken, "interrupted": interrupted, "red": not set(fail_on).isdisjoint(statuses), "nothing_judged": judged == 0}
    return strongest(name for name, applies in applying.items() if applies)
