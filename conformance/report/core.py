"""What a run shows, as data: ``summarize(events)`` is a ``RunSummary``, which every report draws and the gate reads."""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from conformance.divergence import Divergence, Key
from conformance.events import FULL_PROGRAMS, Event, RunError
from conformance.known_failures import Entry, KnownFailures
from conformance.report import tables
from conformance.report.verdict import DEFAULT_FAIL_ON, EXIT_CODES, STATUSES, verdict
from conformance.report.wording import sentence

#: statement kinds whose ``op`` is a name of the table
_OP_KINDS: Final = frozenset({"call", "method", "operator", "inplace", "augmented"})


@dataclass(frozen=True, slots=True)
class Cause:
    """One key, and everything seen under it. ``programs`` diverged under ``status``; ``covered`` more are covered by a known entry."""

    id: str
    key: Key
    title: str
    status: str  # new, expired, flaky, stale, known
    order: int
    blame: str
    programs: int
    covered: int
    first_seen: str  # ISO 8601; the first run that is kept, and when in it
    elapsed: float  # seconds into this run
    reproducer: str  # a path under the output folder, or ""
    ops: tuple[str, ...]
    entry: Entry | None = None
    entry_id: str = ""
    divergence: Divergence | None = None
    seeds: tuple[int, ...] = ()
    history: tuple[int, ...] = ()  # programs in earlier runs that are kept, the oldest first, and in this one


@dataclass(frozen=True, slots=True)
class SubjectRow:
    """One line of the first table, in programs; ``inconclusive`` in elements."""

    name: str
    device: str
    version: str
    note: str
    new: int
    known: int
    passed: int
    inconclusive: int
    not_run: int


@dataclass(frozen=True, slots=True)
class Totals:
    programs: int
    judged: int
    judged_elements: int
    inconclusive_elements: int
    skipped: Mapping[str, int]
    not_compared: Mapping[str, int]
    planned: int  # programs; 0 where the run was given a time
    elapsed: float


@dataclass(frozen=True, slots=True)
class KnownLine:
    """What became of a known entry in this run."""

    entry_id: str
    status: str
    programs: int
    entry: Entry | None


@dataclass(frozen=True, slots=True)
class Changes:
    """Ids of causes against another run: what is new, what is no longer seen, what is still there."""

    new: tuple[str, ...]
    fixed: tuple[str, ...]
    still: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PastCause:
    programs: int
    first_seen: str


@dataclass(frozen=True, slots=True)
class RunSummary:
    """Everything the reports draw. ``reason`` says why a run broke or ended early; ``partial`` that it did not do all it was to do."""

    start: Mapping[str, Any]
    verdict: str
    exit: int
    sentence: str
    partial: bool
    reason: str
    fail_on: tuple[str, ...]
    totals: Totals
    subjects: tuple[SubjectRow, ...]
    causes: tuple[Cause, ...]
    known: tuple[KnownLine, ...]
    tables: tables.Tables
    changes: Changes | None = None

    @property
    def failing(self) -> tuple[Cause, ...]:
        return tuple(cause for cause in self.causes if cause.status in self.fail_on)

    def with_status(self, *statuses: str) -> tuple[Cause, ...]:
        return tuple(cause for cause in self.causes if cause.status in statuses)


def summarize(events: Sequence[Event], known: KnownFailures | None = None, *, past: Sequence[Mapping[str, PastCause]] = (),
              baseline: Iterable[Cause] | None = None) -> RunSummary:  # fmt: skip
    """The summary of a run's events. ``past`` are the causes of earlier runs by id, the oldest first. Raises RunError without a start."""
    known = known or KnownFailures()
    start = _start(events)
    end = _end(events)
    batches = [event for event in events if event["type"] == "batch"]
    diverging = _Diverging.of(events, known)
    totals = _totals(start, batches, end["elapsed"])
    causes = _causes(start, events, diverging, known, past)
    fail_on = tuple(start.get("fail_on", DEFAULT_FAIL_ON))
    statuses = [cause.status for cause in causes]
    answer = verdict(statuses, totals.judged, interrupted=end["interrupted"], broken=end["broken"], fail_on=fail_on)
    return RunSummary(
        start=start,
        verdict=answer,
        exit=EXIT_CODES[answer],
        sentence=sentence(answer, statuses, fail_on, totals.judged, totals.programs, diverging.hit(fail_on), end["reason"]),
        partial=end["interrupted"] or end["broken"] or totals.programs < totals.planned,
        reason=end["reason"],
        fail_on=fail_on,
        totals=totals,
        subjects=tuple(_subject_rows(start, batches, diverging, totals)),
        causes=causes,
        known=tuple(_known_lines(events, diverging, known)),
        tables=tables.tabulate(start, batches),
        changes=None if baseline is None else changes(baseline, causes),
    )


def changes(before: Iterable[Cause], now: Iterable[Cause]) -> Changes:
    """What changed between the causes of two runs. A stale cause is not there."""
    old = [cause.id for cause in before if cause.status != "stale"]
    new = [cause.id for cause in now if cause.status != "stale"]
    return Changes(
        new=tuple(name for name in new if name not in old),
        fixed=tuple(name for name in old if name not in new),
        still=tuple(name for name in new if name in old),
    )


# --- start, end, totals --------------------------------------------------------------------------------------------------


def _start(events: Sequence[Event]) -> Event:
    starts = [event for event in events if event["type"] == "start"]
    if len(starts) != 1:
        raise RunError(f"{len(starts)} start events where a run has one; merge the files of shards, and give each run a file of its own")
    return starts[0]


def _end(events: Sequence[Event]) -> Event:
    """The end event. A run that never wrote one was killed: the harness broke."""
    ends = [event for event in events if event["type"] == "end"]
    elapsed = max((float(event.get("elapsed", 0)) for event in events), default=0.0)
    return ends[-1] if ends else {"elapsed": elapsed, "interrupted": False, "broken": True, "reason": "the run was killed before its end"}


def _totals(start: Event, batches: Sequence[Event], elapsed: float) -> Totals:
    return Totals(
        programs=sum(batch["programs"] for batch in batches),
        judged=sum(batch["judged"] for batch in batches),
        judged_elements=sum(batch["judged_elements"] for batch in batches),
        inconclusive_elements=sum(batch["inconclusive_elements"] for batch in batches),
        skipped=tables.added(batch["skipped"] for batch in batches),
        not_compared=tables.added(batch["not_compared"] for batch in batches),
        planned=int(start["planned"].get("programs", 0)),
        elapsed=float(elapsed),
    )


# --- divergences, by cause -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Seen:
    """One divergence event with what it left to the first of its id filled in."""

    place: Any  # names the program: its seed, or the event where it has none
    status: str
    subject: str
    entry_id: str
    event: Event


@dataclass(slots=True)
class _Diverging:
    by_id: dict[str, list[_Seen]] = field(default_factory=lambda: defaultdict(list))

    @staticmethod
    def of(events: Sequence[Event], known: KnownFailures) -> _Diverging:
        found = _Diverging()
        for number, event in enumerate(events):
            if event["type"] == "divergence":
                found.by_id[event["id"]].append(_seen(number, event, found.by_id[event["id"]], known))
        return found

    def hit(self, statuses: Iterable[str]) -> int:
        """How many distinct programs diverged under one of these statuses."""
        return len({seen.place for every in self.by_id.values() for seen in every if seen.status in statuses})

    def worst(self, name: str) -> list[_Seen]:
        every = self.by_id.get(name, [])
        status = min((seen.status for seen in every), key=STATUSES.index, default="")
        return [seen for seen in every if seen.status == status]

    def of_subject(self, subject: str) -> Iterator[_Seen]:
        return (seen for every in self.by_id.values() for seen in every if seen.subject == subject)


def _seen(number: int, event: Event, earlier: Sequence[_Seen], known: KnownFailures) -> _Seen:
    if not earlier and not {"key", "status", "title", "divergence"} <= event.keys():
        raise RunError(f"the first divergence of {event['id']} has no key, status, title and divergence; was the start of the file lost?")
    status = event.get("status") or earlier[0].status
    if status not in STATUSES:
        raise RunError(f"a divergence of {event['id']} has the status {status!r}; known: {', '.join(STATUSES)}")
    subject = event["key"]["subject"] if not earlier else earlier[0].subject
    entry_id = event.get("entry", "")
    if not entry_id and status in ("known", "expired"):
        entry_id = earlier[0].entry_id if earlier else _entry_id(event, known)
    return _Seen(event["seed"] if event["seed"] is not None else f"event {number}", status, subject, entry_id, event)


def _entry_id(event: Event, known: KnownFailures) -> str:
    entry = known.match_divergence(Divergence.from_json(event["divergence"]))
    return entry.id if entry else ""


# --- causes --------------------------------------------------------------------------------------------------------------


def _causes(start: Event, events: Sequence[Event], diverging: _Diverging, known: KnownFailures,
            past: Sequence[Mapping[str, PastCause]]) -> tuple[Cause, ...]:  # fmt: skip
    found = {name: _cause(start, name, every, diverging.worst(name), known, past) for name, every in diverging.by_id.items()}
    met = {seen.entry_id for every in diverging.by_id.values() for seen in every}
    for event in events:
        if event["type"] == "known" and event["entry"] not in met:
            cause = _replayed(start, event, known, found.keys())
            found[cause.id] = cause
    return tuple(sorted(found.values(), key=lambda cause: (STATUSES.index(cause.status), -cause.programs, cause.elapsed, cause.id)))


def _cause(start: Event, name: str, every: Sequence[_Seen], worst: Sequence[_Seen], known: KnownFailures,
           past: Sequence[Mapping[str, PastCause]]) -> Cause:  # fmt: skip
    full = _divergences(every)
    shown = min(_divergences(worst) or full, key=lambda divergence: divergence.program.sort_key())
    entry_id = worst[0].entry_id
    elapsed = float(every[0].event["elapsed"])
    programs = len({seen.place for seen in worst})
    return Cause(
        id=name,
        key=shown.key,
        title=shown.title(),
        status=worst[0].status,
        order=min(divergence.order for divergence in full),
        blame=shown.evidence.blame,
        programs=programs,
        covered=len({seen.place for seen in every} - {seen.place for seen in worst}),
        first_seen=next((run[name].first_seen for run in past if name in run), _later(start["time"], elapsed)),
        elapsed=elapsed,
        reproducer=f"reproducers/{name}.py",
        ops=_ops(shown),
        entry=known.get(entry_id),
        entry_id=entry_id,
        divergence=shown,
        seeds=tuple(dict.fromkeys(seen.event["seed"] for seen in worst if seen.event["seed"] is not None))[:FULL_PROGRAMS],
        history=(*(run[name].programs if name in run else 0 for run in past), programs),
    )


def _divergences(seen: Iterable[_Seen]) -> list[Divergence]:
    return [Divergence.from_json(one.event["divergence"]) for one in seen if "divergence" in one.event]


def _ops(divergence: Divergence) -> tuple[str, ...]:
    return tuple(sorted({s.op for s in divergence.program if s.kind in _OP_KINDS and s.op}))


def _later(time: str, elapsed: float) -> str:
    try:
        return (datetime.datetime.fromisoformat(time) + datetime.timedelta(seconds=int(elapsed))).isoformat()
    except ValueError:
        raise RunError(f"the run's start has the time {time!r}; ISO 8601 was expected, such as 2026-11-24T16:00:00+00:00") from None


def _replayed(start: Event, event: Event, known: KnownFailures, taken: Iterable[str]) -> Cause:
    """The cause of a known entry that only the replay of its program speaks of: stale, or still diverging where no drawn program met it."""
    entry = known.get(event["entry"])
    divergence = Divergence.from_json(event["divergence"]) if "divergence" in event else None
    key = divergence.key if divergence else entry.key() if entry else Key("unknown", "value")
    named = (divergence or entry) and key.id not in taken and "*" not in key.to_json().values()
    stale = event["status"] == "stale"
    title = f"{event['entry']}: its program no longer diverges" if stale else f"{event['entry']}: its program diverges as before"
    return Cause(
        id=key.id if named else event["entry"],
        key=key,
        title=divergence.title() if divergence else title,
        status=event["status"],
        order=divergence.order if divergence else 0,
        blame=divergence.evidence.blame if divergence else "",
        programs=0 if stale else 1,
        covered=0,
        first_seen=start["time"],
        elapsed=0.0,
        reproducer=f"reproducers/{key.id}.py" if divergence and key.id not in taken else "",
        ops=_ops(divergence) if divergence else (key.op,),
        entry=entry,
        entry_id=event["entry"],
        divergence=divergence,
    )


# --- subjects and known entries ------------------------------------------------------------------------------------------


def _subject_rows(start: Event, batches: Sequence[Event], diverging: _Diverging, totals: Totals) -> Iterator[SubjectRow]:
    first = start["subjects"][0]["name"] if start["subjects"] else ""
    never_reached = max(totals.planned - totals.programs, 0)
    for subject in start["subjects"]:
        own = [batch for batch in batches if batch.get("subject", first) == subject["name"]]
        seen = list(diverging.of_subject(subject["name"]))
        new = {one.place for one in seen if one.status != "known"}
        known = {one.place for one in seen} - new
        judged = sum(batch["judged"] for batch in own)
        yield SubjectRow(
            **{name: str(subject.get(name, "")) for name in ("name", "device", "version", "note")},
            new=len(new),
            known=len(known),
            passed=max(judged - len(new) - len(known), 0),
            inconclusive=sum(batch["inconclusive_elements"] for batch in own),
            not_run=sum(batch["programs"] for batch in own) - judged + (never_reached if subject["name"] == first else 0),
        )


def _known_lines(events: Sequence[Event], diverging: _Diverging, known: KnownFailures) -> Iterator[KnownLine]:
    places: dict[str, set[Any]] = defaultdict(set)
    statuses: dict[str, str] = {}
    for seen in (seen for every in diverging.by_id.values() for seen in every if seen.entry_id):
        places[seen.entry_id].add(seen.place)
        statuses.setdefault(seen.entry_id, seen.status)
    statuses |= {event["entry"]: event["status"] for event in events if event["type"] == "known"}
    for name in sorted(statuses):
        yield KnownLine(name, statuses[name], len(places[name]), known.get(name))
