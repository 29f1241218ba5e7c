"""``summary.md`` for a CI step, under the size such steps take, and annotations where ``GITHUB_ACTIONS`` is set."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from conformance import codegen
from conformance.report.cards import Card, cards, where
from conformance.report.core import RunSummary
from conformance.report.text import count, markdown, shortened, visible
from conformance.report.wording import duration

#: a step's summary may have 1 MiB; the rest is for what stands around the causes
LIMIT: Final = 900_000
#: how many annotations of one level a step shows
MOST_ANNOTATIONS: Final = 10


def render(summary: RunSummary, path: codegen.Path = codegen.own_name, folder: str = "reports", limit: int = LIMIT) -> str:
    """The summary. Causes that would take it over ``limit`` bytes are left out, and it says how many."""
    parts = ["\n".join(_head(summary))]
    size = len(parts[0].encode())
    shown = 0
    every = cards(summary, path, folder)
    for card in every:
        part = "\n".join(_card(card))
        size += len(part.encode())
        if size > limit:
            break
        parts.append(part)
        shown += 1
    if shown < len(every):
        parts.append(f"{count(len(every) - shown, 'more cause')} left out here; index.html has all.\n")
    return "\n".join([*parts, *_tail(summary)])


def _head(summary: RunSummary) -> Iterator[str]:
    start, totals = summary.start, summary.totals
    yield f"# {markdown(summary.sentence)}\n"
    yield "| subject | new | known | passed | inconclusive elements | not run |"
    yield "|---|---:|---:|---:|---:|---:|"
    for row in summary.subjects:
        numbers = (row.new, row.known, row.passed, row.inconclusive, row.not_run)
        name = f"{row.name} ({row.device} {row.version}{f', {row.note}' if row.note else ''})"
        yield f"| {markdown(name)} | {' | '.join(map(count, numbers))} |"
    yield ""
    compared = [f"torch {start['torch']} ({start['capability']})", f"seed {start['seed']}", f"commit {start['commit'] or 'unknown'}"]
    yield f"- Compared: {markdown(', '.join(compared))}, {duration(totals.elapsed)}"
    yield f"- Changed: {_changed(summary)}"
    untested = f"{count(len(summary.tables.never_drawn), 'op')} never drawn, {count(totals.programs - totals.judged, 'program')} skipped"
    inconclusive = f"{totals.inconclusive_elements:,} of {count(totals.judged_elements, 'element')} inconclusive"
    yield f"- Not tested: {untested}, {inconclusive}\n"


def _changed(summary: RunSummary) -> str:
    if summary.changes is None:
        return "no baseline"
    return f"{len(summary.changes.new):,} new, {len(summary.changes.fixed):,} no longer seen, {len(summary.changes.still):,} still there"


def _card(card: Card) -> Iterator[str]:
    cause = card.cause
    yield f"## {cause.status}: {markdown(cause.title)}\n"
    yield f"{markdown(cause.id)} · {count(cause.programs, 'program')} · first seen {markdown(cause.first_seen)}\n"
    for name, value in card.lead:
        yield f"- {name}: {markdown(value)}"
    if card.lead:
        yield ""
    if cause.status == "known" or cause.divergence is None:
        return
    yield f"{markdown(where(cause.divergence))}{f'; {markdown(cause.blame)}' if cause.blame else ''}\n"
    yield from _fenced("python", [line.text + ("  # <- first wrong" if line.begins_wrong else "") for line in card.lines])
    if card.elements:
        yield "| index | exact | observed | ulp | allowed |"
        yield "|---|---:|---:|---:|---|"
        for row in card.elements:
            yield f"| {markdown(row.index)} | {markdown(row.exact)} | {markdown(row.got)} | {row.ulps} | {markdown(row.allowed)} |"
        yield f"\n{count(card.hidden, 'more element')} not shown\n" if card.hidden else ""
    yield from _fenced("sh", list(card.commands))


def _fenced(language: str, lines: list[str]) -> Iterator[str]:
    """A code block whose fence is longer than any run of backticks in it."""
    longest = max((len(run) for line in lines for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    yield f"{fence}{language}"
    yield from (visible(line) for line in lines)
    yield f"{fence}\n"


def _tail(summary: RunSummary) -> Iterator[str]:
    tables = summary.tables
    if tables.never_drawn:
        every = len(tables.drawn) + len(tables.never_drawn)
        yield f"Never drawn: {markdown(shortened(list(tables.never_drawn), 40))} ({len(tables.drawn)} of {count(every, 'op')} drawn)\n"
    counting = f"{len(tables.counting)} of {count(len(tables.ops), 'op')}"
    yield f"Judged in at least two float dtypes and two layouts, values and gradients: {counting}.\n"


# --- annotations -----------------------------------------------------------------------------------------------------------


def workflow_commands(summary: RunSummary) -> list[str]:
    """Workflow commands for a runner's log: an error for each failing cause, a warning for each stale entry, a few at most."""
    failing = [_annotated(card) for card in cards(summary) if card.cause in summary.failing]
    stale = [("warning", f"stale {cause.id}", cause.title) for cause in summary.with_status("stale") if cause not in summary.failing]
    verdict = [] if summary.verdict in ("green", "red") else [("error", "conformance", summary.sentence)]
    return [*map(_command, [*verdict, *_few(failing)]), *map(_command, _few(stale))]


def _annotated(card: Card) -> tuple[str, str, str]:
    cause = card.cause
    return "error", f"{cause.status} {cause.id}", f"{cause.title} ({count(cause.programs, 'program')}); {''.join(card.commands[:1])}"


def _few(found: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    if len(found) <= MOST_ANNOTATIONS:
        return found
    left = len(found) - MOST_ANNOTATIONS + 1
    return [*found[: MOST_ANNOTATIONS - 1], (found[0][0], "conformance", f"{count(left, 'more cause')}; see the report")]


def _command(annotation: tuple[str, str, str]) -> str:
    level, title, message = annotation
    return f"::{level} title={_escaped(title).replace(':', '%3A').replace(',', '%2C')}::{_escaped(message)}"


def _escaped(text: str) -> str:
    return visible(text).replace("%", "%25")
