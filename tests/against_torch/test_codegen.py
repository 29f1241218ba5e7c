"""The printed source, run on torch: bits, layout and flags are those of the literal."""

from __future__ import annotations

import contextlib
import io
import math
from decimal import Decimal
from typing import Any

import torch
from hypothesis import example, given
from hypothesis import strategies as st

from conformance.codegen import source
from conformance.minimize.literals import decode, elements, encode, from_elements
from conformance.program import HOOK_ACTIONS, ITEMSIZE, DType, Literal, Program, Ref, Slice, Statement

DTYPES = sorted(ITEMSIZE)
SPECIALS = ("NaN", "Infinity", "-Infinity", "-0.0", "0", "1", "0.1", "1e-7", "16777217", "-2.5e10")


def run(program: Program, **options: Any) -> dict[str, Any]:
    """The names that the printed program binds."""
    names: dict[str, Any] = {}
    exec(compile(source(program, **options), "<program>", "exec"), names)
    return names


def made(literal: Literal, requires_grad: bool = False) -> torch.Tensor:
    kwargs = (("requires_grad", True),) if requires_grad else ()
    return run(Program((Statement("tensor", "", (literal,), kwargs, ("t0",)),)))["t0"]


def bits(tensor: torch.Tensor) -> list[bytes]:
    """Each element's bytes, in row-major order."""
    flat = torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor.detach()).reshape(-1)  # contiguous() keeps odd strides of size 1
    data = bytes(flat.view(torch.uint8).tolist()) if flat.numel() else b""
    size = tensor.element_size()
    return [data[i : i + size] for i in range(0, len(data), size)]


def layout(tensor: torch.Tensor) -> tuple[Any, ...]:
    return (str(tensor.dtype), tuple(tensor.shape), tensor.stride(), tensor.storage_offset())


@st.composite
def literals(draw: st.DrawFn) -> Literal:
    """Any dtype, any bits (bools 0 or 1, which is all that torch defines), any layout within its storage."""
    dtype = draw(st.sampled_from(DTYPES))
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
    if draw(st.booleans()):
        chosen = [encode(dtype, value) for value in map(Decimal, draw(st.lists(st.sampled_from(SPECIALS), min_size=64, max_size=64)))]
        items = [item for item in chosen if item is not None] + [bytes(ITEMSIZE[dtype])] * 64
        return from_elements(dtype, shape, items[: math.prod(shape)])
    strides = tuple(draw(st.integers(0, 5)) for _ in shape)
    offset = draw(st.integers(0, 3))
    reach = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) + 1 if 0 not in shape else 0
    size = (reach + draw(st.integers(0, 2))) * ITEMSIZE[dtype]
    data = draw(st.binary(min_size=size, max_size=size))
    return Literal(dtype, shape, strides, offset, bytes(b % 2 for b in data) if dtype == "bool" else data)


@example(Literal("float32", (0,), (1,), 2, b""), False)
@example(from_elements("float32", (1, 1), [b"\x01\x00\xc0\x7f"]), False)
@example(Literal("bfloat16", (0, 2), (7, 3), 1, b""), True)
@given(literals(), st.booleans())
def test_a_printed_literal_has_the_same_bits_layout_and_is_a_leaf_without_base(literal: Literal, wants_grad: bool) -> None:
    requires_grad = wants_grad and "float" in literal.dtype
    tensor = made(literal, requires_grad)
    assert layout(tensor) == (f"torch.{literal.dtype}", literal.shape, literal.strides, literal.offset)
    assert bits(tensor) == elements(literal)
    assert (tensor.requires_grad, tensor.is_leaf, tensor._base) == (requires_grad, True, None)


@given(st.sampled_from(["float16", "bfloat16", "float32", "float64"]), st.binary(min_size=8, max_size=8))
def test_every_float_prints_to_a_number_that_torch_reads_back(dtype: str, data: bytes) -> None:
    literal = from_elements(dtype, (), [data[: ITEMSIZE[dtype]]])
    assert bits(made(literal)) == elements(literal)


def test_every_float16_and_bfloat16_survives_printing_the_numbers_as_decimals() -> None:
    for dtype in ("float16", "bfloat16"):
        every = [n.to_bytes(2, "little") for n in range(1 << 16)]
        numbers = [item for item in every if not decode(dtype, item).is_nan()]
        assert "hex" not in source(Program((one(dtype, numbers),))) and bits(run(Program((one(dtype, numbers),)))["t0"]) == numbers
        assert bits(run(Program((one(dtype, every),)))["t0"]) == every


def one(dtype: str, items: list[bytes]) -> Statement:
    return Statement("tensor", "", (from_elements(dtype, (len(items),), items),), out=("t0",))


def tensor(name: str, *values: int, requires_grad: bool = True) -> Statement:
    items = [encode("float32", value) or b"" for value in values]
    return Statement("tensor", "", (from_elements("float32", (len(items),), items),), (("requires_grad", requires_grad),), (name,))


def test_a_program_of_many_kinds_runs_and_computes_what_it_says() -> None:
    a, b = Ref("a"), Ref("b")
    names = run(Program((
        tensor("a", 1, 2, 3),
        Statement("operator", "pow", (a, 2), out=("b",)),
        Statement("operator", "pow", (-2, a), out=("p",)),
        Statement("hook", "double", (b,), out=("h0",)),
        Statement("retain_grad", "", (b,)),
        Statement("call", "sum", (b,), out=("s",)),
        Statement("backward", "", (Ref("s"),), (("retain_graph", True), ("inputs", (a,)))),
        Statement("read_grad", "", (a,), out=("first",)),
        Statement("grad", "", (Ref("s"), (a,)), out=("g",)),
        Statement("remove_hook", "", (Ref("h0"),)),
        Statement("optimizer", "SGD", ((a,),), (("lr", 0.5),), ("opt0",)),
        Statement("step", "", (Ref("opt0"),)),
        Statement("zero_grad", "", (Ref("opt0"),), (("set_to_none", False),)),
        Statement("enter", "no_grad"),
        Statement("enter", "enable_grad"),
        Statement("exit"),
        Statement("setitem", "", (a, Slice(None, 1, None), 7.0)),
        Statement("augmented", "add", (a, 1)),
        Statement("exit"),
        Statement("getitem", "", (a, (Slice(None, None, 2),)), out=("c",)),
        Statement("method", "to", (a, DType("float64")), out=("d",)),
        Statement("delete", "", (b,)),
    )))  # fmt: skip
    shown = {name: names[name].tolist() for name in ("first", "g", "p", "a", "c", "d")}
    assert (shown, "b" in names) == (
        {
            "first": [0.0, 0.0, 0.0],  # zeroed by zero_grad: `first` is the same object as a.grad
            "g": [4.0, 8.0, 12.0],
            "p": [-2.0, 4.0, -8.0],
            "a": [8.0, -1.0, -2.0],  # the step took off half of 4 a, twice 2 a by the hook
            "c": [8.0, -2.0],
            "d": [8.0, -1.0, -2.0],
        },
        False,
    )


def test_a_guarded_statement_prints_its_error_and_the_program_goes_on() -> None:
    program = Program((
        tensor("a", 1),
        Statement("inplace", "mul", (Ref("a"), 2)),
        Statement("call", "exp", (Ref("a"),), out=("b",)),
    ))  # fmt: skip
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        names = run(program, expect={1: "RuntimeError"})
    assert shown.getvalue() == "RuntimeError: a leaf Variable that requires grad is being used in an in-place operation.\n"
    assert bits(names["b"]) == bits(torch.exp(torch.tensor([1.0])))


def test_every_hook_action_is_accepted_by_torch_and_does_what_its_name_says() -> None:
    gradients = {}
    for action in HOOK_ACTIONS:
        names = run(Program((
            tensor("a", 1),
            Statement("operator", "mul", (Ref("a"), 3), out=("b",)),
            Statement("hook", action, (Ref("b"),), out=("h0",)),
            Statement("backward", "", (Ref("b"),)),
        )))  # fmt: skip
        gradients[action] = names["a"].grad.item()
    assert gradients == {"observe": 3.0, "double": 6.0, "zero": 0.0, "inplace": 6.0}
