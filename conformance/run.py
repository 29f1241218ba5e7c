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
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from conformance.batch import Tally
from conformance.divergence import Divergence, Evidence, Key
from conformance.events import SCHEMA, DivergenceRecorder, EventLog, RunError, merge, read
from conformance.generate.programs import Mix, drawn_ops, from_hypothesis, from_seed
from conformance.isolation.client import Worker
from conformance.isolation.executors import executor, run_on_executor
from conformance.isolation.losses import RemoteError, WorkerLost, WorkerUnusable
from conformance.isolation.pool import Pool
from conformance.known_failures import Entry, KnownFailures, attributes_of, holds
from conformance.oracle.local import op_name
from conformance.output import prepare, write_all
from conformance.program import Program, Statement
from conformance.report.core import Cause, RunSummary, summarize
from conformance.subjects import SubjectError, split, subject
from conformance.subjects.walk import Walk
from conformance.trigger import trigger
from refgrad._table import TABLE

DEFAULT_SEED: Final = 20261124
BATCH: Final = 50
#: program seeds of two run seeds never meet below this many programs
STRIDE: Final = 1_000_000_000
#: seconds without progress (one program, or one minimization) after which a worker hangs
TIMEOUT: Final = 120.0
#: runs of candidates while a crashing program is minimized; each costs a fresh worker
CRASHES: Final = 16
#: times that an op must have lost its worker before a program that calls it is put down to it unseen
SURE: Final = 3
#: of a worker's environment: one program is small, and the workers are as many as the cores
THREADS: Final = {"OMP_NUM_THREADS": "1"}


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run does. ``programs`` or ``seconds`` bounds it; ``shard`` (i, n) takes every n-th batch.

    ``subjects`` are ``NAME`` or ``NAME@INTERPRETER``; ``executor`` names who runs the batches, ``""`` this machine's worker processes.
    """

    subjects: tuple[str, ...] = ("torch",)
    device: str = "cpu"
    mix: Mix = field(default_factory=Mix)
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
    crashes: int = CRASHES
    executor: str = ""


#: takes every event as it arises, for the terminal
Feed = Callable[[Mapping[str, Any]], None]


def execute(settings: Settings, known: KnownFailures, feed: Feed, argv: Sequence[str] = ()) -> RunSummary:
    """Runs it all and writes the report. Raises OutputError, SubjectError, RunError with nothing overwritten.

    KeyboardInterrupt ends the run and is reported, unless it comes before anything was judged.
    """
    baseline = _baseline(settings.baseline)  # it may be what lies in the output folder, which is moved away below
    suite = [read(file) for file in _suite_files(settings.merge_events)]
    with ExitStack() as stack:
        pools = {i: stack.enter_context(Pool(settings.jobs, i, env=THREADS)) for i in dict.fromkeys(split(s)[1] for s in settings.subjects)}
        about = [_about(pools[split(s)[1]], s, settings.device) for s in settings.subjects]
        applicable = known.for_torch(about[0]["torch"])
        log_path = prepare(settings.out)
        with EventLog(log_path) as log:
            run = _Run(settings, known, log, feed, about)
            run.emit(_start(settings, about, known, argv))
            run.go(pools)
    parts = [read(log_path), *suite]
    events = merge(parts) if len(parts) > 1 else parts[0]
    return write_all(settings.out, events, applicable, baseline=baseline, path=path_of)


def _target(subject: str, device: str) -> dict[str, str]:
    """What a function in a worker is told of the subject; the interpreter is the worker's own."""
    return {"subject_name": split(subject)[0], "device": device}


def _baseline(run: Path | None) -> tuple[Cause, ...] | None:
    """The causes of the run to compare with."""
    return None if run is None else summarize(read(run)).causes


def path_of(op: str) -> str:
    """Where torch has the op: ``nn.functional.relu``."""
    return TABLE[op].path if op in TABLE else op


def _suite_files(folder: Path | None) -> list[Path]:
    if folder is None:
        return []
    if not folder.is_dir():
        raise RunError(f"{folder}: no folder; --merge-events names the one that the suite wrote its events into")
    return sorted(folder.glob("*.jsonl"))


def _about(pool: Pool, name: str, device: str) -> dict[str, str]:
    """Asks a worker what the subject is; a subject that cannot be used is one line here, before anything is written."""
    worker = pool._workers[0]
    try:
        answer: dict[str, str] = worker.call("conformance.batch:about", _target(name, device), 300.0)
        return answer
    except RemoteError as error:
        raise SubjectError(_lacking(name, error.text)) from None
    except WorkerUnusable as error:
        raise SubjectError(f"subject {name!r}: {error}") from None
    except WorkerLost as lost:
        raise SubjectError(f"subject {name!r} cannot be used: the process that made it was lost ({lost.reason})") from None


def _lacking(name: str, text: str) -> str:
    """The error's text; another interpreter's may lack what judging needs there."""
    if "@" not in name or not text.startswith("No module named"):
        return text
    return f"subject {name!r}: {text} in that interpreter: {split(name)[1]} -m pip install numpy scipy ml_dtypes hypothesis torch"


def _start(settings: Settings, about: list[dict[str, str]], known: KnownFailures, argv: Sequence[str]) -> dict[str, Any]:
    first = about[0]
    planned = {"seconds": settings.seconds} if settings.seconds is not None else {"programs": float(_planned(settings))}
    return {
        "type": "start", "schema": SCHEMA, "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "torch": first["torch"], "capability": first["capability"], "seed": settings.seed, "planned": planned,
        "provider": settings.provider,
        "subjects": [{"name": a["name"], "device": settings.device, "version": a["version"], "note": ""} for a in about],
        "python": platform.python_version(), "platform": platform.platform(), "commit": _commit(),
        "known_files": [_shown(f) for f in known.files],
        "plugins": [], "argv": list(argv), "ops": list(drawn_ops(settings.mix)[0]), "fail_on": list(settings.fail_on),
    }  # fmt: skip


def _planned(settings: Settings) -> int:
    """How many programs this shard will run, over all subjects."""
    programs, (place, count) = settings.programs or 0, settings.shard
    starts = range((place - 1) * BATCH, programs, count * BATCH)
    return len(settings.subjects) * sum(min(BATCH, programs - start) for start in starts)


def _shown(path: Path) -> str:
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return path.name


def _commit() -> str:
    try:
        command = ["git", "rev-parse", "--short", "HEAD"]
        found = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
    except OSError:
        return ""
    return found.stdout.strip()


class _Run:
    """The state of one run: what was found so far, when it started. ``name`` is what the subject at hand calls itself."""

    def __init__(self, settings: Settings, known: KnownFailures, log: EventLog, feed: Feed, about: Sequence[Mapping[str, str]]) -> None:
        self.settings, self.every_known, self.log, self.feed, self.about = settings, known, log, feed, about
        self.known = known.for_torch(about[0]["torch"])
        self.recorder = DivergenceRecorder()
        self.started = time.monotonic()
        self.subject, self.name = settings.subjects[0], about[0]["name"]
        self.circumstances = {"device": settings.device, "capability": about[0]["capability"]}
        self.losses: dict[tuple[str, str, str], list[Program]] = {}  # subject, kind, guilty op -> the minimized programs
        self.failure: tuple[int, str] | None = None  # the first program on which the harness itself failed

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.started

    def emit(self, event: Mapping[str, Any]) -> None:
        self.log.write(event)
        self.feed(event)

    def go(self, pools: Mapping[str, Pool]) -> None:
        interrupted, broken, reason = False, False, ""
        try:
            self.replay_known(pools[split(self.subject)[1]])
            for name, about in zip(self.settings.subjects, self.about, strict=True):
                self.subject, self.name = name, about["name"]
                self.circumstances = {"device": self.settings.device, "capability": about["capability"]}
                self.known = self.every_known.for_torch(about["torch"])
                self.map(pools[split(name)[1]], self.batches(name))
        except KeyboardInterrupt:
            interrupted, reason = True, "interrupted"
        except Exception as error:  # whatever broke the harness is reported, with what was found before
            broken, reason = True, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            print(getattr(error, "traceback", "") or traceback.format_exc(), file=sys.stderr)
        if self.failure is not None:
            seed, trace = self.failure
            print(trace, file=sys.stderr)
            broken, reason = True, reason or f"the harness failed on the program of seed {seed}: {trace.splitlines()[-1]}"
        self.emit({"type": "end", "elapsed": self.elapsed, "interrupted": interrupted, "broken": broken, "reason": reason})

    # --- batches --------------------------------------------------------------------------------------------------------

    def map(self, pool: Pool, batches: Iterator[dict[str, Any]]) -> None:
        """Judges the batches in our workers, or on the executor that was asked for."""
        s, function = self.settings, "conformance.batch:judge_batch"
        if not s.executor:
            pool.map_batches(function, batches, s.timeout, self.on_result, self.on_death)
            return
        make, deaths = executor(s.executor)
        run_on_executor(
            lambda: make(s.jobs), function, batches, s.timeout, self.on_result, self.on_death, in_flight=2 * s.jobs, deaths=deaths
        )

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
                constants = {"mix": asdict(s.mix), **_target(subject, s.device), "provider": s.provider}
                yield {"programs": list(range(first + start, first + end)), **constants}
            start, place = end, place + 1

    def on_result(self, result: dict[str, Any]) -> None:
        divergences, failures = result.pop("divergences"), result.pop("failures")
        if failures and self.failure is None:
            self.failure = failures[0]
        self.emit({"type": "batch", "source": "stream", "elapsed": self.elapsed, "subject": self.name, **result})
        for data in divergences:
            self.on_divergence(Divergence.from_json(data))

    def on_divergence(self, divergence: Divergence, source: str = "stream") -> None:
        divergence = replace(divergence, attributes={**self.circumstances, **divergence.attributes})
        entry = self.known.match_divergence(divergence)
        today = datetime.datetime.now(datetime.UTC).date()
        status = "new" if entry is None else "expired" if entry.expired(today) else "known"
        if divergence.key.facet == "flaky":
            status = "flaky"
        self.emit(self.recorder.event(divergence, status, self.elapsed, source, entry.id if entry else ""))

    def on_death(self, program: Any, *, kind: str, detail: WorkerLost) -> None:
        """A program that killed or stalled its worker is a finding; it is cut and minimized in workers of its own."""
        draw = from_seed if self.settings.provider == "stream" else from_hypothesis
        drawn = draw(int(program), self.settings.mix)
        small = self.same_loss(drawn, kind) or _smallest_loss(drawn, kind, self.subject, self.settings)
        self.losses.setdefault((self.subject, kind, op_name(small.statements[_guilty(small)])), []).append(small)
        lost = _lost(small, kind, detail.reason, self.name)
        self.on_divergence(replace(lost, seed=int(program), original=drawn))
        tally = {**Tally(programs=1, judged=1).to_json(), "seconds": 0.0}
        self.emit({"type": "batch", "source": "stream", "elapsed": self.elapsed, "subject": self.name, **tally})

    def same_loss(self, drawn: Program, kind: str) -> Program | None:
        """The program of an earlier loss that this one is put down to: an op that has lost its worker SURE times is not looked into again,
        since each look costs fresh workers, and a run in which a common op crashes would never end.
        """
        for (judged, of, op), programs in self.losses.items():
            if (judged, of) == (self.subject, kind) and len(programs) >= SURE and any(op_name(s) == op for s in drawn):
                return programs[0]
        return None

    # --- known entries ----------------------------------------------------------------------------------------------------

    def replay_known(self, pool: Pool) -> None:
        """Each applicable entry's program first: an entry whose program no longer diverges is stale."""
        worker = pool._workers[0]
        today = datetime.datetime.now(datetime.UTC).date()
        for entry in self.known.entries:
            if entry.program is None or not _applies(entry, self.name, self.circumstances):
                continue
            found = _replay(worker, entry.program, self.subject, self.settings.device, self.name)
            still = found is not None and entry.matches(found.key, {**self.circumstances, **attributes_of(found)})
            status = "stale" if not still else "expired" if entry.expired(today) else "known"
            event: dict[str, Any] = {"type": "known", "entry": entry.id, "status": status}
            if found is not None and still:
                event["divergence"] = found.to_json()
            self.emit(event)


def _applies(entry: Entry, name: str, circumstances: Mapping[str, str]) -> bool:
    """Whether the entry speaks of this subject, under what is the same for the whole run."""
    here = all(holds(predicate, circumstances[attribute]) for attribute, predicate in entry.when if attribute in circumstances)
    return here and entry.subject in ("*", name)


# --- programs that kill or stall their worker ---------------------------------------------------------------------------------


def _guilty(program: Program) -> int:
    """The place of the last statement that does something: what follows it only leaves blocks."""
    return max((i for i, s in enumerate(program.statements) if s.kind != "exit"), default=0)


def _lost(program: Program, kind: str, reason: str, name: str) -> Divergence:
    """The finding that a program's last statement ended or stalled its process."""
    place = _guilty(program)
    found = Evidence("the process survives", reason, "no program may end or stall the process that runs it")
    return Divergence(Key(op_name(program.statements[place]), kind, "reverse", trigger(program), "none", name), place, "", found, program)


def replay(program: Program, subject_name: str, device: str, timeout: float = TIMEOUT) -> Divergence | None:
    """The program's divergence on a subject, a crash or hang included; None where it shows none. Raises SubjectError."""
    with Worker(split(subject_name)[1], env=THREADS) as worker:
        try:
            about = worker.call("conformance.batch:about", _target(subject_name, device), 300.0)
            return _replay(worker, program, subject_name, device, about["name"], timeout)
        except (RemoteError, WorkerUnusable) as error:
            raise SubjectError(error.text if isinstance(error, RemoteError) else str(error)) from None


def _replay(worker: Worker, program: Program, subject: str, device: str, name: str, timeout: float = TIMEOUT) -> Divergence | None:
    arguments = {"program": program.to_json(), **_target(subject, device)}
    try:
        data = worker.call("conformance.batch:replay_program", arguments, timeout)
    except WorkerLost as lost:
        return _lost(_until_lost(worker, program, subject, device, timeout) or program, lost.kind, lost.reason, name)
    return None if data is None else Divergence.from_json(data)


def step_through(program: dict[str, Any], subject_name: str, device: str, report: Callable[[Any], None]) -> None:
    """Runs a program's statements on a subject and reports each before it runs, so that the parent knows which one was the last."""
    walk = Walk(subject(subject_name, device), Program.from_json(program))
    walk.tensor_type = walk.engine.module.Tensor
    for index, statement in enumerate(walk.program):
        report(index)
        walk.step(index, statement)


def _until_lost(worker: Worker, program: Program, subject: str, device: str, timeout: float) -> Program | None:
    """The program up to the statement on which the worker is lost; None where it survives."""
    arguments = {"program": program.to_json(), **_target(subject, device)}
    try:
        worker.call("conformance.run:step_through", arguments, timeout)
    except WorkerLost as lost:
        last = lost.last_progress if isinstance(lost.last_progress, int) else len(program) - 1
        return _closed(program.slice_before(last + 1))
    return None


def _closed(program: Program) -> Program:
    """With every block left that was entered."""
    depth = sum((s.kind == "enter") - (s.kind == "exit") for s in program)
    return program.with_statements((*program.statements, *[Statement("exit")] * depth))


def _needed(program: Program) -> Program:
    """Only the guilty statement and those that bind what it reads, and so on back: enough for most crashes."""
    place = _guilty(program)
    wanted = set(program.statements[place].refs())
    kept = {place}
    for index in range(place - 1, -1, -1):
        statement = program.statements[index]
        if wanted & set(statement.out):
            kept.add(index)
            wanted.update(statement.refs())
    return program.without(set(range(len(program))) - kept)


def _smallest_loss(program: Program, kind: str, subject: str, settings: Settings) -> Program:
    """The program cut after the guilty statement and, where it crashes, minimized (few calls: each costs a fresh worker)."""
    from conformance.minimize import NotInteresting, minimize

    if kind not in ("crash", "hang"):
        return program
    with Worker(split(subject)[1], env=THREADS) as worker:

        def until_lost(candidate: Program) -> Program | None:
            return _until_lost(worker, candidate, subject, settings.device, settings.timeout)

        cut = until_lost(program)
        if cut is None or kind == "hang":
            return cut or program
        guilty = op_name(cut.statements[_guilty(cut)])

        def crashes(candidate: Program) -> bool:
            found = until_lost(candidate)
            return found is not None and found == candidate and op_name(found.statements[_guilty(found)]) == guilty

        needed = _needed(cut)
        try:
            return minimize(needed if crashes(needed) else cut, crashes, budget=settings.crashes)
        except NotInteresting:
            return cut
