"""What the suite records: one batch of counts per property, and every divergence."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from conformance.batch import Tally, run_and_judge
from conformance.divergence import Divergence
from conformance.events import DivergenceRecorder, EventLog
from conformance.known_failures import SHIPPED, USER, KnownFailures, load
from conformance.program import Program
from conformance.subjects import subject
from conformance.trigger import trigger


class Unknown(AssertionError):
    """A divergence that no known entry covers."""


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
        self._first: dict[str, Divergence] = {}

    def judge(self, program: Program) -> None:
        """Raises Unknown for a divergence that no entry covers; a known one is recorded and does not fail the property."""
        verdict = run_and_judge(program, self.engine)
        self.tally.add(program, verdict)
        if not verdict.divergences:
            return
        found = verdict.divergences[0]
        found = replace(found, key=replace(found.key, trigger=trigger(program)), attributes=self.attributes)
        entry = self.known.match_divergence(found)
        if entry is not None:
            self.events.append(self._recorder.event(found, "known", time.monotonic() - self.started, "suite", entry.id))
            return
        self._keep_smallest(found)
        raise Unknown(f"{found.title()} ({found.tensor}, statement {found.statement}): expected {found.evidence.expected}, got {found.evidence.got}")

    def _keep_smallest(self, found: Divergence) -> None:
        """Hypothesis shrinks by calling again: of one op and facet only the smallest program is reported."""
        name = f"{found.key.op}|{found.key.facet}|{found.key.error}"
        held = self._first.get(name)
        if held is None or found.program.sort_key() < held.program.sort_key():
            self._first[name] = found

    def write(self, path: Path) -> None:
        elapsed = time.monotonic() - self.started
        with EventLog(path) as log:
            log.write({"type": "batch", "source": "suite", "elapsed": elapsed, "seconds": elapsed, **self.tally.to_json()})
            for event in self.events:
                log.write(event)
            for found in self._first.values():
                log.write(self._recorder.event(found, "new", elapsed, "suite"))
