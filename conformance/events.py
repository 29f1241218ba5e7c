"""What happened in a run, one JSON object a line: ``events.jsonl``.

Events are plain dicts, declared below as TypedDicts, so that a line read back is the event that was written. A run is a list of them, in
the order they arose: one ``start``, any number of ``batch``, ``divergence`` and ``known``, one ``end``. The files of several shards or
workers are put together by ``merge``; a part of a run (a worker's file) may lack ``start`` and ``end``.

JSON has no infinities: a float that is not finite is written as ``{"nonfinite": "inf"}`` and read back as a float.

Exceptions: ``RunError`` for files that hold no run (one line: which file, which line, what to do).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, NotRequired, Self, TypedDict, get_origin, get_type_hints

from conformance.divergence import Divergence

SCHEMA: Final = 1
FILE_NAME: Final = "events.jsonl"
#: how many programs of one cause a run keeps in full; of the others only the seed
FULL_PROGRAMS: Final = 10


class RunError(ValueError):
    """A file or folder that does not hold a run. The message is one line: where, what, what to do."""


class Subject(TypedDict):
    """A system under test. ``note`` says what differs from its defaults, or why it could not run."""

    name: str
    device: str
    version: str
    note: str


class Start(TypedDict):
    """The circumstances of a run; everything that a later run needs in order to repeat it."""

    type: Literal["start"]
    schema: int
    time: str  # ISO 8601, UTC
    torch: str
    capability: str
    subjects: list[Subject]
    seed: int
    planned: dict[str, float]  # {"programs": 20000} or {"seconds": 60}
    provider: str
    python: str
    platform: str
    commit: str
    known_files: list[str]
    plugins: list[str]
    argv: list[str]
    ops: list[str]  # every name in the table
    fail_on: NotRequired[list[str]]  # the statuses that make the gate red


class Batch(TypedDict):
    """Counts of one batch. ``judged`` programs reached a verdict; the others stand in ``skipped`` under the reason why they did not."""

    type: Literal["batch"]
    source: str  # "stream" or "suite"
    elapsed: float  # seconds since the start
    seconds: float  # spent on this batch
    programs: int
    judged: int
    judged_elements: int
    inconclusive_elements: int
    skipped: dict[str, int]  # reason -> programs
    not_compared: dict[str, int]  # field that the subject cannot show -> how often
    coverage: dict[str, int]  # "op|dtype|facet|layout" -> judged tensors; facet value or grad, layout contiguous or strided
    pitfalls: dict[str, int]  # "op|pitfall|dtype" -> programs
    accuracy: dict[str, float]  # "op|dtype|facet" -> worst error seen, in ulps
    subject: NotRequired[str]  # whose counts these are; the first subject's where this is absent


class DivergenceEvent(TypedDict):
    """One divergence. The first of its id carries key, status, title and divergence, later ones only what is not optional.

    At most ``FULL_PROGRAMS`` events of one id carry a ``divergence`` (as from ``Divergence.to_json``).
    """

    type: Literal["divergence"]
    id: str
    elapsed: float
    seed: int | None
    source: NotRequired[str]
    key: NotRequired[dict[str, str]]
    status: NotRequired[str]  # new, known, expired, flaky; where absent, that of the id's first event
    entry: NotRequired[str]  # the known entry that covers it
    title: NotRequired[str]
    divergence: NotRequired[dict[str, Any]]


class KnownEvent(TypedDict):
    """What the replay of a known entry's program showed: known, stale (no longer diverges) or expired (diverges, past its date)."""

    type: Literal["known"]
    entry: str
    status: str
    divergence: NotRequired[dict[str, Any]]


class End(TypedDict):
    """How a run ended. ``broken``: the harness failed, ``reason`` says how."""

    type: Literal["end"]
    elapsed: float
    interrupted: bool
    broken: bool
    reason: str


Event = Mapping[str, Any]  # one of the five; a reader tells them apart by ["type"]

TYPES: Final[dict[str, type]] = {"start": Start, "batch": Batch, "divergence": DivergenceEvent, "known": KnownEvent, "end": End}

_HINTS: Final = {name: get_type_hints(declared) for name, declared in TYPES.items()}
#: (with postponed annotations ``__required_keys__`` does not see NotRequired)
_REQUIRED: Final = {
    name: {key for key, hint in get_type_hints(declared, include_extras=True).items() if get_origin(hint) is not NotRequired}
    for name, declared in TYPES.items()
}


class DivergenceRecorder:
    """Turns divergences into events: the first of a cause in full, the next few with their program, the rest with their seed."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    def event(self, divergence: Divergence, status: str, elapsed: float, source: str = "stream", entry: str = "") -> DivergenceEvent:
        cause = divergence.key.id
        seen = self._seen[cause] = self._seen.get(cause, 0) + 1
        event: DivergenceEvent = {"type": "divergence", "id": cause, "elapsed": round(elapsed, 3), "seed": divergence.seed}
        event["status"] = status
        if entry:
            event["entry"] = entry
        if seen <= FULL_PROGRAMS:
            event["divergence"] = divergence.to_json()
        if seen == 1:
            event |= {"key": divergence.key.to_json(), "title": divergence.title(), "source": source}
        return event


def os_reason(error: OSError) -> str:
    """What the system says, such as ``permission denied``."""
    return (error.strerror or type(error).__name__).lower()


# --- writing -----------------------------------------------------------------------------------------------------------


class EventLog:
    """Appends events to a file, each flushed as it arises, so that a killed run keeps what it found. Raises RunError if it cannot."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self._file = self.path.open("a", encoding="utf-8", newline="\n")
        except OSError as error:
            raise RunError(f"{self.path}: cannot be written ({os_reason(error)}); choose another folder with --out") from None

    def write(self, event: Event) -> None:
        self._file.write(dump(event) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def dump(event: Event) -> str:
    """The event as one line of strict JSON."""
    return json.dumps(_finite(event), allow_nan=False, separators=(",", ":"))


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {"nonfinite": repr(value)}
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


# --- reading -----------------------------------------------------------------------------------------------------------


def locate(run: str | Path) -> Path:
    """The event file that a RUN of the command line names: the file, or the one in that folder. Raises RunError."""
    path = Path(run)
    found = path / FILE_NAME if path.is_dir() else path
    if not found.is_file():
        raise RunError(f"{path}: no run here; a run is a folder with {FILE_NAME}, or that file")
    return found


def read(run: str | Path) -> list[Event]:
    """The events of one file, checked. A last line that a killed run left cut off is dropped. Raises RunError."""
    path = locate(run)
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({os_reason(error)})") from None
    except UnicodeDecodeError as error:
        raise RunError(f"{path}: not UTF-8 at byte {error.start}; an event file holds one JSON object a line") from None
    whole, _, _cut_off = text.rpartition("\n")
    return [_parse(path, number, line) for number, line in enumerate(whole.split("\n"), 1) if line.strip()]


def _parse(path: Path, number: int, line: str) -> Event:
    try:
        event = json.loads(line, object_hook=_revive)
    except ValueError as error:
        raise RunError(f"{path}:{number}: not JSON ({error}); remove this line to read the rest") from None
    if problem := _problem(event):
        raise RunError(f"{path}:{number}: {problem}")
    checked: Event = event
    return checked


def _revive(data: dict[str, Any]) -> Any:
    return float(data["nonfinite"]) if data.keys() == {"nonfinite"} else data


def _problem(event: Any) -> str:
    """Why this is no event; empty when it is one."""
    if not isinstance(event, dict) or event.get("type") not in TYPES:
        return f'no event: an object whose "type" is one of {", ".join(TYPES)} was expected'
    hints, required = _HINTS[event["type"]], _REQUIRED[event["type"]]
    for name in sorted(required - event.keys()):
        return f'a {event["type"]} event without "{name}"; was it written by another version?'
    for name in event.keys() & hints.keys():
        if not _fits(event[name], hints[name]):
            return f'a {event["type"]} event whose "{name}" is {type(event[name]).__name__} {event[name]!r:.60}'
    if event["type"] == "divergence" and not re.fullmatch(r"\w{1,40}", event["id"]):  # it names a file and an anchor
        return f'a divergence event whose "id" is {event["id"]!r:.60}; six hex digits were expected'
    if event["type"] == "start" and event["schema"] > SCHEMA:
        return f"schema {event['schema']} is newer than {SCHEMA}, the highest this version reads: upgrade torch-conformance"
    return ""


def _fits(value: Any, hint: Any) -> bool:
    """Whether ``value`` has the outermost type of ``hint`` (what it holds is the reader's to use, and the writer's to get right)."""
    wanted = get_origin(hint) or hint
    if wanted is Literal:
        return True
    if wanted is float:
        return isinstance(value, float | int) and not isinstance(value, bool)
    if wanted is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint == int | None:
        return value is None or isinstance(value, int)
    return isinstance(value, wanted)


# --- several files, one run --------------------------------------------------------------------------------------------


def merge(parts: Iterable[Sequence[Event]]) -> list[Event]:
    """One run out of the events of shards or workers: one start, everything else in the order of its time, one end. Raises RunError."""
    parts = [part for part in parts if part]
    if len(parts) == 1:
        return list(parts[0])
    events = [event for part in parts for event in part]
    starts = [event for event in events if event["type"] == "start"]
    ends = [event for event in events if event["type"] == "end"]
    middle = sorted((event for event in events if event["type"] not in ("start", "end")), key=_when)
    return [*_merged_start(starts), *_first_known(middle), *_merged_end(starts, ends)]


def _when(event: Event) -> float:
    return float(event.get("elapsed", 0.0))


def _first_known(events: Iterable[Event]) -> Iterator[Event]:
    """Each shard replays the known entries: one answer per entry is kept, a divergence rather than a stale one."""
    events = list(events)
    answers: dict[str, Event] = {}
    for event in events:
        if event["type"] == "known" and answers.get(event["entry"], event)["status"] in ("stale", event["status"]):
            answers[event["entry"]] = event
    yield from answers.values()
    yield from (event for event in events if event["type"] != "known")


def _merged_start(starts: Sequence[Event]) -> Iterator[Event]:
    if not starts:
        return
    first = dict(min(starts, key=lambda start: str(start["time"])))
    for name in ("torch", "schema"):
        if len(found := sorted({str(start[name]) for start in starts})) > 1:
            raise RunError(f"these files are of runs with different {name} ({', '.join(found)}); merge only the shards of one run")
    for name in ("subjects", "known_files", "plugins", "ops"):
        first[name] = _union(start[name] for start in starts)
    first["planned"] = {unit: _planned(unit, starts) for start in starts for unit in start["planned"]}
    yield first


def _planned(unit: str, starts: Sequence[Event]) -> float:
    """Programs of shards add up; their seconds run side by side."""
    each = [float(start["planned"].get(unit, 0)) for start in starts]
    return sum(each) if unit == "programs" else max(each)


def _union(lists: Iterable[Sequence[Any]]) -> list[Any]:
    found: list[Any] = []
    for item in (item for items in lists for item in items):
        if item not in found:
            found.append(item)
    return found


def _merged_end(starts: Sequence[Event], ends: Sequence[Event]) -> Iterator[Event]:
    if not ends or len(ends) < len(starts):  # a shard without its end was killed: the whole has no end either
        return
    yield {
        "type": "end",
        "elapsed": max(end["elapsed"] for end in ends),
        "interrupted": any(end["interrupted"] for end in ends),
        "broken": any(end["broken"] for end in ends),
        "reason": "; ".join(_union([end["reason"]] for end in ends if end["reason"])),
    }
