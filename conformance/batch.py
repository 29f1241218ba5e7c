"""A batch of programs: a pure function of seeds and settings, run in a worker process.

Each program is drawn, run on the subject and on the reference, and judged. What diverges is run again (a divergence that comes and goes is
``flaky``), minimized under its key, and given its trigger.
"""

from __future__ import annotations

import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from conformance.divergence import Divergence, Key
from conformance.generate.programs import Mix, from_hypothesis, from_seed
from conformance.minimize import NotInteresting, minimize
from conformance.observation import Observation
from conformance.oracle.interval import changed
from conformance.oracle.judge import Verdict, judge
from conformance.oracle.local import UNPREDICTABLE
from conformance.program import Program
from conformance.subjects import subject
from conformance.subjects.reference import Reference
from conformance.subjects.walk import walk
from conformance.trigger import trigger
from refgrad._dtypes import OF

#: calls of the predicate for the first divergences of one raw key in a worker, and for those after
BUDGETS: Final = (400, 400, 250, 120)

_REFERENCE = Reference()
_MINIMIZED: Counter[tuple[Any, ...]] = Counter()


@dataclass(slots=True)
class Tally:
    """What a batch compared; the fields are those of the batch event."""

    programs: int = 0
    judged: int = 0
    judged_elements: int = 0
    inconclusive_elements: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    coverage: Counter[str] = field(default_factory=Counter)
    pitfalls: Counter[str] = field(default_factory=Counter)
    accuracy: dict[str, float] = field(default_factory=dict)

    def add(self, program: Program, verdict: Verdict) -> None:
        self.programs += 1
        self.judged_elements += verdict.elements
        self.inconclusive_elements += verdict.inconclusive
        if verdict.elements or verdict.divergences or verdict.states:
            self.judged += 1
        else:
            self.skipped["nothing in it could be compared"] += 1
        for key, count in verdict.coverage.items():
            self.coverage["|".join(key)] += count
        for accuracy_key, worst in verdict.accuracy.items():
            name = "|".join(accuracy_key)
            self.accuracy[name] = max(self.accuracy.get(name, 0.0), worst)
        self._add_pitfalls(program, verdict)

    def _add_pitfalls(self, program: Program, verdict: Verdict) -> None:
        drawn = dict(program.notes).get("pitfalls", "")
        if drawn:
            for op, dtype in {(key[0], key[1]) for key in verdict.coverage}:
                for pitfall in drawn.split(","):
                    self.pitfalls[f"{op}|{pitfall}|{dtype}"] += 1

    def to_json(self) -> dict[str, Any]:
        return {
            "programs": self.programs, "judged": self.judged, "judged_elements": self.judged_elements,
            "inconclusive_elements": self.inconclusive_elements, "skipped": dict(self.skipped), "not_compared": {},
            "coverage": dict(self.coverage), "pitfalls": dict(self.pitfalls), "accuracy": dict(self.accuracy),
        }  # fmt: skip


def run_and_judge(program: Program, engine: Any, measure: bool = True) -> Verdict:
    """One program on the engine and on the reference, which follows the engine's values, and the oracle's verdict.

    A program without hooks shows no gradient on its way; it is walked again with them, to be judged, and for both to end alike.
    """
    seen: list[Observation] = walk(program, engine)
    right = walk(program, _REFERENCE, follow=seen)
    verdict = judge(program, engine.name, seen, right, measure)
    if program.hooked or verdict.divergences or any(s.op in UNPREDICTABLE for s in program):
        return verdict
    hooked = replace(program, hooked=True)
    again: list[Observation] = walk(hooked, engine)
    changed_by_hooks = differs(hooked, engine.name, seen, again)
    if changed_by_hooks is not None:
        verdict.divergences.append(changed_by_hooks)
    if changed_by_hooks is not None or not all(s.observe for s in program):
        return verdict
    return judge(hooked, engine.name, again, walk(hooked, _REFERENCE, follow=again), measure)


def differs(program: Program, subject: str, without: list[Observation], hooked: list[Observation]) -> Divergence | None:
    """The first value that the harness's hooks, which only look, changed; None where there is none."""
    for index, (plain, other) in enumerate(zip(without, hooked, strict=True)):
        for name in sorted(plain.values.keys() & other.values.keys()):
            bits, right = plain.values[name], other.values[name]
            if bits.shape == right.shape and bits.dtype == right.dtype and bits.tobytes() != right.tobytes():
                found = changed(right, bits, "a hook that only looks changes nothing; with hooks is what was expected")
                return Divergence(
                    Key("hook", "value", "reverse", "ordinary", OF[bits.dtype].name, subject, ""), index, name, found, program
                )
    return None


def first_divergence(program: Program, engine: Any) -> Divergence | None:
    divergences = run_and_judge(program, engine, measure=False).divergences
    return _cause(divergences[0], engine) if divergences else None


def _cause(found: Divergence, engine: Any) -> Divergence:
    """The divergence that shows where every statement is observed, if that is no later one: a state that went wrong unobserved shows in
    what follows from it. Where observing makes it go away, the divergence stands as it was found.
    """
    statements = found.program.statements
    if all(s.observe for s in statements):
        return found
    watched = replace(found.program, statements=tuple([replace(s, observe=True) for s in statements]))
    divergences = run_and_judge(watched, engine, measure=False).divergences
    return divergences[0] if divergences and divergences[0].statement <= found.statement else found


def raw_key(key: Key) -> tuple[str, ...]:
    """What minimizing keeps: everything but the trigger, which is judged on the result, and the dtype, which it may simplify."""
    return (key.op, key.facet, key.mode, key.subject, key.error)


def settle(found: Divergence, engine: Any, seed: int | None) -> Divergence:
    """The divergence confirmed, minimized, with its trigger; ``flaky`` where running it again does not show it."""
    program = found.program
    found = _cause(found, engine)
    again = first_divergence(program, engine)
    wanted = raw_key(found.key)
    if again is None or raw_key(again.key) != wanted:
        return replace(found, key=replace(found.key, facet="flaky"), seed=seed, original=program)
    seen = _MINIMIZED[wanted, found.key.dtype]
    _MINIMIZED[wanted, found.key.dtype] += 1
    small = _minimized(program, wanted, engine, BUDGETS[min(seen, len(BUDGETS) - 1)])
    final = first_divergence(small, engine)
    if final is None:
        final = found
    key = replace(final.key, trigger=trigger(final.program))
    return replace(final, key=key, seed=seed, original=program)


def _minimized(program: Program, wanted: tuple[str, ...], engine: Any, budget: int) -> Program:
    def is_interesting(candidate: Program) -> bool:
        try:
            found = first_divergence(candidate, engine)
        except Exception:  # a candidate that the oracle cannot judge is not interesting
            return False
        return found is not None and raw_key(found.key) == wanted

    try:
        return minimize(program, is_interesting, budget=budget)
    except NotInteresting:
        return program


def mix_from_json(data: dict[str, Any]) -> Mix:
    """A Mix whose tuples became lists on the way."""
    pairs = ("ops", "actions")
    fields: dict[str, Any] = {k: tuple(map(tuple, v)) if k in pairs else tuple(v) if isinstance(v, list) else v for k, v in data.items()}
    return Mix(**fields)


def judge_batch(
    programs: Sequence[int], mix: dict[str, Any], subject_name: str, device: str = "cpu", provider: str = "stream",
    report: Callable[[Any], None] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Judges the programs of these seeds.

    Returns the batch event's counts, the divergences as JSON, and (seed, traceback) of what failed in the harness.
    """
    engine = subject(subject_name, device)
    drawn = mix_from_json(mix)
    tally = Tally()
    divergences: list[dict[str, Any]] = []
    failures: list[tuple[int, str]] = []
    started = time.perf_counter()
    for seed in programs:
        if report is not None:
            report(seed)
        try:
            program = from_seed(seed, drawn) if provider == "stream" else from_hypothesis(seed, drawn)
            verdict = run_and_judge(program, engine)
            tally.add(program, verdict)
            if verdict.divergences:
                divergences.append(settle(verdict.divergences[0], engine, seed).to_json())
        except Exception:  # the harness's own failure: told with the seed, and the run goes on
            failures.append((seed, traceback.format_exc()))
    return {**tally.to_json(), "seconds": time.perf_counter() - started, "divergences": divergences, "failures": failures}


def replay_program(program: dict[str, Any], subject_name: str, device: str = "cpu") -> dict[str, Any] | None:
    """The first divergence of one program (as JSON), confirmed but not minimized; None where it shows none."""
    found = first_divergence(Program.from_json(program), subject(subject_name, device))
    if found is None:
        return None
    return replace(found, key=replace(found.key, trigger=trigger(found.program))).to_json()


def about(subject_name: str, device: str = "cpu") -> dict[str, str]:
    """Name, version and processor capability of a subject. Raises SubjectError where it cannot be used."""
    engine = subject(subject_name, device)
    describe = getattr(engine, "describe", None)
    told: dict[str, str] = describe() if describe is not None else {}
    return {"name": engine.name, "version": "", "torch": "0", "capability": "", **told}
