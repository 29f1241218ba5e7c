"""What the suite records: one batch of counts per property, and every divergence."""

from __future__ import annotations

import datetime
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from conformance.batch import Tally, run_and_judge, settle
from conformance.divergence import Divergence, Key
from conformance.events import DivergenceRecorder, EventLog
from conformance.known_failures import SHIPPED, USER, Entry, KnownFailures, load
from conformance.program import Program
from conformance.subjects import subject


class Unknown(AssertionError):
    """A divergence that no known entry covers."""


def raw(key: Key) -> tuple[str, str, str]:
    """What a divergence keeps while it is minimized."""
    return key.op, key.facet, key.error


def _may_cover(entry: Entry, key: Key) -> bool:
    return (entry.op, entry.facet) == (key.op, key.facet) and entry.error in ("*", key.error)


class Recording:
    """Judges programs on the subject that ``CONFORMANCE_SUITE_SUBJECT`` names (``torch`` by default) and remembers what was seen."""

    def __init__(self, started: float) -> None:
        self.started = started
        self.engine: Any = subject(os.environ.get("CONFORMANCE_SUITE_SUBJECT", "torch"))
        about = self.engine.describe()
        self.attributes = {"device": "cpu", "capability": about["capability"]}
        self.known: KnownFailures = load([SHIPPED, *([USER] if USER.exists() else [])]).for_torch(about["torch"])
        self.tally = Tally()
        self.events: list[Any] = []
        self._recorder = DivergenceRecorder()
        self._first: dict[tuple[str, str, str], Divergence] = {}

    def judge(self, program: Program) -> None:
        """Raises Unknown for a divergence that no entry covers; a known one is recorded and does not fail the property."""
        verdict = run_and_judge(program, self.engine)
        self.tally.add(program, verdict)
        if not verdict.divergences:
            return
        found = verdict.divergences[0]
        entry, small = self._known(found)
        if entry is not None:
            status = "expired" if entry.expired(datetime.datetime.now(datetime.UTC).date()) else "known"
            self.events.append(self._recorder.event(small, status, time.monotonic() - self.started, "suite", entry.id))
            return
        self._keep_smallest(found)
        seen = found.evidence
        raise Unknown(f"{found.title()} ({found.tensor}, statement {found.statement}): expected {seen.expected}, got {seen.got}")

    def _known(self, found: Divergence) -> tuple[Entry | None, Divergence]:
        """The entry that covers a divergence. Entries speak of minimized programs: where one may apply, the program is minimized first."""
        if not any(_may_cover(entry, found.key) for entry in self.known.entries):
            return None, found
        small = self._settled(found)
        return self.known.match_divergence(small), small

    def _settled(self, found: Divergence) -> Divergence:
        return replace(settle(found, self.engine, None), attributes=self.attributes)

    def _keep_smallest(self, found: Divergence) -> None:
        """Hypothesis shrinks by calling again: of one op, facet and error only the smallest program is reported."""
        held = self._first.get(raw(found.key))
        if held is None or found.program.sort_key() < held.program.sort_key():
            self._first[raw(found.key)] = found

    def write(self, path: Path) -> None:
        elapsed = time.monotonic() - self.started
        with EventLog(path) as log:
            log.write({"type": "batch", "source": "suite", "elapsed": elapsed, "seconds": elapsed, **self.tally.to_json()})
            for event in self.events:
                log.write(event)
            for found in self._first.values():
                small = self._settled(found)
                status = "flaky" if small.key.facet == "flaky" else "new"
                log.write(self._recorder.event(small, status, elapsed, "suite"))
