"""``junit.xml``: what failed, what is known and what was not judged, for the test view of a CI service.

A test case is a cause, or a table op's values or gradients that had none; what was skipped, inconclusive or never drawn is a skipped case.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass

from conformance.report import text
from conformance.report.cards import where
from conformance.report.core import Cause, RunSummary


@dataclass(frozen=True, slots=True)
class Case:
    """``outcome`` is passed, failure, error or skipped; ``kind`` its type attribute."""

    group: str
    name: str
    outcome: str = "passed"
    kind: str = ""
    message: str = ""
    detail: str = ""


def render(summary: RunSummary) -> str:
    cases = list(_cases(summary))
    root = ET.Element("testsuites", _counts(cases) | {"name": "conformance", "time": f"{summary.totals.elapsed:.3f}"})
    suite = ET.SubElement(root, "testsuite", _counts(cases) | {"name": "conformance", "timestamp": text.visible(summary.start["time"])})
    properties = ET.SubElement(suite, "properties")
    for name in ("torch", "capability", "seed", "commit", "python", "platform"):
        ET.SubElement(properties, "property", {"name": name, "value": text.visible(str(summary.start[name]))})
    for case in cases:
        _add(suite, case)
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _counts(cases: list[Case]) -> dict[str, str]:
    outcomes = [case.outcome for case in cases]
    return {
        "tests": str(len(cases)),
        "failures": str(outcomes.count("failure")),
        "errors": str(outcomes.count("error")),
        "skipped": str(outcomes.count("skipped")),
    }


def _add(suite: ET.Element, case: Case) -> None:
    """Every text is made visible, which leaves no character that XML forbids."""
    element = ET.SubElement(suite, "testcase", {"classname": text.visible(case.group), "name": text.visible(case.name)})
    if case.outcome != "passed":
        outcome = ET.SubElement(element, case.outcome, {"type": case.kind, "message": text.visible(case.message)})
        outcome.text = text.visible(case.detail, keep="\n") or None


def _cases(summary: RunSummary) -> Iterator[Case]:
    if summary.verdict in ("broken", "nothing_judged", "interrupted"):
        yield Case("conformance.run", "verdict", "error", f"conformance.{summary.verdict}", summary.sentence)
    for cause in summary.causes:
        yield _cause(cause, summary)
    diverging = {(cause.key.op, cause.key.facet) for cause in summary.causes if cause.status != "stale"}
    for row in summary.tables.ops:
        for facet, number in (("value", row.values), ("grad", row.grads)):
            if number and (row.op, facet) not in diverging:
                yield Case(f"conformance.{facet}", row.op)
    yield from _not_judged(summary)


def _cause(cause: Cause, summary: RunSummary) -> Case:
    group, name = f"conformance.{cause.key.facet}", f"{cause.key.op} {cause.id}: {cause.title}"
    if cause.status in summary.fail_on:
        message = f"{cause.title} ({text.count(cause.programs, 'program')})"
        return Case(group, name, "failure", f"conformance.{cause.status}", message, _detail(cause))
    reason = cause.entry.reason if cause.entry else cause.title
    return Case(group, name, "skipped", f"conformance.{cause.status}", reason)


def _detail(cause: Cause) -> str:
    found = [where(cause.divergence)] if cause.divergence else []
    found += [f"blame: {cause.blame}"] if cause.blame else []
    found += [f"reproducer: {cause.reproducer}"] if cause.reproducer else []
    return "\n".join([*found, f"replay: python -m conformance replay {cause.id}"])


def _not_judged(summary: RunSummary) -> Iterator[Case]:
    totals = summary.totals
    if totals.inconclusive_elements:
        message = f"{totals.inconclusive_elements:,} of {totals.judged_elements:,} elements: the exact value is not known closely enough"
        yield Case("conformance.run", "inconclusive elements", "skipped", "conformance.inconclusive", message)
    for reason, number in totals.skipped.items():
        yield Case("conformance.run", f"skipped: {reason}", "skipped", "conformance.skipped", f"{text.count(number, 'program')}: {reason}")
    for op in summary.tables.never_drawn:
        yield Case("conformance.run", f"never drawn: {op}", "skipped", "conformance.never_drawn", "no program drew it")
