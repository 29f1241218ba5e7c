"""The gate: ``gate.json``, the run's answer for machines, and what ``--fail-on`` makes of it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Final

from conformance.report.core import Cause, RunSummary
from conformance.report.verdict import EXIT_CODES, STATUSES, FailOnError, parse_fail_on, strongest, verdict

__all__ = ["EXIT_CODES", "SCHEMA", "STATUSES", "FailOnError", "gate", "parse_fail_on", "past", "strongest", "to_text", "verdict"]

SCHEMA: Final = 1


def gate(summary: RunSummary) -> dict[str, Any]:
    """The contents of ``gate.json``. ``inconclusive`` counts elements, ``skipped`` programs."""
    start, totals = summary.start, summary.totals
    return {
        "schema": SCHEMA,
        "verdict": summary.verdict,
        "exit": summary.exit,
        "sentence": summary.sentence,
        "partial": summary.partial,
        "time": start["time"],
        "programs": totals.programs,
        "judged": totals.judged,
        "judged_elements": totals.judged_elements,
        "inconclusive": totals.inconclusive_elements,
        "skipped": totals.programs - totals.judged,
        "skipped_by_reason": dict(totals.skipped),
        "not_compared": dict(totals.not_compared),
        "seconds": totals.elapsed,
        "seed": start["seed"],
        "torch": start["torch"],
        "capability": start["capability"],
        "commit": start["commit"],
        "subjects": [dict(subject) for subject in start["subjects"]],
        "known_files": list(start["known_files"]),
        "fail_on": list(summary.fail_on),
        "ops": {
            "drawn": list(summary.tables.drawn),
            "never_drawn": list(summary.tables.never_drawn),
            "counting": [row.op for row in summary.tables.counting],
        },
        "causes": [_cause(cause) for cause in summary.causes],
    }


def _cause(cause: Cause) -> dict[str, Any]:
    return {
        "id": cause.id,
        "key": cause.key.to_json(),
        "title": cause.title,
        "status": cause.status,
        "op": cause.key.op,
        "ops": list(cause.ops),
        "facet": cause.key.facet,
        "trigger": cause.key.trigger,
        "order": cause.order,
        "mode": cause.key.mode,
        "dtype": cause.key.dtype,
        "subject": cause.key.subject,
        "blame": cause.blame,
        "programs": cause.programs,
        "first_seen": cause.first_seen,
        "elapsed": cause.elapsed,
        "reproducer": cause.reproducer,
        "entry": cause.entry_id,
    }


def to_text(summary: RunSummary) -> str:
    """``gate.json`` as strict JSON."""
    return json.dumps(_finite(gate(summary)), indent=2, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list) else value


def past(file: Path) -> dict[str, dict[str, Any]]:
    """The causes of an earlier run's ``gate.json`` by id; none where the file is not there or not one of ours."""
    try:
        return {cause["id"]: cause for cause in json.loads(file.read_text(encoding="utf-8"))["causes"] if cause["status"] != "stale"}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
