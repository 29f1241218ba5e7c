"""The minimizer alone: predicates over programs stand in for divergences, so the exact minimal program is known."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.codegen import lines
from conformance.minimize import NotInteresting, minimize
from conformance.minimize.edits import canonical_names
from conformance.minimize.literals import (
    cast,
    contiguous,
    decode,
    dense,
    drop_dim,
    elements,
    encode,
    from_elements,
    keep,
    laid_out,
    shifted,
    with_elements,
)
from conformance.minimize.passes import cut_the_end, use_earlier_names
from conformance.minimize.simplicity import DTYPES, oddness, simpler_numbers, simplicity
from conformance.program import ITEMSIZE, DType, Literal, Program, Ref, Slice, Statement

Predicate = Callable[[Program], bool]


# --- helpers -----------------------------------------------------------------------------------------------------------


def floats(*values: float, shape: tuple[int, ...] | None = None) -> Literal:
    return from_elements("float32", (len(values),) if shape is None else shape, [struct.pack("<f", v) for v in values])


def ints(*values: int) -> Literal:
    return from_elements("int64", (len(values),), [struct.pack("<q", v) for v in values])


def tensor(name: str, literal: Literal, **kwargs: bool) -> Statement:
    return Statement("tensor", "", (literal,), tuple(kwargs.items()), (name,))


def call(out: str, op: str, *args: object, kind: str = "call", **kwargs: object) -> Statement:
    return Statement(kind, op, tuple(Ref(a) if isinstance(a, str) else a for a in args), tuple(kwargs.items()), (out,) if out else ())


def program(*statements: Statement) -> Program:
    return Program(statements)


def code(found: Program) -> list[str]:
    return [text for _, text in lines(found)]


def literal_arguments(p: Program, op: str) -> Iterator[Literal]:
    """The literals that calls of ``op`` read."""
    bound = {s.out[0]: s.args[0] for s in p if s.kind == "tensor"}
    for s in p:
        if s.op == op:
            yield from (bound[name] for name in s.refs() if name in bound)


def calls(*ops: str) -> Predicate:
    """Those ops stand in the program, in that order."""
    return lambda p: tuple(s.op for s in p if s.op in ops) == ops


def minimal(p: Program, is_interesting: Predicate, budget: int = 400) -> list[str]:
    return code(minimize(p, is_interesting, budget=budget))


LONG = program(
    tensor("x", floats(*(0.1 * i for i in range(6)), math.nan, 1.5, -2.0, -0.0, 1e-40, 7.25, shape=(3, 4)), requires_grad=True),
    tensor("y", floats(*(0.3 * i + 0.1 for i in range(12)), shape=(3, 4))),
    Statement("enter", "no_grad"),
    call("z", "mul", "y", 2.5, kind="operator"),
    Statement("exit"),
    call("w", "exp", "x"),
    call("s", "sum", "w", -1, True, kind="method"),
    call("", "mul", "z", "y", kind="inplace"),
    call("v", "add", "w", "z", kind="operator"),
    Statement("hook", "double", (Ref("w"),), out=("handle",)),
    Statement("optimizer", "SGD", ((Ref("x"),),), (("lr", 0.1),), ("sgd",)),
    Statement("backward", "", (Ref("s"),), (("gradient", Ref("y")),)),
    Statement("step", "", (Ref("sgd"),)),
)


# --- statements ----------------------------------------------------------------------------------------------------------


def test_an_op_on_a_nan_keeps_that_op_and_the_nan_alone() -> None:
    def exp_of_nan(p: Program) -> bool:
        return any(decode(x.dtype, item).is_nan() for x in literal_arguments(p, "exp") for item in elements(x))

    assert minimal(LONG, exp_of_nan) == ['t0 = torch.tensor(float("nan"), dtype=torch.float32)', "t1 = torch.exp(t0)"]


def test_what_comes_after_the_interesting_statement_goes() -> None:
    assert minimal(LONG, lambda p: p.statements[0].kind == "tensor") == ["t0 = torch.tensor(0.0, dtype=torch.float32)"]


def test_cutting_the_end_bisects_and_closes_open_blocks() -> None:
    blocks = program(
        tensor("a", floats(0.0)),
        Statement("enter", "no_grad"),
        Statement("enter", "enable_grad"),
        *(call(f"b{i}", "exp", "a") for i in range(60)),
        Statement("exit"),
        Statement("exit"),
    )
    asked: list[int] = []

    def fourth_exp(p: Program) -> bool:
        asked.append(len(p))
        return any("b3" in s.out for s in p)

    cut = minimize(blocks, fourth_exp, passes=(cut_the_end,))
    assert cut.statements == (*blocks.statements[:7], Statement("exit"), Statement("exit")) and len(asked) < 10


def test_a_beginning_that_ends_inside_a_block_closes_it() -> None:
    def mul_without_grad(p: Program) -> bool:
        opened = [s.kind for s in p if s.kind in ("enter", "exit") or s.op == "mul"]
        return opened[:3] == ["enter", "call", "exit"] or opened[:3] == ["enter", "operator", "exit"]

    found = minimize(LONG, mul_without_grad)
    assert code(found) == [
        "t0 = torch.tensor(0.0, dtype=torch.float32)",
        "with torch.no_grad():",
        "    t1 = torch.mul(t0)",
    ]


def test_a_chain_between_two_needed_ops_is_bypassed() -> None:
    chain = program(
        tensor("a", floats(0.5, 0.25)),
        call("b", "exp", "a"),
        call("c", "sin", "b"),
        call("d", "cos", "c"),
        call("e", "tan", "d"),
        call("f", "log", "e"),
    )

    def depends(p: Program) -> bool:
        exp = next((s.out[0] for s in p if s.op == "exp"), None)
        reached = {exp}
        for s in p:
            if reached & set(s.refs()):
                reached |= set(s.out)
        return any(s.op == "log" and s.out[0] in reached for s in p)

    assert minimal(chain, depends) == [
        "t0 = torch.tensor(0.0, dtype=torch.float32)",
        "t1 = torch.exp(t0)",
        "t2 = torch.log(t1)",
    ]


def test_an_operand_becomes_an_earlier_name() -> None:
    two = program(tensor("a", floats(3.5)), tensor("b", floats(7.5)), call("c", "mul", "a", "b"))
    assert minimal(two, lambda p: any(s.op == "mul" and len(s.args) == 2 for s in p)) == [
        "t0 = torch.tensor(0.0, dtype=torch.float32)",
        "t1 = torch.mul(t0, t0)",
    ]


def test_one_use_of_a_name_becomes_an_earlier_name_where_the_others_must_stay() -> None:
    three = program(tensor("a", floats(3.5)), tensor("b", floats(7.5)), call("c", "exp", "b"), call("d", "mul", "b", "b"))

    def exp_of_second(p: Program) -> bool:
        return len(p) == 4 and p.statements[2].args == (Ref("b"),)

    assert minimize(three, exp_of_second, passes=(use_earlier_names,)).statements[2:] == (call("c", "exp", "b"), call("d", "mul", "a", "a"))


def test_a_mode_block_goes_as_a_whole() -> None:
    block = program(tensor("a", floats(1.0)), Statement("enter", "no_grad"), call("b", "exp", "a"), Statement("exit"))
    assert minimal(block, calls("exp")) == ["t0 = torch.tensor(0.0, dtype=torch.float32)", "t1 = torch.exp(t0)"]


def test_a_mode_block_stays_where_it_counts_and_takes_in_no_more_than_it_must() -> None:
    block = program(
        Statement("enter", "no_grad"), tensor("a", floats(1.0)), call("b", "exp", "a"), call("c", "sin", "a"), Statement("exit")
    )
    assert minimal(block, lambda p: calls("no_grad", "sin")(p) and p.problems() == []) == [
        "with torch.no_grad():",
        "    t0 = torch.tensor(0.0, dtype=torch.float32)",
        "    t1 = torch.sin(t0)",
    ]


def test_hooks_and_optimizers_keep_their_kinds_of_name() -> None:
    found = minimize(LONG, lambda p: {"hook", "step"} <= {s.kind for s in p})
    assert code(found) == [
        "t0 = torch.tensor(0.0, dtype=torch.float32)",
        "h0 = t0.register_hook(lambda grad: grad * 2)",
        "opt0 = torch.optim.SGD([])",
        "opt0.step()",
    ]


# --- spelling and arguments ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["method", "operator", "inplace", "augmented"])
def test_spellings_become_plain_calls_where_nobody_minds(kind: str) -> None:
    spelled = program(tensor("a", floats(1.5)), call("" if kind in ("inplace", "augmented") else "b", "mul", "a", "a", kind=kind))
    assert minimal(spelled, lambda p: any(s.op == "mul" and len(s.args) == 2 for s in p))[1:] == ["t1 = torch.mul(t0, t0)"]


def test_an_augmented_assignment_that_must_write_becomes_an_in_place_call() -> None:
    written = program(tensor("a", floats(1.5)), call("", "mul", "a", "a", kind="augmented"))
    assert minimal(written, lambda p: any(s.kind in ("inplace", "augmented") for s in p))[1:] == ["t0.mul_()"]


def test_an_in_place_op_without_need_hands_its_result_to_those_who_read_the_written_tensor() -> None:
    read = program(tensor("a", floats(1.5)), call("", "mul", "a", 3, kind="inplace"), call("b", "exp", "a"))

    def exp_of_mul(p: Program) -> bool:
        written = {s.args[0] if s.kind == "inplace" else Ref(s.out[0]) for s in p if s.op == "mul" and len(s.args) == 2}
        return any(s.op == "exp" and s.args[0] in written for s in p)

    assert minimal(read, exp_of_mul)[1:] == ["t1 = torch.mul(t0, 0)", "t2 = torch.exp(t1)"]


def test_keywords_and_optional_arguments_go_unless_they_count() -> None:
    summed = program(
        tensor("a", floats(1.0, 2.0), requires_grad=True), call("b", "sum", "a", 0, True, dtype=DType("float64"), keepdim=True)
    )

    def with_dtype(p: Program) -> bool:
        return any(s.op == "sum" and s.keyword("dtype") == DType("float64") for s in p)

    assert minimal(summed, with_dtype) == [
        "t0 = torch.tensor(0.0, dtype=torch.float32)",
        "t1 = torch.sum(t0, dtype=torch.float64)",
    ]


def test_tuples_lose_the_items_that_do_not_count() -> None:
    joined = program(tensor("a", floats(1.0)), tensor("b", ints(5)), call("c", "cat", (Ref("a"), Ref("b"), Ref("a"), Ref("b")), dim=-1))

    def integer_among_two(p: Program) -> bool:
        whole = {s.out[0] for s in p if s.kind == "tensor" and s.args[0].dtype == "int64"}
        return any(s.op == "cat" and len(s.args[0]) >= 2 and whole & set(s.refs()) for s in p)

    assert minimal(joined, integer_among_two) == ["t0 = torch.tensor(0, dtype=torch.int64)", "t1 = torch.cat((t0, t0))"]


@pytest.mark.parametrize(
    ("scalar", "counts", "expected"),
    [
        (-3, lambda n: isinstance(n, int), "0"),
        (-3, lambda n: n != 0, "1"),
        (-3, lambda n: n < 0, "-1"),
        (37, lambda n: n >= 7, "7"),
        (0.73219, lambda n: isinstance(n, float), "0.0"),
        (0.73219, lambda n: 0 < n < 1, "0.5"),
        (0.73219, lambda n: 0.71 < n < 0.79, "0.73"),
        (-1.234e20, lambda n: n < -6e19, "-1e+20"),
        (math.nan, lambda n: n != n, 'float("nan")'),
        (-math.inf, lambda n: math.isinf(n), 'float("inf")'),
        (-0.0, lambda n: n == 0 and math.copysign(1, n) < 0, "-0.0"),
        (True, lambda n: isinstance(n, bool), "False"),
        (Slice(-4, 9, 3), lambda n: isinstance(n, Slice), "slice(None, None, None)"),
        (Slice(-4, 9, 3), lambda n: isinstance(n, Slice) and n.step not in (None, 1), "slice(None, None, 2)"),
    ],
)
def test_scalars_become_as_plain_as_they_can(scalar: object, counts: Callable[[object], bool], expected: str) -> None:
    held = program(tensor("a", floats(1.0)), call("b", "mul", "a", scalar))

    def scalar_counts(p: Program) -> bool:
        return any(s.op == "mul" and len(s.args) == 2 and counts(s.args[1]) for s in p)

    assert minimal(held, scalar_counts)[1:] == [f"t1 = torch.mul(t0, {expected})"]


# --- the normal form -----------------------------------------------------------------------------------------------------


def test_everything_is_observed_and_hooked_unless_that_hides_it() -> None:
    unseen = Program((Statement("tensor", "", (floats(0.0, shape=()),), out=("t0",), observe=False),), hooked=False)
    seen = Program((Statement("tensor", "", (floats(0.0, shape=()),), out=("t0",)),), hooked=True)
    assert minimize(unseen, lambda p: len(p) == 1) == seen
    assert minimize(unseen, lambda p: len(p) == 1 and not p.hooked) == Program(seen.statements, hooked=False)


def test_names_are_counted_anew_in_order_of_binding_and_after_a_delete_not_reused() -> None:
    renamed = program(
        tensor("q", floats(0.0, shape=())), Statement("delete", "", (Ref("q"),)), tensor("q", floats(0.0, shape=())), call("r", "exp", "q")
    )

    def exp_after_delete(p: Program) -> bool:
        kinds = [s.kind for s in p]
        return "delete" in kinds[:2] and kinds[-1] == "call" and len(p) == 4

    assert minimal(renamed, exp_after_delete) == [
        "t0 = torch.tensor(0.0, dtype=torch.float32)",
        "del t0",
        "t1 = torch.tensor(0.0, dtype=torch.float32)",
        "t2 = torch.exp(t1)",
    ]


# --- literals: shape, layout, dtype, values --------------------------------------------------------------------------------


def literal_left(literal: Literal, is_interesting: Callable[[Literal], bool], budget: int = 400) -> Literal:
    """What a program of that one tensor is minimized to."""
    found = minimize(program(tensor("t0", literal)), lambda p: len(p) == 1 and is_interesting(p.statements[0].args[0]), budget=budget)
    left: Literal = found.statements[0].args[0]
    return left


def test_sizes_that_must_match_shrink_together() -> None:
    pair = program(tensor("a", floats(*range(15), shape=(3, 5))), tensor("b", floats(*range(10), shape=(2, 5))), call("c", "add", "a", "b"))

    def same_last_size(p: Program) -> bool:
        shapes = [x.shape for x in literal_arguments(p, "add")]
        return len(p) == 3 and len(shapes) == 2 and all(len(s) == 2 for s in shapes) and shapes[0][1] == shapes[1][1] >= 2 and distinct(p)

    def distinct(p: Program) -> bool:
        return all(len(set(s.refs())) == 2 for s in p if s.op == "add")

    assert [s.args[0].shape for s in minimize(pair, same_last_size) if s.kind == "tensor"] == [(1, 2), (1, 2)]


def test_ranks_that_must_match_drop_together() -> None:
    pair = program(tensor("a", floats(*range(6), shape=(2, 3))), tensor("b", floats(*range(6), shape=(2, 3))), call("c", "add", "a", "b"))

    def same_rank(p: Program) -> bool:
        left = list(literal_arguments(p, "add"))
        return len(p) == 3 and p.statements[2].args == (Ref("t0"), Ref("t1")) and len({len(x.shape) for x in left}) == 1

    renamed = canonical_names(pair)
    assert [s.args[0].shape for s in minimize(renamed, same_rank) if s.kind == "tensor"] == [(), ()]


def test_an_integer_argument_of_the_size_shrinks_along() -> None:
    expanded = program(tensor("a", floats(*range(5), shape=(1, 5))), call("b", "expand", "a", (7, 5), kind="method"))

    def fits(p: Program) -> bool:
        return any(s.op == "expand" and len(s.args) == 2 and len(s.args[1]) == 2 and s.args[1][1] == x.shape[-1] >= 2
                   for s in p for x in literal_arguments(p, "expand") if x.shape)  # fmt: skip

    assert minimal(expanded, fits) == ["t0 = torch.tensor([0.0, 0.0], dtype=torch.float32)", "t1 = torch.expand(t0, (0, 2))"]


@pytest.mark.parametrize("place", range(7))
def test_shrinking_finds_the_element_that_counts_wherever_it_is(place: int) -> None:
    values = [math.nan if i == place else 0.5 for i in range(7)]
    assert literal_left(floats(*values), lambda x: any(decode(x.dtype, i).is_nan() for i in elements(x))) == floats(math.nan, shape=())


@pytest.mark.parametrize("place", [0, 700, 1500, 2048])
def test_the_element_that_counts_is_found_in_a_large_tensor_too(place: int) -> None:
    values = [math.nan if i == place else 0.37 + 0.1 * i for i in range(2049)]
    found = literal_left(floats(*values), lambda x: any(decode(x.dtype, i).is_nan() for i in elements(x)), budget=60)
    assert found == floats(math.nan, shape=())


def test_a_large_tensor_shrinks_within_the_budget_to_the_size_that_counts() -> None:
    large = floats(*(i * 0.37 + 0.1 for i in range(2049)))
    assert literal_left(large, lambda x: x.shape >= (33,)) == floats(*[0.0] * 33)


def test_no_dim_shrinks_to_nothing() -> None:
    assert literal_left(floats(*range(6), shape=(2, 3)), lambda x: len(x.shape) == 2).shape == (1, 1)


def test_a_layout_is_kept_when_it_counts_and_made_dense() -> None:
    odd = Literal("float32", (3, 4), (2, 9), 5, bytes(range(1, 150)) + bytes(3))
    found = literal_left(odd, lambda x: len(x.shape) == 2 and 1 < x.strides[0] < x.strides[1])
    assert found == laid_out("float32", (1, 1), (2, 9), 0, [bytes(4)])
    transposed = literal_left(odd, lambda x: min(x.shape, default=0) >= 2 and len(x.shape) == 2 and x.strides[0] < x.strides[1])
    assert transposed == laid_out("float32", (2, 2), (1, 2), 0, [bytes(4)] * 4)


def test_a_layout_without_need_becomes_contiguous() -> None:
    odd = Literal("float32", (3,), (2,), 1, struct.pack("<7f", *range(1, 8)))
    kept = [struct.pack("<f", v) for v in (2, 4, 6)]
    assert literal_left(odd, lambda x: elements(x) == kept) == floats(2, 4, 6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_gives_way_to_float32_where_it_does_not_count(dtype: str) -> None:
    assert literal_left(from_elements(dtype, (), [bytes(ITEMSIZE[dtype])]), lambda x: True) == floats(0.0, shape=())


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "int16", "int32", "int64"])
def test_whole_dtypes_give_way_to_int64_where_a_float_will_not_do(dtype: str) -> None:
    assert literal_left(from_elements(dtype, (), [bytes(ITEMSIZE[dtype])]), lambda x: "float" not in x.dtype).dtype == "int64"


def test_dtypes_change_together_with_the_arguments_that_name_them() -> None:
    narrow = program(tensor("a", from_elements("float64", (), [bytes(8)])), call("b", "sum", "a", dtype=DType("float64")))

    def same(p: Program) -> bool:
        return any(s.op == "sum" and s.keyword("dtype") == DType(x.dtype) for s in p for x in literal_arguments(p, "sum"))

    assert minimal(narrow, same) == [
        "t0 = torch.tensor(0.0, dtype=torch.float32)",
        "t1 = torch.sum(t0, dtype=torch.float32)",
    ]


@pytest.mark.parametrize("special", [math.nan, math.inf, -0.0, 1e-40])
def test_specials_stay_only_where_they_count(special: float) -> None:
    bits = struct.pack("<f", special)
    mixed = floats(0.3, special, 0.7)
    assert literal_left(mixed, lambda x: len(x.shape) == 1 and x.shape[0] == 3 and bits in elements(x)) == floats(0.0, special, 0.0)
    assert literal_left(mixed, lambda x: x.shape == (3,)) == floats(0.0, 0.0, 0.0)


def test_a_nan_payload_becomes_the_plain_nan_unless_the_payload_counts() -> None:
    odd = from_elements("float32", (), [struct.pack("<I", 0xFFC12345)])
    assert literal_left(odd, lambda x: decode(x.dtype, x.data).is_nan()) == floats(math.nan, shape=())
    assert literal_left(odd, lambda x: x.data == odd.data) == odd


def test_values_become_whole_then_short_then_equal() -> None:
    long = floats(1.7431, 2.2917, 1.7431)
    assert literal_left(long, lambda x: all(decode(x.dtype, i) > 0 for i in elements(x)) and x.shape == (3,)) == floats(1, 1, 1)
    assert literal_left(long, lambda x: x.shape == (3,) and len(set(elements(x))) == 2) == floats(0, 0, 1)
    wanted = literal_left(floats(0.73219), lambda x: "0.71" < str(decode(x.dtype, elements(x)[0])) < "0.79")
    assert [str(decode("float32", i)) for i in elements(wanted)] == ["0.73"]


# --- the loop ---------------------------------------------------------------------------------------------------------------


def test_a_program_that_is_not_interesting_is_refused_with_what_to_do() -> None:
    with pytest.raises(NotInteresting, match="run it again"):
        minimize(LONG, lambda p: False)
    with pytest.raises(NotInteresting, match="'y' is read before it is bound"):
        minimize(program(call("x", "exp", "y")), lambda p: True)


@pytest.mark.parametrize("budget", [1, 2, 5, 10, 20])
def test_the_budget_is_the_most_that_anybody_is_asked(budget: int) -> None:
    asked: list[Program] = []

    def watched(p: Program) -> bool:
        asked.append(p)
        return calls("exp")(p)

    found = minimize(LONG, watched, budget=budget)
    assert len(asked) <= budget and calls("exp")(found) and found.sort_key() <= LONG.sort_key()


def test_nobody_is_asked_twice_about_the_same_program_nor_about_an_ill_formed_one() -> None:
    asked: list[Program] = []

    def watched(p: Program) -> bool:
        asked.append(p)
        return calls("exp", "sum")(p)

    minimize(LONG, watched)
    assert len({repr(p.statements) + str(p.hooked) for p in asked}) == len(asked)
    assert [p.problems() for p in asked if p.problems()] == []


def test_an_error_of_the_predicate_is_not_swallowed() -> None:
    def broken(p: Program) -> bool:
        if len(p) < len(LONG):
            raise StopIteration("planted")
        return True

    with pytest.raises(StopIteration, match="planted"):
        minimize(LONG, broken)


ATOMS = st.one_of(st.integers(-40, 40), st.floats(width=32), st.booleans(), st.just(DType("float64")), st.just(Slice(1, 9, 2)))


@st.composite
def literals(draw: st.DrawFn) -> Literal:
    """Any dtype, any layout that reaches no further than its storage, any bits."""
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(st.lists(st.integers(0, 4), max_size=3))
    strides = draw(st.lists(st.integers(0, 5), min_size=len(shape), max_size=len(shape)))
    offset = draw(st.integers(0, 3))
    reach = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) + 1 if 0 not in shape else 0
    size = (reach + draw(st.integers(0, 2))) * ITEMSIZE[dtype]
    bits = draw(st.binary(min_size=size, max_size=size))
    return Literal(dtype, tuple(shape), tuple(strides), offset, bytes(b % 2 for b in bits) if dtype == "bool" else bits)


@st.composite
def programs(draw: st.DrawFn) -> Program:
    statements = [tensor("a", draw(literals()), requires_grad=draw(st.booleans()))]
    names = ["a"]
    for i in range(draw(st.integers(1, 8))):
        kind = draw(st.sampled_from(["tensor", "call", "operator", "inplace", "augmented", "block", "delete"]))
        args = (Ref(draw(st.sampled_from(names))), draw(st.one_of(st.sampled_from(names).map(Ref), ATOMS)))
        if kind == "tensor":
            statements.append(tensor(f"n{i}", draw(literals())))
        elif kind == "block":
            statements[-1:] = [Statement("enter", "no_grad"), statements[-1], Statement("exit")]
        elif kind == "delete":
            statements.append(Statement("delete", "", args[:1]))
            names = [n for n in names if Ref(n) != args[0]] or ["a"]
        else:
            out = (f"n{i}",) if kind in ("call", "operator") else ()
            statements.append(Statement(kind, draw(st.sampled_from(["add", "mul"])), args, (), out, draw(st.booleans())))
        names += [n for n in statements[-1].out if n not in names]
    return Program(tuple(statements), draw(st.booleans())).without(())


def crossed(p: Program, modulus: int) -> bool:
    """A predicate without any meaning that gives the same answer for the same program."""
    return (sum(p.sort_key()) + 3 * len(repr(p.statements))) % modulus != 0


@given(programs(), st.integers(2, 5))
def test_the_answer_is_well_formed_interesting_no_larger_deterministic_and_a_fixed_point(p: Program, modulus: int) -> None:
    def interesting(q: Program) -> bool:
        return q is p or crossed(q, modulus)

    found = minimize(p, interesting, budget=10_000)
    assert found.problems() == [] and interesting(found) and found.sort_key() <= p.sort_key()
    assert repr(found) == repr(minimize(p, interesting, budget=10_000))
    assert found is p or minimize(found, interesting, budget=10_000) is found


# --- literal helpers --------------------------------------------------------------------------------------------------------


@given(literals())
def test_every_new_layout_holds_the_same_elements(literal: Literal) -> None:
    items = elements(literal)
    assert len(items) == math.prod(literal.shape)
    assert [elements(layout(literal)) for layout in (contiguous, dense, shifted)] == [items] * 3
    assert elements(with_elements(literal, items)) == items
    assert elements(from_elements(literal.dtype, literal.shape, items)) == items


@given(literals(), st.data())
def test_keep_takes_the_elements_at_those_indices(literal: Literal, data: st.DataObject) -> None:
    """On dims that do not overlap themselves; where they do, the last element written to a place wins."""
    plain = contiguous(literal)
    dims = [d for d, n in enumerate(plain.shape) if n]
    if not dims:
        return
    dim = data.draw(st.sampled_from(dims))
    kept = sorted(data.draw(st.sets(st.integers(0, plain.shape[dim] - 1), min_size=1)))
    before = math.prod(plain.shape[dim + 1 :])
    expected = [item for i, item in enumerate(elements(plain)) if i // before % plain.shape[dim] in kept] if before else []
    assert elements(keep(plain, dim, kept)) == expected
    assert elements(drop_dim(plain, dim, kept[0])) == elements(keep(plain, dim, kept[:1]))


def test_a_cast_keeps_layout_and_values() -> None:
    odd = laid_out("float16", (2,), (3,), 1, [encode("float16", 2) or b"", encode("float16", 3) or b""])
    assert cast(odd, "float32") == laid_out("float32", (2,), (3,), 1, [struct.pack("<f", v) for v in (2, 3)])


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "0.5", "1e30", "-1e30"])
def test_whole_dtypes_do_not_hold_what_is_no_whole_number_or_out_of_range(value: str) -> None:
    assert [encode(dtype, Decimal(value)) for dtype in DTYPES if "int" in dtype or dtype == "bool"] == [None] * 6


@given(st.sampled_from(DTYPES), st.binary(min_size=8, max_size=8))
def test_an_element_reads_back_from_its_decimal(dtype: str, bits: bytes) -> None:
    item = bytes(b % 2 for b in bits[:1]) if dtype == "bool" else bits[: ITEMSIZE[dtype]]
    value = decode(dtype, item)
    assert encode(dtype, value) == item or value.is_nan()


@given(st.one_of(st.decimals(allow_nan=False), st.floats().map(lambda x: decode("float64", struct.pack("<d", x)))))
def test_simpler_numbers_are_less_odd_and_sorted(value: Decimal) -> None:
    found = [oddness(n) for n in simpler_numbers(value)]
    assert found == sorted(found) and max(found, default=-1) < oddness(value)


@given(programs())
def test_simplicity_begins_with_the_sort_key(p: Program) -> None:
    assert simplicity(p)[: len(p.sort_key())] == p.sort_key()
