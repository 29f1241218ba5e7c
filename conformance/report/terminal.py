"""What a run says on the terminal: a header, where it stands, and at the end the causes and the gate's answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import rich.console
import rich.status
from rich.text import Text

from conformance.events import Event
from conformance.report.cards import where
from conformance.report.core import Cause, RunSummary
from conformance.report.text import count, shortened, visible
from conformance.report.wording import causes, planned

#: seconds between two lines where there is no terminal
EVERY: Final = 10.0
_STYLES: Final = {"new": "bold red", "expired": "bold red", "flaky": "bold yellow", "stale": "bold yellow", "known": "blue"}


class Terminal:
    """Fed with a run's events as they arise. On a terminal one line is kept up to date, elsewhere a plain line comes every ten seconds.

    ``with Terminal(console) as terminal: terminal.feed(event)``; afterwards ``terminal.finish(summary, "reports/index.html")``.
    """

    def __init__(self, console: rich.console.Console | None = None) -> None:
        self.console = console or rich.console.Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
        self._status: rich.status.Status | None = None
        self._programs = 0
        self._ids: dict[str, set[str]] = {"new": set(), "known": set()}
        self._said = 0.0

    def __enter__(self) -> Terminal:
        if self.console.is_terminal:
            self._status = self.console.status(Text("starting"))
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status:
            self._status.stop()
            self._status = None

    def feed(self, event: Event) -> None:
        if event["type"] == "start":
            self.say(header(event))
        elif event["type"] == "divergence" and event.get("status"):
            self._ids["known" if event["status"] == "known" else "new"].add(event["id"])
        elif event["type"] == "batch":
            self._programs += event["programs"]
            self._progress(float(event["elapsed"]))

    def _progress(self, elapsed: float) -> None:
        line = f"{elapsed:4.0f} s   {count(self._programs)} programs   {len(self._ids['new'])} new   {len(self._ids['known'])} known"
        if self._status:
            self._status.update(Text(line))
        elif elapsed - self._said >= EVERY:
            self._said = elapsed
            self.say(line)

    def finish(self, summary: RunSummary, report: str) -> None:
        """The last lines. ``report`` is where the page was written."""
        self.__exit__()
        for style, line in closing(summary, report):
            self.say(line, style)

    def say(self, line: str, style: str = "") -> None:
        """One line; the style is that of its first word."""
        text = Text(visible(line))
        if style:
            text.stylize(style, 0, len(line.split(" ", 1)[0]))
        self.console.print(text, soft_wrap=True)


def header(start: Event) -> str:
    """``torch 2.13.0 · cpu, compile (cuda: no device found) · seed 20261124 · 60 s``."""
    subjects = ", ".join(f"{s['name']} on {s['device']}{f' ({note})' if (note := s['note']) else ''}" for s in start["subjects"])
    return f"torch {start['torch']} · {subjects or 'no subject'} · seed {start['seed']} · {planned(start['planned'])}"


def closing(summary: RunSummary, report: str) -> Iterator[tuple[str, str]]:
    """The last lines, each with the style of its first word."""
    for cause in summary.causes:
        if cause.status not in ("known", "stale"):
            yield from _cause(cause)
    yield from _known(summary)
    for cause in summary.with_status("stale"):
        yield _STYLES["stale"], f"STALE {cause.entry_id} no longer diverges; remove it with: python -m conformance known prune"
    tables = summary.tables
    if tables.never_drawn:
        every = len(tables.drawn) + len(tables.never_drawn)
        yield "", f"never drawn: {shortened(list(tables.never_drawn), 12)} ({len(tables.drawn)} of {every} ops drawn)"
    yield "bold", summary.sentence
    yield "", f"gate: {summary.verdict.replace('_', ' ')}, {causes([cause.status for cause in summary.failing])} · report: {report}"
    yield "", _tally(summary)


def _cause(cause: Cause) -> Iterator[tuple[str, str]]:
    place = f"; {where(cause.divergence)}" if cause.divergence and cause.divergence.evidence.elements else ""
    yield _STYLES[cause.status], f"{cause.status.upper():<5} {cause.id}  {cause.title}{place}  ({count(cause.programs, 'program')})"
    if cause.entry and cause.entry.expires:
        yield "", f"      entry {cause.entry.id} expired on {cause.entry.expires}: {cause.entry.reason}"
    yield "", f"      replay: python -m conformance replay {cause.id}"


def _known(summary: RunSummary) -> Iterator[tuple[str, str]]:
    lines = [line for line in summary.known if line.status == "known"]
    if lines:
        files: Sequence[str] = sorted({line.entry.file.name for line in lines if line.entry}) or ["files no longer read"]
        programs = count(sum(row.known for row in summary.subjects), "program")
        yield _STYLES["known"], f"KNOWN {programs} under {count(len(lines), 'entry')} of {', '.join(files)}"


def _tally(summary: RunSummary) -> str:
    """``conformance: 9871 passed, 17 failed, 31 skipped``: known ones are skipped, as in JUnit."""
    passed, failed, known = (sum(getattr(row, name) for row in summary.subjects) for name in ("passed", "new", "known"))
    return f"conformance: {passed} passed, {failed} failed, {known} skipped"
