"""The oracle: what is planted in the observations is what it reports, and nothing else; the reference against itself shows nothing."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from conformance.batch import Tally, first_divergence, run_and_judge, settle
from conformance.codegen import source
from conformance.divergence import Divergence
from conformance.generate.programs import from_seed
from conformance.observation import ABSENT, FACET_OF_FIELD, Observation, Raised, TensorState
from conformance.oracle.judge import HANDLERS, PRECEDENCE, Verdict, judge
from conformance.oracle.local import UNPREDICTABLE, op_name
from conformance.program import KINDS, Program, Slice, Statement
from conformance.subjects.reference import Reference
from conformance.subjects.walk import walk
from refgrad._dtypes import BY_NAME
from tests.harness.writing import do, leaf, tensor, write

REFERENCE = Reference()

#: changes what the subject showed
Tamper = Callable[[list[Observation]], object]


def verdict(program: Program, tamper: Tamper = lambda seen: None) -> Verdict:
    """The reference as the subject, its observations tampered with, against the reference."""
    seen = walk(program, REFERENCE)
    tamper(seen)
    return judge(program, "subject", seen, walk(program, REFERENCE, follow=seen))


def first(program: Program, tamper: Tamper) -> Divergence | None:
    """The first divergence of a tampered run. Untampered there is none."""
    assert verdict(program).divergences == []
    found = verdict(program, tamper).divergences
    return found[0] if found else None


def told(program: Program, tamper: Tamper) -> tuple[str, str, str, int] | None:
    """Op, facet, tensor and statement that a tampered run is reported under; None where nothing is."""
    found = first(program, tamper)
    return None if found is None else (found.key.op, found.key.facet, found.tensor, found.statement)


# --- ways to tamper -----------------------------------------------------------------------------------------------------


def value(at: int, name: str, change: Callable[[Any], Any]) -> Tamper:
    """The bits that ``name`` shows after statement ``at``; ``change`` gets a copy."""

    def tamper(seen: list[Observation]) -> None:
        before = next(o.values[name] for o in reversed(seen[: at + 1]) if name in o.values)
        seen[at].values[name] = np.asarray(change(before.copy()), before.dtype)

    return tamper


def by_ulps(count: int) -> Callable[[Any], Any]:
    """The last element moved away from zero by this many numbers of its dtype."""

    def change(array: Any) -> Any:
        flat = array.reshape(-1)
        unsigned = flat[-1:].view({2: np.int16, 4: np.int32, 8: np.int64}[flat.itemsize])
        unsigned += count
        return array

    return change


def state(at: int, name: str, **fields: Any) -> Tamper:
    """Fields of the state that ``name`` shows after statement ``at``."""

    def tamper(seen: list[Observation]) -> None:
        states = seen[at].states
        assert states is not None
        states[name] = states[name]._replace(**fields)

    return tamper


def arrival(at: int, name: str, change: Callable[[Any], Any], order: int = 1) -> Tamper:
    """What arrived at ``name`` in statement ``at``, and what flowed on."""

    def tamper(seen: list[Observation]) -> None:
        (found,) = [a for a in seen[at].arrivals if a.name == name and a.order == order]
        hooked = found.flowed is not found.value  # the same array says that no hook of the program ran
        flowed = np.asarray(change(found.flowed.copy()))
        found.value = np.asarray(change(found.value.copy()))
        found.flowed = flowed if hooked else found.value

    return tamper


def raises(at: int, error: Raised | None) -> Tamper:
    return lambda seen: setattr(seen[at], "raised", error)


def all_of(*tampers: Tamper) -> Tamper:
    return lambda seen: [tamper(seen) for tamper in tampers]


def double(array: Any) -> Any:
    return array * 2


# --- values -------------------------------------------------------------------------------------------------------------


def one_op(op: str, *args: Any, values: Any = (1.5, 2.5, 3.0), dtype: str = "float32", kind: str = "call") -> Program:
    return write(leaf("t0", values, dtype), do(kind, op, "@t0", *args, out="t1"))


#: program, by how many numbers of its dtype its result may be off, by how many it may not
ALLOWED = {
    "a sum of numbers may be off by its one rounding": (one_op("add", "@t0", values=[1.5, 3.0]), 0, 1),
    "a sum of float64 too": (one_op("add", "@t0", values=[1.5, 3.0], dtype="float64"), 0, 1),
    "and of bfloat16": (one_op("add", "@t0", values=[1.5, 3.0], dtype="bfloat16"), 0, 1),
    "and of float16": (one_op("add", "@t0", values=[1.5, 3.0], dtype="float16"), 0, 1),
    "nothing is allowed where nothing is rounded": (one_op("neg"), 0, 1),
    "nor where elements are moved": (one_op("flip", (0,)), 0, 1),
    "nor where they are chosen": (one_op("amax"), 0, 1),
    "exp has four units of the last place": (one_op("exp", values=[0.0]), 1, 3),
    "exp of float64 too": (one_op("exp", values=[0.0], dtype="float64"), 1, 3),
    "a sum is as exact as the magnitudes it adds": (one_op("sum", values=[2.0**20, -(2.0**20), 1.0]), 2**19, 2**23),
}


@pytest.mark.parametrize(("program", "inside", "outside"), ALLOWED.values(), ids=ALLOWED)
def test_a_value_within_its_allowance_is_right_and_one_beyond_is_not(program: Program, inside: int, outside: int) -> None:
    assert told(program, value(1, "t1", by_ulps(inside))) is None
    assert told(program, value(1, "t1", by_ulps(outside))) == (program.statements[1].op, "value", "t1", 1)


def test_the_evidence_holds_the_element_its_ulps_and_what_was_allowed() -> None:
    """exp(0): four unit roundoffs are two ulps of 1."""
    found = first(one_op("exp", values=[1.0, 0.0]), value(1, "t1", by_ulps(3)))
    assert found is not None
    (element,) = found.evidence.elements
    assert (element.index, float(element.exact), element.got, element.ulps) == ((1,), 1.0, repr(1 + 3 * 2.0**-23), 3.0)
    assert float(element.low) < 1 < float(element.high) < float(element.got) and 2 <= found.evidence.allowed_ulps < 2.01
    assert found.evidence.shape == (2,) and found.key.dtype == "float32" and found.order == 0


#: the exact result is 0.5, 0, inf, nan
SPECIAL = one_op("mul", 1.0, values=[0.5, 0.0, np.inf, np.nan])


@pytest.mark.parametrize(
    ("place", "wrong"),
    [
        (0, np.nan), (0, np.inf), (0, -0.5), (1, 1e-30), (2, -np.inf), (2, 3e38), (2, np.nan),
        (3, 0.0), (3, np.inf),
    ],
)  # fmt: skip
def test_what_is_not_finite_matches_only_itself(place: int, wrong: float) -> None:
    def put(array: Any) -> Any:
        array[place] = wrong
        return array

    assert told(SPECIAL, value(1, "t1", put)) == ("mul", "value", "t1", 1)


@pytest.mark.parametrize(
    "program", [one_op("log", values=[0.0]), one_op("pow", 0.5, values=[float("-inf")]), one_op("reciprocal", values=[0.0])]
)
@pytest.mark.parametrize("wrong", [float("nan"), float("-inf"), 1.0])
def test_where_the_exact_result_is_infinite_nothing_else_is_right(program: Program, wrong: float) -> None:
    right = walk(program, REFERENCE)[1].values["t1"]
    change = value(1, "t1", lambda array: np.full_like(array, -wrong if right[0] < 0 else wrong))
    assert told(program, change) == (program.statements[1].op, "value", "t1", 1)


def test_a_nan_with_another_payload_is_a_nan() -> None:
    def other(array: Any) -> Any:
        array[3] = np.array(0x7FC12345, np.uint32).view(np.float32)
        return array

    assert told(SPECIAL, value(1, "t1", other)) is None


def test_the_sign_of_zero_is_judged_where_the_op_is_exact() -> None:
    assert told(one_op("neg", values=[0.0]), value(1, "t1", np.abs)) == ("neg", "value", "t1", 1)


@pytest.mark.parametrize("dtype", ["int64", "int8", "uint8"])
def test_an_integer_is_right_or_wrong(dtype: str) -> None:
    program = write(tensor("t0", [1, 2], dtype=dtype), do("operator", "add", "@t0", 1, out="t1"))
    found = first(program, value(1, "t1", lambda array: array + 1))
    assert found is not None and (found.key.op, found.key.facet, found.key.dtype) == ("add", "value", "int")


def test_a_boolean_is_right_or_wrong() -> None:
    program = write(tensor("t0", [1.0, 2.0]), do("operator", "lt", "@t0", 1.5, out="t1"))
    found = first(program, value(1, "t1", np.logical_not))
    assert found is not None and (found.key.op, found.key.facet, found.key.dtype) == ("lt", "value", "bool")


def test_the_bits_of_a_literal_are_a_copy() -> None:
    assert told(write(leaf("t0", [1.0])), value(0, "t0", by_ulps(1))) == ("tensor", "value", "t0", 0)


@pytest.mark.parametrize("place", [0, 1])
def test_each_of_several_outputs_is_judged(place: int) -> None:
    program = write(leaf("t0", [1.0, 2.0, 3.0]), do("method", "split", "@t0", 2, out=("t1", "t2")))
    name = ("t1", "t2")[place]
    assert told(program, value(1, name, double)) == ("split", "value", name, 1)


# --- writes -------------------------------------------------------------------------------------------------------------

BASE = (leaf("t0", [[1.0, 2.0], [3.0, 4.0]]), do("operator", "mul", "@t0", 1.0, out="t1"), do("method", "select", "@t1", 0, 1, out="t2"))


@pytest.mark.parametrize(
    ("statement", "op", "target", "alias"),
    [
        (do("inplace", "mul", "@t1", 3.0), "mul", "t1", "t2"),
        (do("inplace", "mul", "@t2", 3.0), "mul", "t2", "t1"),
        (do("augmented", "add", "@t2", 3.0), "add", "t2", "t1"),
        (do("setitem", "", "@t1", 1, 7.0), "setitem", "t1", "t2"),
        (do("setitem", "", "@t2", 0, 7.0), "setitem", "t2", "t1"),
    ],
)
def test_what_was_written_is_judged_and_so_is_everybody_who_shares_the_memory(
    statement: Statement, op: str, target: str, alias: str
) -> None:
    program = write(*BASE, statement)
    assert told(program, value(3, target, double)) == (op, "value", target, 3)
    assert told(program, value(3, alias, double)) == (op, "aliasing", alias, 3)


@pytest.mark.parametrize(
    ("statement", "op"),
    [
        (do("inplace", "mul", "@t1", "@t2"), "inplace"),
        (do("augmented", "mul", "@t1", "@t2"), "inplace"),
        (do("setitem", "", "@t1", Slice(None, None, None), "@t2"), "inplace"),
        (do("inplace", "mul", "@t1", "@t1"), "mul"),
        (do("inplace", "mul", "@t1", "@t3"), "mul"),
        (do("inplace", "index_copy", "@t1", 0, "@t4", "@t2"), "inplace"),
    ],
)
def test_a_write_into_memory_that_is_read_is_the_fault_of_writing_in_place(statement: Statement, op: str) -> None:
    """Where an elementwise kernel reads just what it writes, it is the op's; and so it is where nothing is shared."""
    memory = tensor("t0", np.arange(1.0, 10.0))
    views = [do("call", "as_strided", "@t0", shape, (2,), at, out=f"t{n}") for n, shape, at in ((1, (3,), 2), (2, (3,), 0), (3, (3,), 1))]
    program = write(memory, *views, tensor("t4", [0, 1, 2], dtype="int64"), statement)
    seen = walk(program, REFERENCE)
    value(5, "t1", lambda array: array * 2 + 1)(seen)
    found = judge(program, "subject", seen, walk(program, REFERENCE, follow=seen)).divergences[0]
    assert (found.key.op, found.key.facet, found.tensor) == (op, "value", "t1")


def test_a_write_that_others_do_not_see_is_aliasing() -> None:
    program = write(*BASE, do("inplace", "mul", "@t2", 3.0))
    assert told(program, lambda seen: seen[3].values.pop("t1")) == ("mul", "aliasing", "t1", 3)


@pytest.mark.parametrize(
    "statement", [do("call", "exp", "@t1", out="t3"), do("inplace", "mul", "@t1", 3.0), do("detach", "", "@t1", out="t3")]
)
def test_nobody_elses_value_changes(statement: Statement) -> None:
    assert told(write(*BASE, statement), value(3, "t0", double)) == (op_name(statement), "aliasing", "t0", 3)


def test_a_statement_that_raises_changes_nothing() -> None:
    program = write(*BASE, do("inplace", "add", "@t1", "@t0"), do("method", "view", "@t1", 9, out="t3"))
    found = first(program, value(4, "t1", double))
    assert (
        found is not None
        and (found.key.facet, found.tensor, found.statement) == ("aliasing", "t1", 4)
        and "raises" in found.evidence.reason
    )


@pytest.mark.parametrize(("kind", "source_name"), [("detach", "t1"), ("read_grad", "t0")])
def test_an_alias_shows_the_bits_that_it_aliases(kind: str, source_name: str) -> None:
    program = write(*BASE[:2], do("method", "sum", "@t1", out="t2"), do("backward", "", "@t2"), do(kind, "", f"@{source_name}", out="t3"))
    assert told(program, value(4, "t3", double)) == (kind, "value", "t3", 4)


# --- gradients ----------------------------------------------------------------------------------------------------------

#: t0 → exp → t1 → sum → t2 → backward
CHAIN = write(
    leaf("t0", [0.0, 1.0, 2.0]), do("call", "exp", "@t0", out="t1"), do("method", "sum", "@t1", out="t2"), do("backward", "", "@t2")
)  # fmt: skip


@pytest.mark.parametrize(("name", "op"), [("t0", "exp"), ("t1", "sum"), ("t2", "backward")])
def test_a_gradient_is_the_fault_of_the_op_that_sent_it(name: str, op: str) -> None:
    assert told(CHAIN, arrival(3, name, double)) == (op, "grad", f"{name}@0", 3)


#: gradient of t0: what it is by IEEE arithmetic, what else is right, and what is not
ZERO_TIMES_INFINITE = {
    "an infinity through a zero slope": (
        [leaf("t0", [0.0, 0.0]), do("call", "prod", "@t0", out="t1"), do("call", "rsqrt", "@t1", out="t2")], [0.0, 1.0, np.inf],
    ),
    "a zero through a slope that is none": (
        [leaf("t0", 0.0), do("call", "acosh", "@t0", out="t1"), do("call", "sgn", "@t1", out="t2")], [0.0, 1.0],
    ),
    "an infinity, and one through a zero slope": (
        [leaf("t0", [0.0, 0.0]), do("call", "cumprod", "@t0", 0, out="t1"), do("call", "reciprocal", "@t1", out="t3"),
         do("call", "sum", "@t3", out="t2")], [-np.inf, 0.0, np.inf],
    ),
    "a NaN through a slope that is not zero": (
        [leaf("t0", 1.0), do("call", "exp", "@t0", out="t1"), do("call", "mul", "@t1", float("nan"), out="t2")], [np.nan, 0.0, 1.0],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ZERO_TIMES_INFINITE)
def test_zero_times_something_not_finite_is_nothing_or_nan_and_no_number(name: str) -> None:
    statements, (right, *wrong) = ZERO_TIMES_INFINITE[name]
    program = write(*statements, do("backward", "", "@t2"))

    def shows(number: float) -> Tamper:
        def change(array: Any) -> Any:
            array.reshape(-1)[0] = number
            return array

        return arrival(len(statements), "t0", change)

    def told_here(number: float) -> bool:
        return any(d.key.facet == "grad" for d in verdict(program, shows(number)).divergences)

    assert not told_here(np.nan) and not told_here(right)
    assert all(told_here(number) for number in wrong)


def test_a_backward_that_raises_at_an_inference_gradient_may_leave_it_as_it_was() -> None:
    program = write(leaf("t0", 1.0), do("enter", "inference_mode"), do("backward", "", "@t0"), do("exit"), do("backward", "", "@t0"))
    assert verdict(program).divergences == []


def test_gradients_in_one_memory_are_zeroed_together() -> None:
    program = write(
        leaf("t0", [0.0]), leaf("t1", [1.0]), do("call", "cat", ("@t0", "@t1"), out="t2"), do("backward", "", "@t2", gradient="@t2"),
        do("optimizer", "SGD", ("@t0", "@t1"), out="o0"), do("zero_grad", "", "@o0", set_to_none=False),
    )  # fmt: skip
    assert verdict(program).divergences == []


def test_whether_a_gradient_is_a_view_is_the_engines_affair_and_its_views_show_that() -> None:
    program = write(
        leaf("t0", [1.0, 2.0]), do("call", "exp", "@t0", out="t1"), do("grad", "", "@t1", "@t0", grad_outputs="@t1", out="t2"),
        do("method", "view", "@t2", 2, out="t3"), do("method", "view", "@t1", 2, out="t4"),
    )  # fmt: skip
    assert first(program, state(3, "t3", base="unnamed")) is None
    assert told(program, state(4, "t4", base="unnamed")) == ("view", "aliasing", "t4", 4)


def test_an_unstable_sort_may_choose_any_order_of_equal_elements_and_its_gradient_follows() -> None:
    program = write(leaf("t0", [2.0, 1.0, 1.0]), do("call", "sort", "@t0", out=("t1", "t2")), do("backward", "", "@t1", gradient="@t1"))

    def chooses(order: list[int], gradient: list[float]) -> Tamper:
        def tamper(seen: list[Observation]) -> None:
            value(1, "t2", lambda indices: np.array(order))(seen)
            arrival(2, "t0", lambda g: np.array(gradient, g.dtype))(seen)
            arrival(2, "t1", lambda g: np.array([10.0, 20.0, 30.0], g.dtype))(seen)

        return tamper

    def facets(order: list[int], gradient: list[float]) -> set[tuple[str, str, str]]:
        return {(d.key.op, d.key.facet, d.tensor) for d in verdict(program, chooses(order, gradient)).divergences}

    assert ("sort", "grad", "t0@0") not in facets([2, 1, 0], [30.0, 20.0, 10.0])
    assert ("sort", "grad", "t0@0") in facets([2, 1, 0], [30.0, 10.0, 20.0])
    assert ("sort", "value", "t2") in facets([1, 1, 0], [30.0, 10.0, 20.0])
    assert ("sort", "value", "t2") in facets([0, 1, 2], [10.0, 20.0, 30.0])


def test_a_gradient_within_its_allowance_is_right_and_one_beyond_is_not() -> None:
    """What arrives at t0 is exp's result times one; so is ``.grad``, which must be what arrived, bit for bit."""

    def off(count: int) -> Tamper:
        return all_of(arrival(3, "t0", by_ulps(count)), value(3, "t0.grad", by_ulps(count)))

    assert told(CHAIN, off(1)) is None and told(CHAIN, off(8)) == ("exp", "grad", "t0@0", 3)


def test_a_gradient_that_never_came_is_missing() -> None:
    def lose(seen: list[Observation]) -> None:
        seen[3].arrivals = [a for a in seen[3].arrivals if a.name not in ("t0", "t1")]

    assert told(CHAIN, lose) == ("sum", "grad", "t1@0", 3)


def test_where_a_gradient_went_through_and_only_its_hook_kept_silent_the_hook_is_at_fault() -> None:
    def lose(seen: list[Observation]) -> None:
        seen[3].arrivals = [a for a in seen[3].arrivals if a.name != "t1"]

    assert told(CHAIN, lose) == ("hook", "grad", "t1@0", 3)


def test_a_gradient_that_came_where_none_was_sent_is_one_too_many() -> None:
    program = write(*CHAIN.statements[:3], leaf("t9", [1.0]), do("backward", "", "@t2"))

    def add(seen: list[Observation]) -> None:
        (found,) = [a for a in seen[4].arrivals if a.name == "t0"]
        seen[4].arrivals.append(replace(found, name="t9"))

    assert told(program, add) == ("backward", "grad", "t9@0", 4)


def test_a_gradient_of_another_shape_or_dtype_is_wrong() -> None:
    assert told(CHAIN, arrival(3, "t0", lambda array: array[:1])) == ("exp", "grad", "t0@0", 3)
    assert told(CHAIN, arrival(3, "t0", lambda array: array.astype(np.float64))) == ("exp", "grad", "t0@0", 3)


def test_the_gradient_of_a_tensor_used_twice_is_the_sum() -> None:
    program = write(
        leaf("t0", [3.0]), do("operator", "mul", "@t0", "@t0", out="t1"), do("operator", "add", "@t1", "@t0", out="t2"),
        do("backward", "", "@t2"),
    )  # fmt: skip
    assert told(program, arrival(3, "t0", lambda array: array - 1))[1:] == ("grad", "t0@0", 3)  # type: ignore[index]


def test_the_gradient_before_a_write_is_judged_by_the_write() -> None:
    program = write(
        leaf("t0", [3.0]), do("operator", "mul", "@t0", 5.0, out="t1"), do("inplace", "sin", "@t1"), do("method", "sum", "@t1", out="t2"),
        do("backward", "", "@t2"),
    )  # fmt: skip

    def scale(seen: list[Observation]) -> None:
        (found,) = [a for a in seen[4].arrivals if (a.name, a.slot) == ("t1", 0)]
        found.value = found.flowed = found.value * 2

    assert told(program, scale) == ("sin", "grad", "t1@0", 4)


#: t0 → pow → t1 → sum → t2 → grad (create_graph) → g → sum → s → backward
SECOND = write(
    leaf("t0", [1.0, 2.0]), do("operator", "pow", "@t0", 3.0, out="t1"), do("method", "sum", "@t1", out="t2"),
    do("grad", "", "@t2", "@t0", create_graph=True, out="g"), do("method", "sum", "@g", out="s"), do("backward", "", "@s"),
)  # fmt: skip


def test_a_second_derivative_is_the_fault_of_the_op_that_was_derived_and_of_its_order() -> None:
    found = first(SECOND, arrival(5, "t0", double))
    assert found is not None and (found.key.op, found.key.facet, found.tensor, found.statement) == ("pow", "grad", "t0@0", 5)


@pytest.mark.parametrize(("op", "limit"), [("huber_loss", "delta"), ("smooth_l1_loss", "beta")])
def test_where_a_rounding_decides_the_side_of_a_kink_either_slope_is_right(op: str, limit: str) -> None:
    """0.998 is the distance, 1 when rounded to bfloat16."""
    for at, wrong in ((1.0, []), (2.0, [0.0])):
        program = write(
            leaf("t0", -0.617, "bfloat16"),
            tensor("t1", 0.38, dtype="bfloat16"),
            do("call", op, "@t0", "@t1", out="t2", **{limit: at}),
            do("grad", "", "@t2", "@t0", out="t3", create_graph=True),
            do("backward", "", "@t3"),
        )
        for slope in (0.0, 0.5 if (limit, at) == ("beta", 2.0) else 1.0):
            found = verdict(program, arrival(4, "t0", lambda array, slope=slope: np.full_like(array, slope))).divergences
            assert any(d.key.facet == "grad" for d in found) == (slope in wrong), (at, slope)


def test_a_result_that_is_also_the_incoming_gradient_is_no_second_derivative_that_could_be_told() -> None:
    """Its own share flows to the op's inputs too, and is not seen apart."""
    program = write(
        leaf("t0", [0.9, 0.4]),
        do("call", "binary_cross_entropy", "@t0", "@t0", out="t1", reduction="none"),
        do("call", "flip", "@t1", (0,), out="t2"),
        do("grad", "", "@t2", "@t0", out="t3", grad_outputs="@t2", create_graph=True),
        do("call", "sum", "@t3", out="t4"),
        do("backward", "", "@t4"),
    )
    assert verdict(program).divergences == []


def test_a_wrong_sum_names_every_op_that_sent_a_part_of_it() -> None:
    program = write(
        leaf("t0", [2.0]), do("call", "exp", "@t0", out="t1"), do("call", "mul", "@t0", "@t1", out="t2"), do("backward", "", "@t2")
    )
    found = first(program, arrival(3, "t0", double))
    assert found is not None and {found.key.op, *found.attributes["suspects"].split()} == {"exp", "mul"}


def test_where_what_flowed_at_a_result_is_as_it_should_be_the_op_itself_is_to_blame() -> None:
    program = write(
        leaf("t0", [2.0]),
        do("call", "exp", "@t0", out="t1"),
        do("grad", "", "@t1", "@t1", out="t2", create_graph=True),
        do("call", "sum", "@t1", out="t3"),
        do("backward", "", "@t3"),
    )
    assert told(program, arrival(4, "t0", double)) == ("exp", "grad", "t0@0", 4)


def test_what_grad_returns_is_what_arrived() -> None:
    program = write(*CHAIN.statements[:3], do("grad", "", "@t2", "@t0", out="g"))
    assert told(program, value(3, "g", by_ulps(1))) == ("grad", "grad", "g", 3)


# --- accumulation -------------------------------------------------------------------------------------------------------

#: two backwards into one .grad
TWICE = write(
    leaf("t0", [1.0, 2.0]), do("operator", "mul", "@t0", 3.0, out="t1"), do("method", "sum", "@t1", out="t2"),
    do("backward", "", "@t2", retain_graph=True), do("backward", "", "@t2"),
)  # fmt: skip


def test_a_gradient_that_was_overwritten_is_no_accumulation() -> None:
    assert told(TWICE, value(4, "t0.grad", lambda array: array / 2)) == ("backward", "accumulation", "t0.grad", 4)


def test_a_gradient_that_stayed_as_it_was_is_no_accumulation() -> None:
    assert told(TWICE, lambda seen: seen[4].values.pop("t0.grad")) == ("backward", "accumulation", "t0.grad", 4)


def test_a_first_gradient_is_what_arrived() -> None:
    assert told(TWICE, value(3, "t0.grad", by_ulps(1))) == ("backward", "accumulation", "t0.grad", 3)


def test_a_gradient_where_nothing_arrived_stays() -> None:
    others = leaf("t8", [1.0]), do("method", "sum", "@t8", out="t9"), do("backward", "", "@t9")
    assert told(write(*TWICE.statements[:4], *others), value(6, "t0.grad", double)) == ("backward", "accumulation", "t0.grad", 6)


def test_a_gradient_that_is_not_there_is_missing() -> None:
    def lose(seen: list[Observation]) -> None:
        assert seen[3].states is not None
        del seen[3].states["t0.grad"], seen[3].values["t0.grad"]

    assert told(TWICE, lose) == ("backward", "accumulation", "t0.grad", 3)


def test_a_gradient_that_should_not_be_there_is_one_too_many() -> None:
    def add(seen: list[Observation]) -> None:
        assert seen[3].states is not None
        seen[3].states["t1.grad"] = seen[3].states["t0.grad"]

    assert told(TWICE, add) == ("backward", "accumulation", "t1.grad", 3)


def test_a_gradient_in_a_new_object_has_another_identity() -> None:
    assert told(TWICE, state(4, "t0.grad", identity=2)) == ("backward", "grad_identity", "t0.grad", 4)


def test_a_cleared_gradient_is_zero_or_gone() -> None:
    program = write(*TWICE.statements[:4], do("clear_grad", "zero", "@t0"))
    assert told(program, lambda seen: seen[4].values.pop("t0.grad")) == ("clear_grad", "value", "t0.grad", 4)


# --- hooks --------------------------------------------------------------------------------------------------------------


def test_what_a_hook_of_the_program_returns_is_what_accumulates() -> None:
    program = write(CHAIN.statements[0], do("hook", "double", "@t0", out="h"), *CHAIN.statements[1:])
    assert told(program, value(4, "t0.grad", lambda array: array / 2)) == ("backward", "accumulation", "t0.grad", 4)


def test_after_a_hook_that_wrote_in_place_only_state_is_judged() -> None:
    program = write(CHAIN.statements[0], do("hook", "inplace", "@t0", out="h"), *CHAIN.statements[1:])
    assert told(program, value(4, "t0.grad", double)) is None
    assert told(program, state(4, "t0.grad", version=5)) == ("backward", "version", "t0.grad", 4)


# --- optimizer ----------------------------------------------------------------------------------------------------------

STEP = write(
    leaf("t0", [1.0, 2.0]), do("method", "sum", "@t0", out="t1"), do("backward", "", "@t1"),
    do("optimizer", "SGD", ("@t0",), lr=0.5, momentum=0.9, nesterov=True, out="o"), do("step", "", "@o"), do("step", "", "@o"),
)  # fmt: skip


@pytest.mark.parametrize("at", [4, 5])
def test_each_step_of_an_optimizer_is_the_documented_one(at: int) -> None:
    assert told(STEP, value(at, "t0", by_ulps(16))) == ("SGD", "value", "t0", at)


TWO_NAMES = [
    leaf("t0", [1.0, 2.0]), do("method", "to", "@t0", out="t1"), do("method", "exp", "@t0", out="t2"), do("method", "sum", "@t2", out="t3"),
    do("backward", "", "@t3"),
]  # fmt: skip


@pytest.mark.parametrize("hooked", [True, False])
@pytest.mark.parametrize("params", [("@t0", "@t1"), ("@t0", "@t0"), ("@t1", "@t0", "@t1")])
@pytest.mark.parametrize("momentum", [0, 0.9])
@pytest.mark.filterwarnings("ignore:optimizer contains")
def test_a_parameter_that_is_given_twice_steps_twice(hooked: bool, params: tuple[str, ...], momentum: float) -> None:
    made = do("optimizer", "SGD", params, lr=0.5, momentum=momentum, out="o")
    steps = [do("step", "", "@o")] * 3
    program = write(*TWO_NAMES, made, *steps, hooked=hooked)
    for at in (6, 7, 8):
        assert told(program, lambda seen, at=at: [value(at, n, by_ulps(64))(seen) for n in ("t0", "t1")]) == (
            "SGD",
            "value",
            params[0][1:],
            at,
        )


@pytest.mark.parametrize("gone", ["t0", "t1"])
@pytest.mark.filterwarnings("ignore:optimizer contains")
def test_a_parameter_that_lost_one_of_its_names_is_not_judged(gone: str) -> None:
    made = do("optimizer", "SGD", ("@t0", "@t1"), lr=0.5, out="o")
    program = write(*TWO_NAMES, made, do("step", "", "@o"), do("delete", "", f"@{gone}"), do("step", "", "@o"))
    assert verdict(program).divergences == []


def test_parameters_that_share_memory_step_one_after_the_other() -> None:
    program = write(
        leaf("t0", [1.0, 2.0]), do("detach", "", "@t0", out="t1"), do("requires_grad_", "", "@t1", True),
        do("method", "mul", "@t0", "@t1", out="t2"), do("method", "sum", "@t2", out="t3"), do("backward", "", "@t3"),
        do("optimizer", "SGD", ("@t0", "@t1"), lr=0.5, momentum=0.9, out="o"), do("step", "", "@o"), do("step", "", "@o"),
    )  # fmt: skip
    assert verdict(program).divergences == []


def test_a_gradient_that_the_optimizer_cleared_in_place_is_zero() -> None:
    program = write(*STEP.statements[:4], do("zero_grad", "", "@o", set_to_none=False))
    assert told(program, lambda seen: seen[4].values.pop("t0.grad")) == ("zero_grad", "value", "t0.grad", 4)


# --- what a difference is put down to ---------------------------------------------------------------------------------


class Careless(Reference):
    """Its clone requires grad whatever it is a clone of, so that what is made of it does too."""

    def function(self, op: str) -> Callable[..., Any]:
        right = super().function(op)
        return (lambda *args, **kwargs: right(*args, **kwargs).requires_grad_()) if op == "clone" else right


def unwatched(*statements: Statement) -> Program:
    """Nobody looks before the last statement."""
    return write(*[replace(s, observe=False) for s in statements[:-1]], statements[-1])


def test_what_follows_from_a_state_that_nobody_looked_at_is_put_down_to_what_made_it() -> None:
    program = unwatched(tensor("t0", [1.0, 2.0]), do("call", "clone", "@t0", out="t1"), do("method", "exp", "@t1", out="t2"))
    (found, *_) = run_and_judge(program, Careless()).divergences
    assert (found.key.op, found.statement) == ("exp", 2)
    cause = first_divergence(program, Careless())
    assert cause is not None
    assert (cause.key.op, cause.key.facet, cause.statement) == ("clone", "requires_grad", 1)
    settled = settle(found, Careless(), 7)
    assert (settled.key.op, settled.key.facet, settled.seed, settled.original) == ("clone", "requires_grad", 7, program)
    assert len(settled.program) == 2


def inference_program(*statements: Statement) -> Program:
    return write(
        do("enter", "inference_mode"), leaf("t0", [1.0, 2.0]), tensor("t1", [3.0, 4.0]), do("exit"), leaf("t2", [5.0, 6.0]), *statements
    )


@pytest.mark.parametrize(
    ("statement", "op"),
    [
        (do("method", "exp", "@t0", out="t3"), "inference_mode"),
        (do("method", "add", "@t1", "@t0", out="t3"), "inference_mode"),
        (do("method", "exp", "@t1", out="t3"), "exp"),
        (do("method", "add", "@t0", "@t2", out="t3"), "add"),
    ],
)
def test_autograd_of_inference_tensors_alone_is_put_down_to_the_mode(statement: Statement, op: str) -> None:
    program = inference_program(statement)
    changed = state(5, "t3", requires_grad=op != "add")
    assert told(program, changed) == (op, "requires_grad", "t3", 5)
    assert told(program, value(5, "t3", double)) == (statement.op, "value", "t3", 5)


# --- errors -------------------------------------------------------------------------------------------------------------

AGAIN = write(*CHAIN.statements, do("backward", "", "@t2"))


@pytest.mark.parametrize(
    ("program", "at", "error", "key"),
    [
        (AGAIN, 4, None, "none"),
        (AGAIN, 4, Raised("ValueError", "Trying to backward through the graph a second time"), "ValueError"),
        (AGAIN, 4, Raised("RuntimeError", "grad can be implicitly created only for scalar outputs"), "implicit_scalar"),
        (CHAIN, 3, Raised("RuntimeError", "grad can be implicitly created only for scalar outputs"), "implicit_scalar"),
        (CHAIN, 1, Raised("RuntimeError", "no"), "RuntimeError"),
    ],
)
def test_an_error_that_is_missing_another_or_one_too_many_is_told_by_its_key(
    program: Program, at: int, error: Raised | None, key: str
) -> None:
    found = first(program, raises(at, error))
    assert found is not None and (found.key.op, found.key.facet, found.statement) == (op_name(program.statements[at]), "error", at)
    assert found.key.error.startswith(key) or found.key.error == key


def test_the_words_of_an_error_may_differ_in_their_parts() -> None:
    program = write(leaf("t0", [1.0, 2.0]), do("method", "view", "@t0", 9, out="t1"))
    assert told(program, raises(1, Raised("RuntimeError", "shape '[9]' is invalid for input of size 77"))) is None


# --- state --------------------------------------------------------------------------------------------------------------

#: t1 is a view of t0's product, neither square nor contiguous; t2 a gradient of it
STATED = write(
    leaf("t0", [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), do("operator", "mul", "@t0", 2.0, out="t1"), do("method", "t", "@t1", out="t2"),
)  # fmt: skip
OTHER = {
    "dtype": "float64", "shape": (2, 3), "strides": (2, 1), "offset": 1, "alias": "t2", "base": None, "requires_grad": False,
    "is_leaf": True,
    "grad_fn": "OtherBackward0", "output_nr": 1, "retains_grad": True, "is_inference": True, "version": 1, "identity": 2,
}  # fmt: skip


def test_every_field_of_a_state_is_tampered_with_here() -> None:
    assert set(OTHER) == set(TensorState._fields) == set(FACET_OF_FIELD)


@pytest.mark.parametrize("field", OTHER)
def test_every_field_of_a_state_is_compared_exactly_and_told_by_its_facet(field: str) -> None:
    assert told(STATED, state(2, "t2", **{field: OTHER[field]})) == ("t", FACET_OF_FIELD[field], "t2", 2)


@pytest.mark.parametrize("field", OTHER)
def test_a_field_that_a_subject_cannot_show_is_not_compared(field: str) -> None:
    assert told(STATED, state(2, "t2", **{field: ABSENT})) is None


def test_a_version_that_was_not_bumped_is_told() -> None:
    program = write(*STATED.statements, do("inplace", "mul", "@t1", 2.0))
    assert told(program, state(3, "t2", version=0)) == ("mul", "version", "t2", 3)


def test_a_flag_that_was_not_set_is_told() -> None:
    program = write(tensor("t0", [1.0]), do("requires_grad_", "", "@t0", True))
    assert told(program, state(1, "t0", requires_grad=False)) == ("requires_grad_", "requires_grad", "t0", 1)


def test_a_tensor_that_is_not_there_is_told() -> None:
    def lose(seen: list[Observation]) -> None:
        assert seen[2].states is not None
        del seen[2].states["t2"]

    found = first(STATED, lose)
    assert found is not None and (found.key.op, found.key.facet, found.tensor) == ("t", "error", "t2")


def test_strides_of_dims_of_one_element_address_nothing() -> None:
    program = write(leaf("t0", [[1.0, 2.0]]), do("operator", "mul", "@t0", 2.0, out="t1"))
    assert told(program, state(1, "t1", strides=(17, 1))) is None
    assert told(program, state(1, "t1", strides=(2, 3))) == ("mul", "strides", "t1", 1)


# --- what is reported first, and where it stops -------------------------------------------------------------------------


def test_the_facet_that_explains_the_others_is_told() -> None:
    tampers = {
        "dtype": state(1, "t1", dtype="float64"), "value": value(1, "t1", double), "requires_grad": state(1, "t1", requires_grad=False),
        "version": state(1, "t1", version=4), "strides": state(1, "t1", strides=(1, 2)),
    }  # fmt: skip
    program = STATED.slice_before(2)
    facets = [told(program, all_of(*list(tampers.values())[start:]))[1] for start in range(len(tampers))]  # type: ignore[index]
    assert facets == ["dtype", "requires_grad", "requires_grad", "version", "strides"] and set(facets) <= set(PRECEDENCE)


def test_nothing_after_the_first_wrong_statement_is_told() -> None:
    found = verdict(CHAIN, all_of(value(1, "t1", double), value(2, "t2", double), arrival(3, "t0", double))).divergences
    assert {divergence.statement for divergence in found} == {1}


def test_what_a_subject_cannot_do_ends_the_judging_without_a_finding() -> None:
    def cannot(seen: list[Observation]) -> None:
        seen[1].unsupported = "no kernel"
        seen[2].values["t2"] = seen[2].values["t2"] * 2

    result = verdict(CHAIN, cannot)
    assert (result.divergences, result.unsupported, result.states) == ([], 1, 1)


def test_every_kind_that_shows_values_has_a_judge() -> None:
    """The others are judged by the state that they leave."""
    assert set(KINDS) - set(HANDLERS) == {"remove_hook", "retain_grad", "requires_grad_", "enter", "exit", "delete"}


# --- what is counted ----------------------------------------------------------------------------------------------------


def test_what_was_compared_is_counted_by_op_dtype_facet_and_layout() -> None:
    found = verdict(CHAIN)
    assert dict(found.coverage) == {
        ("exp", "float32", "value", "contiguous"): 1, ("sum", "float32", "value", "contiguous"): 1,
        ("backward", "float32", "grad", "contiguous"): 1, ("sum", "float32", "grad", "contiguous"): 1,
        ("exp", "float32", "grad", "contiguous"): 1, ("backward", "float32", "accumulation", "contiguous"): 1,
    }  # fmt: skip
    assert found.elements == 3 + 1 + 1 + 3 + 3 + 3 and found.inconclusive == 0


def test_a_layout_is_that_of_the_operands() -> None:
    program = write(leaf("t0", [[1.0, 2.0], [3.0, 4.0]]), do("method", "t", "@t0", out="t1"), do("call", "exp", "@t1", out="t2"))
    assert [key[3] for key in verdict(program).coverage] == ["contiguous", "strided"]


def test_a_value_that_cancelled_is_inconclusive_and_never_a_pass() -> None:
    """The sum is 1 and each of what it adds is only known to some 2**10."""
    program = write(leaf("t0", [2.0**34, -(2.0**34), 1.0]), do("method", "sum", "@t0", out="t1"))
    found = verdict(program)
    assert (found.inconclusive, found.divergences) == (1, []) and ("sum", "float32", "value", "contiguous") not in found.coverage


def test_a_program_in_which_nothing_was_compared_is_skipped() -> None:
    tally = Tally()
    tally.add(CHAIN, Verdict())
    assert (tally.programs, tally.judged, dict(tally.skipped)) == (1, 0, {"nothing in it could be compared": 1})


# --- drawn programs -----------------------------------------------------------------------------------------------------

DRAWN = 300


@pytest.mark.parametrize("part", range(4))
def test_the_reference_against_itself_shows_no_divergence(part: int) -> None:
    seeds = range(part, DRAWN, 4)
    wrong = {seed: f"{found[0].title()}\n{source(from_seed(seed))}" for seed in seeds if (found := verdict(from_seed(seed)).divergences)}
    assert not wrong, "\n\n".join(f"seed {seed}: {text}" for seed, text in wrong.items())


def an_output(program: Program, seen: list[Observation]) -> tuple[int, str] | None:
    """The last statement of an op with a float output whose squares are finite, and that output: where they are not, a kernel may overflow
    on the way, so nothing is told.
    """
    for index in range(len(program) - 1, -1, -1):
        s = program.statements[index]
        if s.kind not in ("call", "method", "operator", "getitem") or s.op in UNPREDICTABLE or seen[index].raised:
            continue
        for name in s.out:
            bits = seen[index].values.get(name)
            if bits is not None and bits.size and bits.dtype in (np.float32, np.float64) and np.isfinite(bits**2).all():
                return index, name
    return None


def missed(seeds: range) -> list[str]:
    """Drawn programs whose planted wrong output is not told as exactly what it is, as text; and how many were planted in at all."""
    wrong, planted = [], 0
    for seed in seeds:
        program = from_seed(seed)
        place = an_output(program, seen := walk(program, REFERENCE))
        if place is None or not program.statements[0].observe or any(o.unsupported for o in seen[: place[0] + 1]):
            continue
        planted += 1
        index, name = place
        found = verdict(program, value(index, name, lambda array: array / 4 - 1)).divergences
        got = (found[0].key.op, found[0].key.facet, found[0].statement) if found else None
        if got != (op_name(program.statements[index]), "value", index):
            wrong.append(f"seed {seed}: {name} after statement {index} was changed, told was {got}\n{source(program)}")
    assert planted > len(seeds) // 2
    return wrong


def test_a_wrong_output_of_a_drawn_program_is_told_as_that_ops_value() -> None:
    assert missed(range(150)) == []


def plant_arrival(seed: int) -> tuple[str, list[tuple[str, int]], int] | None:
    """One gradient of a drawn program's first backward tampered with: the program's text, what was told first, at which statement."""
    program = from_seed(seed)
    seen = walk(program, REFERENCE)
    index = next((i for i, s in enumerate(program) if s.kind == "backward" and not seen[i].raised and seen[i].arrivals), None)
    if index is None or any(s.op == "inplace" or s.keyword("create_graph") for s in program.statements[: index + 1]):
        return None  # such a hook, or a gradient's own graph, leaves it to the engine how gradients are computed
    place = seed % len(seen[index].arrivals)
    if seen[index].arrivals[place].value.size == 0 or any(o.unsupported for o in seen[: index + 1]):
        return None

    def change(seen: list[Observation]) -> None:
        found = seen[index].arrivals[place]
        hooked = found.flowed is not found.value
        found.value = np.asarray(found.value / 4 - 1, found.value.dtype)
        found.flowed = found.value.copy() if hooked else found.value

    return source(program), [(d.key.facet, d.statement) for d in verdict(program, change).divergences[:1]], index


def test_a_wrong_gradient_of_a_drawn_program_is_told_as_a_gradient_there_or_rarely_not_at_all() -> None:
    """Not at all, or only by the sum it goes into: where it is not finite, its ball is wide, or an earlier write cannot be followed."""
    planted = [found for seed in range(300) if (found := plant_arrival(seed))]
    missed = [found for found in planted if found[1] in ([], [("accumulation", found[2])])]
    misnamed = [found for found in planted if found not in missed and found[1] != [("grad", found[2])]]
    assert len(planted) > 100 and misnamed == [] and len(missed) * 25 < len(planted)


def test_what_arrives_in_a_backward_that_creates_a_graph_is_judged_like_in_any_other() -> None:
    program = write(*CHAIN.statements[:3], do("backward", "", "@t2", create_graph=True))
    assert told(program, arrival(3, "t1", double)) == ("sum", "grad", "t1@0", 3)


def test_a_dtype_class_is_the_dtype_of_floats_and_the_kind_of_others() -> None:
    program = write(*[tensor(f"t{n}", [1], dtype=name) for n, name in enumerate(BY_NAME)])
    classes = {
        name: found.key.dtype
        for n, name in enumerate(BY_NAME)
        if (found := first(program, value(n, f"t{n}", lambda array: array + (array == 1))))
    }
    expected = {"bool": "bool"} | {name: name if "float" in name else "int" for name in BY_NAME if name != "bool"}
    assert classes == {name: expected[name] for name in classes} and set(BY_NAME) - set(classes) <= {"bool"}
