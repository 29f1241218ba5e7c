"""Programs as values: JSON there and back, well-formedness, slicing, and what "smaller" means."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conformance.program import (
    DOTS,
    FORMAT,
    ITEMSIZE,
    KINDS,
    DType,
    Literal,
    Program,
    ProgramError,
    Ref,
    Slice,
    Statement,
    contiguous_strides,
)

# --- drawing ---------------------------------------------------------------------------------------------------------------


@st.composite
def literals(draw: st.DrawFn) -> Literal:
    """Any bits in any layout, NaN payloads, expanded and empty tensors included."""
    dtype = draw(st.sampled_from(sorted(ITEMSIZE)))
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    strides = draw(st.lists(st.integers(0, 4), min_size=len(shape), max_size=len(shape)))
    offset = draw(st.integers(0, 3))
    reach = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) + 1 if 0 not in shape else 0
    size = ITEMSIZE[dtype] * (reach + draw(st.integers(0, 2)))
    return Literal(dtype, tuple(shape), tuple(strides), offset, draw(st.binary(min_size=size, max_size=size)))


TEXTS = st.text(max_size=4)
SIZES = st.one_of(st.none(), st.integers())
ATOMS = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        TEXTS,
        st.just(DOTS),
        st.just(Ref("t0")),
        st.sampled_from(sorted(ITEMSIZE)).map(DType),
        st.builds(Slice, SIZES, SIZES, SIZES),
        literals(),
    ),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=6,
)


@st.composite
def programs(draw: st.DrawFn) -> Program:
    statements = [Statement("tensor", "", (draw(literals()),), (), ("t0",))]
    for i in range(draw(st.integers(0, 3))):
        kind = draw(st.sampled_from([k for k in KINDS if k not in ("enter", "exit", "delete")]))
        args = draw(st.lists(ATOMS, max_size=3).map(tuple))
        kwargs = draw(st.dictionaries(TEXTS, ATOMS, max_size=2))
        statements.append(Statement(kind, draw(TEXTS), args, tuple(kwargs.items()), (f"n{i}",), draw(st.booleans())))
    return Program(tuple(statements), draw(st.booleans()))


# --- JSON --------------------------------------------------------------------------------------------------------------------


@settings(suppress_health_check=[HealthCheck.too_slow])  # the first text drawn builds Unicode tables
@given(programs())
def test_a_program_survives_json(program: Program) -> None:
    """Compared by repr, which tells apart what == does not (1 and True, signed zeros) and holds NaN equal to itself."""
    text = json.dumps(program.to_json(), allow_nan=False)
    assert repr(Program.from_json(text)) == repr(program)
    assert repr(Program.from_json(json.loads(text))) == repr(program)


def test_a_nan_payload_survives_json() -> None:
    odd = Literal("float32", (1,), (1,), 0, struct.pack("<I", 0xFFC12345))
    program = Program((Statement("tensor", "", (odd,), (), ("t0",)),))
    assert Program.from_json(json.dumps(program.to_json())) == program


def test_notes_are_not_part_of_what_a_program_is() -> None:
    program = Program((), notes=(("seed", "3"),))
    assert program == Program(()) and "notes" not in program.to_json()


def test_unknown_keys_beside_the_program_are_left_to_the_caller() -> None:
    assert Program.from_json({**Program(()).to_json(), "torch": ">=2.13", "key": {}, "right": "torch"}) == Program(())


def test_an_atom_of_no_known_type_cannot_be_written() -> None:
    with pytest.raises(TypeError, match=r"no atom: \{1\}"):
        Program((Statement("call", "exp", ({1},)),)).to_json()


def of(*statements: Any, **more: Any) -> dict[str, Any]:
    return {"format": FORMAT, "statements": list(statements), **more}


def call(*args: Any) -> dict[str, Any]:
    return {"kind": "call", "op": "exp", "args": list(args)}


def literal(**changed: Any) -> dict[str, Any]:
    return call({"tensor": "float32", "shape": [2], "strides": [1], "offset": 0, "hex": "00" * 8, **changed})


ILL_FORMED = {
    "no text of JSON": ("{", "not JSON: Expecting property name"),
    "no UTF-8": (b"\xff\xfe{", "not JSON: "),
    "no object": ([], 'no program: a JSON object with "format" and "statements" was expected'),
    "no statements": ({"format": 1}, 'no program: a JSON object with "format" and "statements" was expected'),
    "statements are no list": ({"format": 1, "statements": {}}, 'no program: a JSON object with "format" and "statements" was expected'),
    "no format": ({"statements": []}, '"format" is None: expected 1'),
    "format is text": ({"format": "1", "statements": []}, "\"format\" is '1': expected 1"),
    "format too low": ({"format": 0, "statements": []}, '"format" is 0: expected 1'),
    "format too high": ({"format": 2, "statements": []}, "format 2 is newer than 1, the highest this version reads: upgrade"),
    "statement is no object": (of(3), "statement 0: ill-formed (TypeError"),
    "statement without kind": (of({"op": "exp"}), "statement 0: ill-formed (KeyError: 'kind')"),
    "kwargs are no object": (of({"kind": "call", "kwargs": [1]}), "statement 0: ill-formed (AttributeError"),
    "args are no list": (of({"kind": "call", "args": 1}), "statement 0: ill-formed (TypeError"),
    "unknown kind": (of({"kind": "sing"}), "statement 0: unknown kind 'sing'; known: tensor, call"),
    "plain float": (of(call(1.5)), "statement 0: 1.5 is no argument (floats are written as"),
    "unknown argument": (of(call({"complex": 1})), "statement 0: {'complex': 1} is no argument this version knows"),
    "float that is none": (of(call({"float": "x"})), "statement 0: ill-formed (ValueError"),
    "slice of two": (of(call({"slice": [1, 2]})), "statement 0: ill-formed (TypeError"),
    "hex that is none": (of(literal(hex="zz")), "statement 0: ill-formed (ValueError"),
    "strides missing": (of(literal(strides=[])), "statement 0: a tensor's shape and strides have one non-negative entry per dim"),
    "negative size": (of(literal(shape=[-1])), "statement 0: a tensor's shape and strides have one non-negative entry per dim"),
    "negative stride": (of(literal(strides=[-1])), "statement 0: a tensor's shape and strides have one non-negative entry per dim"),
    "negative offset": (of(literal(offset=-1)), "statement 0: a tensor's shape and strides have one non-negative entry per dim"),
    "unknown dtype": (of(literal(tensor="float8")), "statement 0: unknown dtype 'float8'; known: bool, uint8"),
    "too few bytes": (of(literal(offset=1)), "statement 0: a tensor reaches 3 elements of 4 bytes, its data has 8 bytes"),
    "half an element": (of(literal(hex="00" * 9)), "statement 0: a tensor reaches 2 elements of 4 bytes, its data has 9 bytes"),
    "unbound name": (of(call({"ref": "t0"})), "statement 0: 't0' is read before it is bound"),
    "deleted name": (
        of({"kind": "call", "out": ["a"]}, {"kind": "delete", "args": [{"ref": "a"}]}, call({"ref": "a"})),
        "statement 2: 'a' is read before it is bound",
    ),
    "bound twice": (of({"kind": "call", "out": ["a"]}, {"kind": "call", "out": ["a"]}), "statement 1: 'a' is bound twice"),
    "no name": (of({"kind": "call", "out": ["a b"]}), "statement 0: 'a b' is not a name"),
    "exit without enter": (of({"kind": "exit"}), "statement 0: exit without enter"),
    "enter without exit": (of({"kind": "enter", "op": "no_grad"}), "1 block(s) entered and never left"),
}  # fmt: skip


@pytest.mark.parametrize("case", ILL_FORMED)
def test_what_is_no_program_is_refused_in_one_line_that_says_where_and_what(case: str) -> None:
    data, message = ILL_FORMED[case]
    with pytest.raises(ProgramError) as caught:
        Program.from_json(data)
    assert message in str(caught.value) and "\n" not in str(caught.value)


# --- slicing -------------------------------------------------------------------------------------------------------------------


def exp(out: str, *names: str) -> Statement:
    return Statement("call", "exp", tuple(map(Ref, names)), (), (out,))


A = Statement("call", "ones", ((2,),), (), ("a",), observe=False)
ENTER, EXIT = Statement("enter", "no_grad"), Statement("exit")


@pytest.mark.parametrize(
    ("statements", "dropped", "left"),
    [
        ((A, exp("b", "a"), exp("c", "b"), exp("d", "a")), [1], [0, 3]),
        ((A, exp("b", "a"), exp("c", "b")), [0], []),
        ((A, ENTER, exp("b", "a"), EXIT), [1], [0, 2]),
        ((A, ENTER, exp("b", "a"), EXIT), [3], [0, 2]),
        ((ENTER, ENTER, A, EXIT, EXIT), [3], [0, 2, 4]),
        ((ENTER, ENTER, A, EXIT, EXIT), [0], [1, 2, 3]),
        ((A, Statement("delete", "", (Ref("a"),)), A, exp("b", "a")), [0], [2, 3]),
        ((A, Statement("delete", "", (Ref("a"),)), A, exp("b", "a")), [2], [0, 1]),
        ((A, Statement("delete", "", (Ref("a"),)), exp("b")), [], [0, 1, 2]),
        ((A, Statement("backward", "", (), (("inputs", (Ref("a"),)),))), [0], []),
    ],
)
def test_what_depends_on_a_dropped_statement_goes_with_it(statements: tuple[Statement, ...], dropped: list[int], left: list[int]) -> None:
    assert Program(statements).without(dropped).statements == tuple(statements[i] for i in left)


@settings(suppress_health_check=[HealthCheck.too_slow])  # as above
@given(programs(), st.sets(st.integers(0, 4)))
def test_dropping_statements_leaves_a_well_formed_program(program: Program, dropped: set[int]) -> None:
    assert program.without(dropped).problems() == []


def test_a_slice_keeps_everything_but_the_later_statements() -> None:
    program = Program((A, exp("b", "a"), exp("c", "b")), hooked=False, notes=(("seed", "1"),))
    sliced = program.slice_before(2)
    assert (sliced.statements, sliced.hooked, sliced.notes, len(sliced)) == ((A, exp("b", "a")), False, (("seed", "1"),), 2)


def test_a_statement_reads_names_from_nested_arguments_in_order() -> None:
    statement = Statement("call", "cat", ((Ref("a"), (Ref("b"), Ref("a"))),), (("out", Ref("c")),))
    assert list(statement.refs()) == ["a", "b", "a", "c"] and statement.keyword("out") == Ref("c") and statement.keyword("x", 3) == 3


# --- what "smaller" means --------------------------------------------------------------------------------------------------------


def ones(shape: tuple[int, ...], strides: tuple[int, ...] | None = None) -> Literal:
    return Literal("float32", shape, strides or contiguous_strides(shape), 0, struct.pack("<f", 1.0) * max(math.prod(shape), 1))


def one_call(*args: Any, **kwargs: Any) -> Program:
    return Program((Statement("call", "f", args, tuple(kwargs.items()), ("t",)),))


@pytest.mark.parametrize(
    ("smaller", "larger"),
    [
        (one_call(ones((9,))), Program((Statement("call", "f"), Statement("call", "f")))),
        (one_call(ones((2,))), one_call(ones((3,)))),
        (one_call(ones((2,)), 1, 1), one_call(ones((3,)))),
        (one_call(5), one_call(0, 0)),
        (one_call(5), one_call(0, dim=0)),
        (one_call(0), one_call(1)),
        (one_call(1), one_call(-2)),
        (one_call(True), one_call(1)),
        (one_call(2.0), one_call(2.5)),
        (one_call(None), one_call("mean")),
        (one_call(()), one_call((Ref("a"),))),
        (one_call(Literal("float32", (1,), (1,), 0, bytes(4))), one_call(ones((1,)))),
        (one_call(ones((2, 2))), one_call(ones((2, 2), (1, 2)))),
    ],
)
def test_fewer_statements_then_elements_then_arguments_then_simpler_ones_are_smaller(smaller: Program, larger: Program) -> None:
    assert smaller.sort_key() < larger.sort_key()


@pytest.mark.parametrize(
    ("shape", "strides"), [((), ()), ((3,), (1,)), ((2, 3, 4), (12, 4, 1)), ((2, 0, 4), (4, 4, 1)), ((0,), (1,)), ((1, 1), (1, 1))]
)
def test_contiguous_strides_are_row_major_and_an_empty_dim_counts_as_one(shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
    assert contiguous_strides(shape) == strides
