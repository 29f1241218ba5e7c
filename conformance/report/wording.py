"""The sentences that terminal, page, summary and JUnit share word for word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from conformance.report.text import count, joined
from conformance.report.verdict import STATUSES


def sentence(verdict: str, statuses: Sequence[str], fail_on: Sequence[str], judged: int, programs: int, hit: int, reason: str) -> str:
    """The verdict and why: ``Red: 1 new cause in 17 of 9,919 programs.``

    ``statuses`` are those of all causes, ``hit`` how many programs hold a failing one, ``programs`` how many were drawn.
    """
    failing = [status for status in statuses if status in fail_on]
    found = f"{causes(failing)} in {count(hit)} of {count(judged, 'program')}" if failing else _nothing_failing(statuses, judged)
    if verdict == "broken":
        return f"Broken: {reason or 'the harness failed'}. Until then: {found}."
    if verdict == "interrupted":
        return f"Interrupted{f': {reason}' if reason else ''}. Until then: {found}."
    if verdict == "nothing_judged":
        return f"Nothing was judged: none of {count(programs, 'program')} reached a verdict."
    return f"{verdict.capitalize()}: {found}."


def causes(statuses: Sequence[str]) -> str:
    """``1 new cause``, ``2 new and 1 expired cause``, ``no new cause``."""
    numbers = Counter(statuses)
    words = [f"{count(numbers[status])} {status}" for status in STATUSES if numbers[status]]
    if not words:
        return "no new cause"
    return f"{joined(words)} {'cause' if words[-1].startswith('1 ') else 'causes'}"


def _nothing_failing(statuses: Sequence[str], judged: int) -> str:
    new = [status for status in statuses if status in ("new", "expired")]
    passed = f"{causes(new)} in {count(judged, 'program')}{', none of which fails this gate' if new else ''}"
    others = [status for status in statuses if status not in ("new", "expired")]
    return f"{passed}; {causes(others)}" if others else passed


def planned(start_planned: dict[str, float]) -> str:
    """``20,000 programs``, ``60 s``."""
    return joined([f"{count(n)} s" if unit == "seconds" else f"{count(n)} {unit}" for unit, n in start_planned.items()], "or")


def duration(seconds: float) -> str:
    """``0.4 s``, ``58 s``, ``12 min 3 s``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
