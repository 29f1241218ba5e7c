"""A run: batches of programs over worker processes → events → report and gate."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from conformance.divergence import Divergence, Evidence, Key
from conformance.events import SCHEMA, DivergenceRecorder, EventLog, merge, read
from conformance.generate.programs import Mix, drawn_ops, from_seed
from conformance.isolation.client import Worker
from conformance.isolation.losses import WorkerLost
from conformance.isolation.pool import Pool
from conformance.known_failures import KnownFailures
from conformance.program import Program
from conformance.report.core import RunSummary
from conformance.output import prepare, write_all
from conformance.trigger import trigger
from refgrad._table import TABLE

DEFAULT_SEED: Final = 20261124
BATCH: Final = 50
#: program seeds of two run seeds never meet below this many programs
STRIDE: Final = 1_000_000_000
#: seconds without progress (one program, or one minimization) after which a worker hangs
TIMEOUT: Final = 120.0
_MINIMIZE_CRASH_CALLS: Final = 16


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run does. ``programs`` or ``seconds`` bounds it; ``shard`` (i, n) takes every n-th batch."""

    subjects: tuple[str, ...] = ("torch",)
    device: str = "cpu"
    mix: Mix = Mix()
    seed: int = DEFAULT_SEED
    programs: int | None = 20_000
    seconds: float | None = None
    jobs: int = field(default_factory=lambda: os.cpu_count() or 1)
    shard: tuple[int, int] = (1, 1)
    out: Path = Path("reports")
    fail_on: tuple[str, ...] = ("new", "expired")
    provider: str = "stream"
    merge_events: Path | None = None
    baseline: Path | None = None
    timeout: float = TIMEOUT


#: takes every event as it arises, for the terminal
Feed = Callable[[Mapping[str, Any]], None]


def execute(settings: Settings, known: KnownFailures, feed: Feed, argv: Sequence[str] = ()) -> RunSummary:
    """Runs it all and writes the report. Raises OutputError, SubjectError; KeyboardInterrupt does not escape: it ends the run and is reported."""
    log_path = prepare(settings.out)
    with Pool(settings.jobs, env={"OMP_NUM_THREADS": "1"}) as pool:
        about = [_about(pool, name, settings.device) for name in settings.subjects]
        with EventLog(log_path) as log:
            run = _Run(settings, known.for_torch(about[0]["torch"]), log, feed, about[0])
            run.emit(_start(settings, about, known, argv))
            run.go(pool)
    parts = [read(log_path)] + [read(p) for p in _suite_files(settings)]
    events = merge(parts) if len(parts) > 1 else parts[0]
    return write_all(settings.out, events, known.for_torch(about[0]["torch"]), path=path_of)


def path_of(op: str) -> str:
    """Where torch has the op: ``nn.functional.relu``."""
    return TABLE[op].path if op in TABLE else op


def _suite_files(settings: Settings) -> list[Path]:
    return sorted(settings.merge_events.glob("*.jsonl")) if settings.merge_events is not None else []


def _about(pool: Pool, subject: str, device: str) -> dict[str, str]:
    """Asks a worker what the subject is; a subject that cannot be used is one line here, before anything is written."""
    from conformance.isolation.losses import RemoteError
    from conformance.subjects import SubjectError

    worker = pool._workers[0]
    try:
        answer: dict[str, str] = worker.call("conformance.batch:about", {"subject_name": subject, "device": device}, 300.0)
        return answer
    except RemoteError as error:
        raise SubjectError(error.text) from None


def _start(settings: Settings, about: list[dict[str, str]], known: KnownFailures, argv: Sequence[str]) -> dict[str, Any]:
    first = about[0]
    planned = {"seconds": settings.seconds} if settings.seconds is not None else {"programs": float(settings.programs or 0)}
    return {
        "type": "start", "schema": SCHEMA, "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), "torch": first["torch"],
        "capability": first["capability"], "seed": settings.seed, "planned": planned, "provider": settings.provider,
        "subjects": [{"name": a["name"], "device": settings.device, "version": a["version"], "note": ""} for a in about],
        "python": platform.python_version(), "platform": platform.platform(), "commit": _commit(), "known_files": [_shown(f) for f in known.files],
        "plugins": [], "argv": list(argv), "ops": list(drawn_ops(settings.mix)[0]), "fail_on": list(settings.fail_on),
    }  # fmt: skip


def _shown(path: Path) -> str:
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return path.name


def _commit() -> str:
    try:
        found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
    except OSError:
        return ""
    return found.stdout.strip()


class _Run:
    """The state of one run: what was found so far, when it started."""

    def __init__(self, settings: Settings, known: KnownFailures, log: EventLog, feed: Feed, about: Mapping[str, str]) -> None:
        self.settings, self.known, self.log, self.feed, self.about = settings, known, log, feed, about
        self.recorder = DivergenceRecorder()
        self.started = time.monotonic()
        self.subject = settings.subjects[0]
        self.failure: tuple[int, str] | None = None  # the first program on which the harness itself failed

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.started

    def emit(self, event: Mapping[str, Any]) -> None:
        self.log.write(event)
        self.feed(event)

    def go(self, pool: Pool) -> None:
        interrupted, broken, reason = False, False, ""
        try:
            self.replay_known(pool)
            for subject in self.settings.subjects:
                self.subject = subject
                pool.map_batches("conformance.batch:judge_batch", self.batches(subject), self.settings.timeout, self.on_result, self.on_death)
        except KeyboardInterrupt:
            interrupted, reason = True, "interrupted"
        except Exception as error:  # noqa: BLE001 - whatever broke the harness is reported, with what was found before
            broken, reason = True, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            print(getattr(error, "traceback", "") or traceback.format_exc(), file=sys.stderr)
        if self.failure is not None:
            seed, trace = self.failure
            print(trace, file=sys.stderr)
            broken, reason = True, reason or f"the harness failed on the program of seed {seed}: {trace.splitlines()[-1]}"
        self.emit({"type": "end", "elapsed": self.elapsed, "interrupted": interrupted, "broken": broken, "reason": reason})

    # --- batches --------------------------------------------------------------------------------------------------------

    def batches(self, subject: str) -> Iterator[dict[str, Any]]:
        s = self.settings
        first, share = s.seed * STRIDE, s.shard
        place = start = 0
        until = s.programs if s.seconds is None else None
        while until is None or start < until:
            if s.seconds is not None and self.elapsed >= s.seconds:
                return
            end = start + BATCH if until is None else min(start + BATCH, until)
            if place % share[1] == share[0] - 1:
                constants = {"mix": asdict(s.mix), "subject_name": subject, "device": s.device, "provider": s.provider}
                yield {"programs": list(range(first + start, first + end)), **constants}
            start, place = end, place + 1

    def on_result(self, result: dict[str, Any]) -> None:
        divergences, failures = result.pop("divergences"), result.pop("failures")
        if failures and self.failure is None:
            self.failure = failures[0]
        self.emit({"type": "batch", "source": "stream", "elapsed": self.elapsed, "subject": self.subject, **result})
        for data in divergences:
            self.on_divergence(Divergence.from_json(data))

    def on_divergence(self, divergence: Divergence, source: str = "stream") -> None:
        attributes = {"device": self.settings.device, "capability": self.about["capability"], **divergence.attributes}
        divergence = Divergence(**{**{f: getattr(divergence, f) for f in Divergence.__dataclass_fields__}, "attributes": attributes})
        entry = self.known.match_divergence(divergence)
        today = datetime.datetime.now(datetime.UTC).date()
        status = "new" if entry is None else "expired" if entry.expired(today) else "known"
        if divergence.key.facet == "flaky":
            status = "flaky"
        self.emit(self.recorder.event(divergence, status, self.elapsed, source, entry.id if entry else ""))

    def on_death(self, program: Any, *, kind: str, detail: WorkerLost) -> None:
        """A program that killed or stalled its worker is a finding; it is minimized in workers of its own."""
        drawn = from_seed(int(program), self.settings.mix)
        small = drawn if kind != "crash" else _minimize_crash(drawn, self.subject, self.settings)
        op = next((s.op or s.kind for s in reversed(small.statements)), "program")
        key = Key(op, kind, "reverse", trigger(small), "none", self.subject)
        found = Evidence("the process survives", detail.reason, "no program may end the process that runs it")
        self.on_divergence(Divergence(key, len(small) - 1, "", found, small, seed=int(program), original=drawn))
        counts = {"programs": 1, "judged": 1, "judged_elements": 0, "inconclusive_elements": 0, "skipped": {}, "not_compared": {}, "coverage": {}}
        self.emit({"type": "batch", "source": "stream", "elapsed": self.elapsed, "seconds": 0.0, "pitfalls": {}, "accuracy": {}, **counts})

    # --- known entries ----------------------------------------------------------------------------------------------------

    def replay_known(self, pool: Pool) -> None:
        """Each applicable entry's program first: an entry whose program no longer diverges is stale."""
        worker = pool._workers[0]
        today = datetime.datetime.now(datetime.UTC).date()
        for entry in self.known.entries:
            if entry.program is None or not _applies(entry, self.settings):
                continue
            found = _replay(worker, entry.program, self.settings.subjects[0], self.settings.device)
            attributes = {"device": self.settings.device, "capability": self.about["capability"]}
            still = found is not None and entry.matches(found.key, {**attributes, **_attributes(found)})
            status = "stale" if not still else "expired" if entry.expired(today) else "known"
            event: dict[str, Any] = {"type": "known", "entry": entry.id, "status": status}
            if found is not None and still:
                event["divergence"] = found.to_json()
            self.emit(event)


def _attributes(divergence: Divergence) -> dict[str, str]:
    from conformance.known_failures import attributes_of

    return attributes_of(divergence)


def _applies(entry: Any, settings: Settings) -> bool:
    from conformance.known_failures import holds

    when = dict(entry.when)
    return "device" not in when or holds(when["device"], settings.device)


def _replay(worker: Worker, program: Program, subject: str, device: str) -> Divergence | None:
    """The program's divergence, a crash included; None where it shows none."""
    try:
        data = worker.call("conformance.batch:replay_program", {"program": program.to_json(), "subject_name": subject, "device": device}, TIMEOUT)
    except WorkerLost as lost:
        op = next((s.op or s.kind for s in reversed(program.statements)), "program")
        found = Evidence("the process survives", lost.reason, "no program may end the process that runs it")
        return Divergence(Key(op, lost.kind, "reverse", trigger(program), "none", subject), len(program) - 1, "", found, program)
    return None if data is None else Divergence.from_json(data)


def _minimize_crash(program: Program, subject: str, settings: Settings) -> Program:
    """Few calls, since each crash costs a fresh worker."""
    from conformance.minimize import NotInteresting, minimize

    with Worker(sys.executable, env={"OMP_NUM_THREADS": "1"}) as worker:

        def crashes(candidate: Program) -> bool:
            found = _replay(worker, candidate, subject, settings.device)
            return found is not None and found.key.facet == "crash"

        try:
            return minimize(program, crashes, budget=_MINIMIZE_CRASH_CALLS)
        except NotInteresting:
            return program
