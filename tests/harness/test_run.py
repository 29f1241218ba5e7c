"""A run: the reference is green and the same twice, what kills or stalls a worker is a finding, known entries turn stale and expire."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conformance.events import RunError, merge, read
from conformance.generate.programs import Mix, from_hypothesis, from_seed
from conformance.isolation.executors import ExecutorError, executor
from conformance.known_failures import KnownFailures, load
from conformance.program import Program
from conformance.report.core import Cause, RunSummary, summarize
from conformance.run import BATCH, STRIDE, SURE, Settings, execute, replay
from conformance.subjects import SubjectError
from tests.harness.subjects import Crashing, Hanging, Wrong
from tests.harness.writing import do, leaf, write

EXP = Mix(ops=(("exp", 1.0), ("sin", 4.0)), dtypes=("float32",), max_statements=6)
#: seconds without progress after which a worker of these tests hangs; the programs that do not hang take milliseconds
PATIENCE = 2.5


def place(engine: type) -> str:
    return f"{engine.__module__}:{engine.__name__}"


def ran(out: Path, known: KnownFailures | None = None, **settings: Any) -> RunSummary:
    defaults: dict[str, Any] = {"subjects": ("refgrad",), "programs": 100, "jobs": 1, "out": out, "crashes": 3}
    return execute(Settings(**{**defaults, **settings}), known or KnownFailures(), lambda event: None)


def gate_of(out: Path) -> Any:
    """``gate.json`` without what a clock says."""
    found = json.loads((out / "gate.json").read_text())
    for part in (found, *found["causes"]):
        for name in ("time", "seconds", "elapsed", "first_seen"):
            part.pop(name, None)
    return found


def the_cause(summary: RunSummary) -> Cause:
    """The cause that most programs met; all others must be of the same op, facet and status."""
    first = summary.causes[0]
    assert {(c.key.op, c.key.facet, c.status) for c in summary.causes} == {(first.key.op, first.key.facet, first.status)}
    return first


def told(summary: RunSummary) -> set[tuple[str, str, str]]:
    """What a run found: status, op and facet of each cause."""
    return {(cause.status, cause.key.op, cause.key.facet) for cause in summary.causes}


# --- green, and the same twice ------------------------------------------------------------------------------------------


def test_the_reference_is_green_and_a_second_run_gives_the_same_gate_on_other_workers(tmp_path: Path) -> None:
    first = ran(tmp_path / "a", programs=220, jobs=1)
    ran(tmp_path / "b", programs=220, jobs=2)
    assert (first.verdict, first.exit, first.totals.programs, first.partial) == ("green", 0, 220, False)
    assert gate_of(tmp_path / "a") == gate_of(tmp_path / "b")


def test_another_seed_draws_other_programs(tmp_path: Path) -> None:
    coverage = [ran(tmp_path / str(seed), seed=seed, programs=50).tables.coverage for seed in (1, 2)]
    assert coverage[0] != coverage[1]


def test_hypothesis_provides_the_programs_of_a_run_too(tmp_path: Path) -> None:
    found = ran(tmp_path, provider="hypothesis", programs=20)
    assert (found.verdict, found.totals.programs, found.start["provider"]) == ("green", 20, "hypothesis")


def test_shards_together_are_the_whole_and_each_is_whole_by_itself(tmp_path: Path) -> None:
    programs = 3 * BATCH + 10
    whole = ran(tmp_path / "whole", programs=programs)
    parts = [ran(tmp_path / str(i), programs=programs, shard=(i, 2)) for i in (1, 2)]
    merged = summarize(merge([read(tmp_path / "1"), read(tmp_path / "2")]))
    assert [part.totals.programs for part in parts] == [2 * BATCH, BATCH + 10] and not any(part.partial for part in parts)
    assert merged.totals.programs == programs and not merged.partial and merged.tables == whole.tables


def test_several_subjects_are_run_one_after_the_other_and_each_has_its_row(tmp_path: Path) -> None:
    found = ran(tmp_path, subjects=("refgrad", place(Wrong)), programs=50, mix=EXP)
    assert [(row.name, row.new > 0) for row in found.subjects] == [("refgrad", False), ("wrong", True)] and not found.partial
    assert the_cause(found).key.subject == "wrong"


def test_a_subject_of_an_interpreter_is_run_there(tmp_path: Path) -> None:
    found = ran(tmp_path, subjects=(f"{place(Wrong)}@{sys.executable}",), programs=50, mix=EXP)
    assert the_cause(found).key.subject == "wrong"
    with pytest.raises(SubjectError, match="no interpreter '/nowhere/python'"):
        ran(tmp_path, subjects=("refgrad@/nowhere/python",))


def test_an_executor_runs_the_same_batches(tmp_path: Path) -> None:
    ran(tmp_path / "ours", subjects=("refgrad", place(Wrong)), programs=100, mix=EXP)
    ran(tmp_path / "pool", subjects=("refgrad", place(Wrong)), programs=100, mix=EXP, executor="processes")
    assert gate_of(tmp_path / "ours")["causes"] == gate_of(tmp_path / "pool")["causes"] != []


@pytest.mark.parametrize(("name", "text"), [("nosuch", "unknown executor 'nosuch'; known: processes"), ("os:nosuch", "cannot be loaded")])
def test_an_executor_that_is_not_there_is_one_line(name: str, text: str) -> None:
    with pytest.raises(ExecutorError, match=text):
        executor(name)


def test_a_run_of_nothing_judged_nothing(tmp_path: Path) -> None:
    assert ran(tmp_path, programs=0).exit == 4 and ran(tmp_path / "mute", subjects=("tests.harness.subjects:Mute",)).exit == 4


def test_the_harness_failing_on_a_program_is_told_with_its_seed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = ran(tmp_path, subjects=("tests.harness.subjects:Broken",), programs=3, seed=7)
    assert (found.verdict, found.exit) == ("broken", 3) and f"seed {7 * STRIDE}" in found.reason and "no bits today" in found.reason
    assert "Traceback" in capfd.readouterr().err


# --- findings -----------------------------------------------------------------------------------------------------------


def test_a_wrong_op_is_one_cause_with_a_minimized_program_and_a_reproducer(tmp_path: Path) -> None:
    found = ran(tmp_path, subjects=(place(Wrong),), mix=EXP)
    cause = the_cause(found)
    assert (found.verdict, found.exit, cause.status, cause.programs > 1) == ("red", 1, "new", True)
    assert (cause.key.op, cause.key.facet, cause.key.subject) == ("exp", "value", "wrong")
    assert cause.divergence and len(cause.divergence.program) <= 3 and (tmp_path / cause.reproducer).is_file()
    assert cause.divergence.attributes == {"device": "cpu", "capability": "numpy"}


def small_seed(programs: int) -> int:
    """A run seed of whose first programs exactly one calls the function exp."""
    return next(seed for seed in range(200) if calls(seed, programs) == 1)


def calls(seed: int, programs: int) -> int:
    return sum(calls_exp(from_seed(seed * STRIDE + i, EXP)) for i in range(programs))


def calls_exp(program: Program) -> bool:
    return any((s.kind, s.op) == ("call", "exp") for s in program)


def test_a_crash_is_a_finding_whose_program_ends_at_the_guilty_statement_and_the_others_are_judged(tmp_path: Path) -> None:
    found = ran(tmp_path, subjects=(place(Crashing),), mix=EXP, programs=12, seed=small_seed(12))
    cause = the_cause(found)
    assert (cause.key.op, cause.key.facet, cause.key.subject, cause.programs) == ("exp", "crash", "crashing", 1)
    assert cause.divergence and [s.op for s in cause.divergence.program] == ["", "exp"] and cause.divergence.original
    assert (found.exit, found.totals.programs, found.totals.judged) == (1, 12, 12)


def test_an_op_that_crashes_again_and_again_is_looked_into_three_times_and_every_program_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[Program] = []

    def look(program: Program, *rest: Any) -> Program:
        looked.append(program)
        return program.slice_before(1 + next(i for i, s in enumerate(program) if (s.kind, s.op) == ("call", "exp")))

    monkeypatch.setattr("conformance.run._smallest_loss", look)
    seed = next(seed for seed in range(200) if calls(seed, 20) >= 6)
    found = ran(tmp_path, subjects=(place(Crashing),), mix=EXP, programs=20, seed=seed)
    assert len(looked) == SURE and sum(c.programs for c in found.causes if c.key.facet == "crash") == calls(seed, 20)


def test_a_hang_is_a_finding_whose_program_ends_at_the_guilty_statement(tmp_path: Path) -> None:
    found = ran(tmp_path, subjects=(place(Hanging),), mix=EXP, programs=1, seed=small_seed(1), timeout=PATIENCE)
    cause = the_cause(found)
    assert (cause.key.op, cause.key.facet, cause.key.subject) == ("exp", "hang", "hanging")
    assert cause.divergence and cause.divergence.program.statements[-1].op == "exp" and found.totals.programs == 1


def test_a_crash_within_a_block_keeps_the_block_closed() -> None:
    program = write(
        leaf("t0", [1.0]), do("enter", "no_grad"), do("call", "exp", "@t0", out="t1"), do("call", "sin", "@t0", out="t2"), do("exit")
    )
    found = replay(program, place(Crashing), "cpu")
    assert found is not None and [s.kind for s in found.program] == ["tensor", "enter", "call", "exit"]
    assert found.program.problems() == [] and (found.key.op, found.key.facet, found.statement) == ("exp", "crash", 2)


def test_a_crash_of_the_hypothesis_provider_is_of_the_program_that_it_drew(tmp_path: Path) -> None:
    seed = next(seed for seed in range(50) if calls_exp(from_hypothesis(seed * STRIDE, EXP)))
    found = the_cause(ran(tmp_path, subjects=(place(Crashing),), mix=EXP, programs=1, provider="hypothesis", seed=seed))
    assert (found.key.op, found.key.facet) == ("exp", "crash")
    assert found.divergence and found.divergence.original == from_hypothesis(seed * STRIDE, EXP)


@pytest.mark.parametrize(
    "name", ["nosuch", "tests.harness.subjects:nosuch", "tests.harness.subjects:refusing", "tests.harness.subjects:dying"]
)
def test_a_subject_that_cannot_be_used_is_one_line_and_an_earlier_run_stays(tmp_path: Path, name: str) -> None:
    (tmp_path / "gate.json").write_text("mine")
    with pytest.raises(SubjectError, match=r"^[^\n]+$"):
        ran(tmp_path, subjects=(name,))
    assert [path.name for path in tmp_path.rglob("*")] == ["gate.json"]


# --- known entries ------------------------------------------------------------------------------------------------------

DIVERGES = write(leaf("t0", [1.0]), do("call", "exp", "@t0", out="t1"))


def known(tmp_path: Path, **fields: str) -> KnownFailures:
    """A known file with one entry for exp's value whose program is DIVERGES."""
    text = {"id": "e1", "op": "exp", "facet": "value", "reason": "known", "program": json.dumps(DIVERGES.to_json()), **fields}
    file = tmp_path / "known.toml"
    file.write_text("[[known]]\n" + "".join(f"{name} = '{one}'\n" for name, one in text.items()))
    return load([file])


def known_run(tmp_path: Path, engine: str, **fields: str) -> tuple[int, set[tuple[str, str]]]:
    """The exit code of a run under such an entry, and per cause its status and its entry."""
    found = ran(tmp_path / "out", known(tmp_path, **fields), subjects=(engine,), mix=EXP, programs=50)
    return found.exit, {(cause.status, cause.entry_id) for cause in found.causes}


def test_a_known_divergence_does_not_make_the_gate_red(tmp_path: Path) -> None:
    assert known_run(tmp_path, place(Wrong)) == (0, {("known", "e1")})


def test_an_expired_entry_makes_the_gate_red(tmp_path: Path) -> None:
    assert known_run(tmp_path, place(Wrong), expires="2020-01-31") == (1, {("expired", "e1")})


def test_an_entry_whose_program_no_longer_diverges_is_stale_and_the_gate_stays_green(tmp_path: Path) -> None:
    assert known_run(tmp_path, "refgrad") == (0, {("stale", "e1")})


@pytest.mark.parametrize("fields", [{"subject": "wrong"}, {"torch": "<2.0"}])
def test_an_entry_that_does_not_speak_of_this_subject_or_torch_is_not_stale(tmp_path: Path, fields: dict[str, str]) -> None:
    assert known_run(tmp_path, "refgrad", **fields) == (0, set())


def test_an_entry_of_another_device_is_neither_stale_nor_does_it_cover(tmp_path: Path) -> None:
    file = tmp_path / "known.toml"
    known(tmp_path)
    file.write_text(file.read_text() + 'when = { device = "cuda*" }\n')
    assert told(ran(tmp_path / "out", load([file]), subjects=(place(Wrong),), mix=EXP, programs=50)) == {("new", "exp", "value")}


def test_an_entry_for_another_op_does_not_cover(tmp_path: Path) -> None:
    assert known_run(tmp_path, place(Wrong), op="sin") == (1, {("new", ""), ("stale", "e1")})


# --- other runs ---------------------------------------------------------------------------------------------------------


def test_a_run_is_compared_with_a_baseline_which_may_be_what_lies_in_its_own_folder(tmp_path: Path) -> None:
    before = ran(tmp_path, subjects=(place(Wrong),), mix=EXP, programs=50)
    now = ran(tmp_path, mix=EXP, programs=50, baseline=tmp_path)
    assert now.changes is not None and (now.changes.new, now.changes.fixed) == ((), (the_cause(before).id,))


@pytest.mark.parametrize("settings", [{"baseline": Path("nowhere")}, {"merge_events": Path("nowhere")}])
def test_another_run_that_is_not_there_is_one_line_and_nothing_is_overwritten(tmp_path: Path, settings: Any) -> None:
    (tmp_path / "gate.json").write_text("mine")
    with pytest.raises(RunError, match=r"^nowhere: no "):
        ran(tmp_path, **settings)
    assert [path.name for path in tmp_path.rglob("*")] == ["gate.json"]


def test_the_events_of_the_suite_are_merged_into_the_run(tmp_path: Path) -> None:
    ran(tmp_path / "suite", programs=50)
    part = [event for event in read(tmp_path / "suite") if event["type"] == "batch"]
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "suite-gw0.jsonl").write_text("".join(json.dumps({**event, "source": "suite"}) + "\n" for event in part))
    found = ran(tmp_path / "out", programs=50, merge_events=tmp_path / "parts")
    assert found.totals.programs == 100 and len(read(tmp_path / "out")) == 2 + 2 * len(part)


def test_an_earlier_run_is_kept_and_its_causes_make_a_history(tmp_path: Path) -> None:
    for _ in range(2):
        found = ran(tmp_path, subjects=(place(Wrong),), mix=EXP, programs=50)
    cause = the_cause(found)
    assert cause.history == (cause.programs, cause.programs) and len(list((tmp_path / "runs").iterdir())) == 1


def test_settings_are_values(tmp_path: Path) -> None:
    assert replace(Settings(), out=tmp_path).mix == Mix() and Settings() == Settings()
