"""A cause as a reader meets it: what the page, the Markdown summary and a terminal show of it, computed once."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from conformance import codegen
from conformance.divergence import Divergence, Element
from conformance.known_failures import Entry, snippet
from conformance.program import Program, ProgramError
from conformance.report.core import Cause, RunSummary
from conformance.report.text import ulps

_BARS: Final = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class Line:
    """One printed line. ``mark`` is "wrong" on the first wrong statement, "right" before it, "unjudged" after it."""

    number: int | None  # of its statement; only on a statement's first line
    text: str
    mark: str

    @property
    def begins_wrong(self) -> bool:
        return self.mark == "wrong" and self.number is not None


@dataclass(frozen=True, slots=True)
class ElementRow:
    """One differing element. ``level`` says how far over the allowance it is: 1 beyond, 2 tenfold, 3 a hundredfold or infinitely."""

    index: str
    exact: str
    allowed: str
    got: str
    ulps: str
    level: int


@dataclass(frozen=True, slots=True)
class Card:
    cause: Cause
    anchor: str
    lead: tuple[tuple[str, str], ...]  # of a known entry: reason, reviewer, upstream, expiry, file
    facts: tuple[tuple[str, str], ...]
    lines: tuple[Line, ...]
    original: tuple[Line, ...]
    elements: tuple[ElementRow, ...]
    hidden: int
    commands: tuple[str, ...]
    snippet: str
    sparkline: str


def cards(summary: RunSummary, path: codegen.Path = codegen.own_name, folder: str = "reports") -> tuple[Card, ...]:
    """One card per cause, in the summary's order. ``path`` gives an op's attribute path, ``folder`` is where commands find the run."""
    return tuple(_card(summary, cause, path, folder) for cause in summary.causes)


def _card(summary: RunSummary, cause: Cause, path: codegen.Path, folder: str) -> Card:
    divergence = cause.divergence
    return Card(
        cause=cause,
        anchor=f"d-{cause.id}",
        lead=tuple(_lead(cause.entry)),
        facts=tuple(_facts(cause)),
        lines=program_lines(divergence.program, divergence.statement, path) if divergence else (),
        original=program_lines(divergence.original, None, path) if divergence and divergence.original else (),
        elements=tuple(_row(element, divergence.evidence.allowed_ulps) for element in divergence.evidence.elements) if divergence else (),
        hidden=divergence.evidence.hidden if divergence else 0,
        commands=tuple(_commands(cause, folder)),
        snippet=snippet(divergence, summary.start["torch"]) if divergence and cause.status != "known" else "",
        sparkline=sparkline(cause.history),
    )


def _lead(entry: Entry | None) -> Iterator[tuple[str, str]]:
    if entry is None:
        return
    given = {
        "reason": entry.reason,
        "reviewer": entry.reviewer,
        "upstream": entry.upstream,
        "expires": entry.expires.isoformat() if entry.expires else "",
        "torch": entry.torch,
        "when": ", ".join(f"{name} {predicate}" for name, predicate in entry.when),
        "entry": f"{entry.id} in {entry.file.name}",
    }
    yield from ((name, value) for name, value in given.items() if value)


def _facts(cause: Cause) -> Iterator[tuple[str, str]]:
    divergence = cause.divergence
    yield "key", ", ".join(f"{name} {value}" for name, value in cause.key.to_json().items() if value)
    if divergence:
        evidence = divergence.evidence
        yield "where", f"{divergence.tensor or 'no tensor'} after statement {divergence.statement}{_shape(evidence.shape)}"
        if evidence.elements:
            yield "allowed", f"{ulps(evidence.allowed_ulps)} ulp"
        if evidence.reason:
            yield "why", evidence.reason
        yield from divergence.attributes.items()
    if cause.blame:
        yield "blame", cause.blame
    if cause.order:
        yield "derivative", f"of order {cause.order}"
    yield "first seen", cause.first_seen
    if cause.seeds:
        yield "seeds", ", ".join(map(str, cause.seeds))
    if cause.covered:
        yield "also", f"{cause.covered:,} more programs under this key are covered by a known entry"


def _shape(shape: tuple[int, ...]) -> str:
    return f", shape ({', '.join(map(str, shape))})" if shape else ""


def program_lines(program: Program, wrong: int | None, path: codegen.Path = codegen.own_name) -> tuple[Line, ...]:
    """The program as Python, with the statement at ``wrong`` marked. A program that has no spelling is shown as its JSON."""
    try:
        printed = codegen.lines(program, path=path)
    except ProgramError:
        printed = [(place, json.dumps(statement)) for place, statement in enumerate(program.to_json()["statements"])]
    found: list[Line] = []
    previous = None
    for place, text in printed:
        mark = "" if wrong is None else "wrong" if place == wrong else "right" if place < wrong else "unjudged"
        found.append(Line(place if place != previous else None, text, mark))
        previous = place
    return tuple(found)


def _row(element: Element, allowed: float) -> ElementRow:
    index = f"[{', '.join(map(str, element.index))}]" if element.index else "(0-d)"
    interval = element.low if element.low == element.high else f"{element.low} … {element.high}"
    return ElementRow(index, element.exact, interval, element.got, ulps(element.ulps), _level(element.ulps, allowed))


def _level(error: float, allowed: float) -> int:
    if not math.isfinite(error):
        return 3
    ratio = error / max(allowed, 0.5)
    return 3 if ratio >= 100 else 2 if ratio >= 10 else 1


def _commands(cause: Cause, folder: str) -> Iterator[str]:
    if cause.reproducer:
        yield f"python {folder}/{cause.reproducer}"
    if cause.divergence:
        yield f"python -m conformance replay {cause.id}"
        yield f"python -m conformance show {cause.id} --issue"
    if cause.status == "stale":
        yield "python -m conformance known prune"


def sparkline(history: tuple[int, ...]) -> str:
    """One bar a run, the last one this run; empty where there is no other run to compare with."""
    if len(history) < 2:
        return ""
    top = max(*history, 1)
    return "".join(_BARS[0] if n == 0 else _BARS[max(1, round(n / top * (len(_BARS) - 1)))] for n in history)


def where(divergence: Divergence) -> str:
    """The worst element as a phrase: ``t1.grad[3] is 0.5, right is 0.25``."""
    if not divergence.evidence.elements:
        return f"{divergence.tensor}: {divergence.evidence.got}, right is {divergence.evidence.expected}"
    worst = divergence.evidence.elements[0]
    index = f"[{', '.join(map(str, worst.index))}]" if worst.index else ""
    return f"{divergence.tensor}{index} is {worst.got}, right is {worst.exact}"
