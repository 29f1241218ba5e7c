"""The generator: programs are well-formed, the same for a seed wherever they are drawn, and hold everything that the vocabulary names."""

import hashlib
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.generate.programs import Mix, drawn_ops, from_hypothesis, from_seed
from conformance.oracle.raised import error_key
from conformance.program import HOOK_ACTIONS, KINDS, Literal, Program, Statement
from conformance.subjects.reference import Reference
from conformance.subjects.walk import walk
from refgrad._dtypes import BY_NAME, FLOAT

ROOT = Path(__file__).resolve().parents[2]
#: within so many seeds of the default mix everything must have been drawn
SEEDS = 1_500
#: as pitfalls are named in the report
PITFALLS = {
    "special points", "extreme values", "order", "empty and tiny", "layout", "size", "aliasing", "in-place", "graph life", "hooks", "modes",
    "dtypes", "indices", "arguments", "repetition",
}  # fmt: skip
OP_KINDS = ("call", "method", "operator", "inplace", "augmented")


@pytest.fixture(scope="module")
def programs() -> list[Program]:
    return [from_seed(seed) for seed in range(SEEDS)]


@pytest.fixture(scope="module")
def statements(programs: list[Program]) -> list[Statement]:
    return [statement for program in programs for statement in program]


def literals(program: Program) -> Iterator[Literal]:
    return (atom for s in program for atom in s.args if isinstance(atom, Literal))


def digest(seeds: range) -> str:
    text = "\n".join(json.dumps(from_seed(seed).to_json(), sort_keys=True) for seed in seeds)
    return hashlib.sha256(text.encode()).hexdigest()


# --- every program ------------------------------------------------------------------------------------------------------


def test_every_program_is_well_formed(programs: list[Program]) -> None:
    assert [problem for program in programs for problem in program.problems()] == []


def test_every_program_survives_json(programs: list[Program]) -> None:
    assert all(Program.from_json(json.dumps(program.to_json())) == program for program in programs)


def test_every_program_has_something_to_judge(programs: list[Program]) -> None:
    assert min(len(program) for program in programs) > 1 and all(any(s.observe for s in program) for program in programs)


@pytest.mark.parametrize("seed", range(6))
def test_hypothesis_draws_well_formed_programs_the_same_for_a_seed(seed: int) -> None:
    program = from_hypothesis(seed)
    assert program.problems() == [] and program == from_hypothesis(seed) and Program.from_json(json.dumps(program.to_json())) == program


def test_hypothesis_draws_other_programs_for_other_seeds() -> None:
    assert len({json.dumps(from_hypothesis(seed).to_json()) for seed in range(8)}) > 4


def test_a_seed_draws_the_same_program_in_another_process_with_another_hash_seed() -> None:
    code = "from tests.harness.test_generator import digest; print(digest(range(60)))"
    command = [sys.executable, "-W", "ignore", "-c", code]
    env = {"PYTHONHASHSEED": "12345", "PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    assert subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip() == digest(range(60))


def test_drawing_in_another_order_draws_the_same() -> None:
    """No draw leaves something behind that the next one sees."""
    forwards = [from_seed(seed) for seed in range(40)]
    assert [from_seed(seed) for seed in reversed(range(40))] == forwards[::-1]


# --- what is drawn ------------------------------------------------------------------------------------------------------


def test_every_kind_of_statement_is_drawn(statements: list[Statement]) -> None:
    assert {s.kind for s in statements} == set(KINDS)


def test_every_op_that_may_be_drawn_is_drawn(statements: list[Statement]) -> None:
    assert set(drawn_ops(Mix())[0]) - {s.op for s in statements if s.kind in OP_KINDS} == set()


def test_every_mode_hook_and_way_to_clear_is_drawn(statements: list[Statement]) -> None:
    seen = {kind: {s.op for s in statements if s.kind == kind} for kind in ("hook", "clear_grad", "enter")}
    assert seen == {
        "hook": set(HOOK_ACTIONS),
        "clear_grad": {"none", "zero"},
        "enter": {"no_grad", "enable_grad", "inference_mode", "set_grad_enabled"},
    }


def test_modes_are_nested(programs: list[Program]) -> None:
    assert any("enter enter" in " ".join(s.kind for s in program if s.kind in ("enter", "exit")) for program in programs)


def test_every_argument_of_backward_and_grad_is_drawn(statements: list[Statement]) -> None:
    seen = {kind: {name for s in statements if s.kind == kind for name, _ in s.kwargs} for kind in ("backward", "grad")}
    assert seen == {
        "backward": {"gradient", "retain_graph", "create_graph", "inputs"},
        "grad": {"grad_outputs", "retain_graph", "create_graph", "allow_unused"},
    }


def test_every_option_of_sgd_is_drawn(statements: list[Statement]) -> None:
    seen = {name for s in statements if s.kind == "optimizer" for name, _ in s.kwargs}
    assert seen == {"lr", "momentum", "dampening", "weight_decay", "nesterov", "maximize"}


def test_literals_of_every_dtype_and_layout_are_drawn(programs: list[Program]) -> None:
    found = [literal for program in programs for literal in literals(program)]
    assert {literal.dtype for literal in found} == set(BY_NAME)
    assert any(0 in literal.strides for literal in found) and any(literal.offset for literal in found)
    assert any(0 in literal.shape for literal in found) and any(literal.shape == () for literal in found)


def test_tensors_around_the_steps_of_kernels_are_drawn(programs: list[Program]) -> None:
    sizes = Counter(n for program in programs for literal in literals(program) for n in literal.shape if n > 5)
    assert {8, 16, 32, 2048} <= set(sizes) and max(sizes) > 32_768


def test_every_pitfall_noted_has_a_name_of_the_report_and_most_are_drawn_often(programs: list[Program]) -> None:
    seen = Counter(name for program in programs for name in dict(program.notes)["pitfalls"].split(",") if name)
    assert set(seen) <= PITFALLS and all(
        seen[name] > SEEDS // 100 for name in PITFALLS - {"repetition", "dtypes", "size"}
    )  # fmt: skip


# --- shares -------------------------------------------------------------------------------------------------------------


def test_one_program_in_ten_is_observed_only_at_its_end(programs: list[Program]) -> None:
    """Five standard deviations of a share of 1/10 of 1,500 are 0.039."""
    only_end = [program for program in programs if not any(s.observe for s in program.statements[:-1])]
    assert abs(len(only_end) / SEEDS - 0.1) < 0.039 and not any(program.hooked for program in only_end)


def test_one_program_in_twenty_is_observed_throughout_without_hooks(programs: list[Program]) -> None:
    """Five standard deviations of a share of 1/20 of 1,350 are 0.03."""
    throughout = [program for program in programs if all(s.observe for s in program)]
    assert abs(sum(not program.hooked for program in throughout) / len(throughout) - 0.05) < 0.03


def test_programs_are_observed_throughout_or_at_their_end(programs: list[Program]) -> None:
    assert all({s.observe for s in program.statements[:-1]} in ({True}, {False}) and program.statements[-1].observe for program in programs)


#: error keys of what is drawn in order to raise
ILLEGAL = {"broadcast", "no_grad_fn", "dim_range", "result_cast", "hook_needs_grad"}


def errors(mix: Mix, count: int) -> list[str]:
    """The key of the error of each statement, "none" where it raises nothing."""
    return [error_key(o.raised) for seed in range(count) for o in walk(from_seed(seed, mix), Reference())]


def test_every_illegal_statement_is_drawn_and_few_statements_raise() -> None:
    seen = errors(Mix(), 300)
    assert set(seen) >= ILLEGAL and 0.01 < 1 - seen.count("none") / len(seen) < 0.25


def test_without_the_illegal_action_nobody_hooks_what_must_not_be_hooked() -> None:
    assert "hook_needs_grad" not in errors(Mix(actions=(("illegal", 0.0),)), 150)


def test_nothing_is_drawn_that_the_reference_cannot_do() -> None:
    assert not [o.unsupported for seed in range(300) for o in walk(from_seed(seed), Reference()) if o.unsupported]


# --- mixes --------------------------------------------------------------------------------------------------------------


def of_mix(mix: Mix, count: int = 60) -> list[Program]:
    return [from_seed(seed, mix) for seed in range(count)]


def test_a_pattern_draws_its_ops_in_nearly_every_program() -> None:
    mix = Mix(ops=(("log*", 1.0),))
    assert {"log", "log2", "logsumexp"} <= set(drawn_ops(mix)[0]) and all(name.startswith("log") for name in drawn_ops(mix)[0])
    assert sum(any(s.op.startswith("log") for s in program) for program in of_mix(mix)) > 50


def test_a_weight_draws_an_op_more_often_than_another() -> None:
    mix = Mix(ops=(("exp", 9.0), ("sin", 1.0)))
    seen = Counter(s.op for program in of_mix(mix) for s in program)
    assert seen["exp"] > 3 * seen["sin"] > 0


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_a_dtype_asked_for_is_nearly_all_that_floats_are_drawn_in(dtype: str) -> None:
    """An illegal statement brings its own tensor, and so do the products, whose operands have one dtype now and then two."""
    found = [one.dtype for program in of_mix(Mix(dtypes=(dtype,))) for one in literals(program) if BY_NAME[one.dtype].category == FLOAT]
    assert found.count(dtype) / len(found) > 0.9


@pytest.mark.parametrize(
    ("action", "kinds"),
    [
        ("hook", {"hook", "remove_hook"}), ("optimizer", {"optimizer", "step", "zero_grad"}), ("grad", {"grad"}),
        ("mode", {"enter", "exit"}), ("delete", {"delete"}), ("read_grad", {"read_grad"}), ("setitem", {"setitem"}),
        ("inplace", {"augmented"}), ("retain_grad", {"retain_grad"}),
    ],
)  # fmt: skip
def test_an_action_of_factor_zero_is_never_chosen(action: str, kinds: set[str]) -> None:
    """``illegal`` hooks on purpose what must not be hooked."""
    mix = Mix(actions=((action, 0.0), ("illegal", 0.0)))
    assert not [s for program in of_mix(mix) for s in program if s.kind in kinds]


def test_an_action_of_a_high_factor_is_chosen_more_often() -> None:
    def share(mix: Mix) -> int:
        return sum(s.kind in ("optimizer", "step") for program in of_mix(mix) for s in program)

    assert share(Mix(actions=(("optimizer", 14.0),))) > 2 * share(Mix())


def test_the_number_of_statements_is_bounded_by_the_mix() -> None:
    """What a drawn statement needs before it (its operands) and the end of blocks come on top."""
    few, many = of_mix(Mix(min_statements=3, max_statements=4)), of_mix(Mix(min_statements=30, max_statements=34))
    assert max(map(len, few)) < 20 < 30 <= min(map(len, many))
