"""Printing programs as Python: every kind of statement, every atom, blocks, guards. No torch needed: the text is compared."""

from __future__ import annotations

import ast
import math
import struct

import pytest

from conformance.codegen import SYMBOLS, UNARY, WIDTH, expression, lines, source
from conformance.minimize.literals import from_elements
from conformance.program import DOTS, HOOK_ACTIONS, KINDS, DType, Literal, Program, ProgramError, Ref, Slice, Statement

A, B, C = Ref("a"), Ref("b"), Ref("c")


def floats(*values: float, shape: tuple[int, ...] | None = None) -> Literal:
    return from_elements("float32", (len(values),) if shape is None else shape, [struct.pack("<f", v) for v in values])


def printed(kind: str, op: str = "", *args: object, out: tuple[str, ...] = (), **kwargs: object) -> str:
    """The one line that such a statement becomes."""
    (line,) = lines(Program((Statement(kind, op, args, tuple(kwargs.items()), out),)))
    return line[1]


#: kind -> (what it is printed as, what it should be)
SPELLINGS = {
    "tensor": [
        (printed("tensor", "", floats(1.0, 0.1), out=("t0",)), "t0 = torch.tensor([1.0, 0.1], dtype=torch.float32)"),
        (
            printed("tensor", "", floats(1.0, shape=()), out=("t0",), requires_grad=True),
            "t0 = torch.tensor(1.0, dtype=torch.float32, requires_grad=True)",
        ),
    ],
    "call": [
        (printed("call", "exp", A, out=("t",)), "t = torch.exp(a)"),
        (printed("call", "max", A, 0, True, out=("v", "i")), "v, i = torch.max(a, 0, True)"),
        (printed("call", "cat", (A, B), dim=-1, out=("t",)), "t = torch.cat((a, b), dim=-1)"),
        (printed("call", "sum", A, dim=(0,), dtype=DType("float64"), out=("t",)), "t = torch.sum(a, dim=(0,), dtype=torch.float64)"),
        (printed("call", "manual_seed", 3), "torch.manual_seed(3)"),
    ],
    "method": [(printed("method", "view", A, 2, -1, out=("t",)), "t = a.view(2, -1)")],
    "operator": [
        (printed("operator", "add", A, B, out=("t",)), "t = a + b"),
        (printed("operator", "sub", 2, A, out=("t",)), "t = 2 - a"),
        (printed("operator", "pow", -2, A, out=("t",)), "t = (-2) ** a"),
        (printed("operator", "pow", -0.5, A, out=("t",)), "t = (-0.5) ** a"),
        (printed("operator", "mul", -2, A, out=("t",)), "t = -2 * a"),
        (printed("operator", "neg", A, out=("t",)), "t = -a"),
        (printed("operator", "bitwise_not", A, out=("t",)), "t = ~a"),
        (printed("operator", "abs", A, out=("t",)), "t = abs(a)"),
    ],
    "inplace": [(printed("inplace", "add", A, B, alpha=2), "a.add_(b, alpha=2)"), (printed("inplace", "exp", A), "a.exp_()")],
    "augmented": [(printed("augmented", "floor_divide", A, 2), "a //= 2")],
    "getitem": [
        (printed("getitem", "", A, 0, out=("t",)), "t = a[0]"),
        (printed("getitem", "", A, Slice(None, None, None), out=("t",)), "t = a[:]"),
        (
            printed("getitem", "", A, (Slice(1, -1, None), DOTS, None, Slice(None, 4, 2), True, B), out=("t",)),
            "t = a[1:-1, ..., None, :4:2, True, b]",
        ),
        (printed("getitem", "", A, (0,), out=("t",)), "t = a[0,]"),
        (printed("getitem", "", A, (), out=("t",)), "t = a[()]"),
        (printed("getitem", "", A, ((0, 1), (1, 0)), out=("t",)), "t = a[(0, 1), (1, 0)]"),
    ],
    "setitem": [
        (printed("setitem", "", A, Slice(None, 2, None), 1.5), "a[:2] = 1.5"),
        (printed("setitem", "", A, (B, 0), C), "a[b, 0] = c"),
    ],
    "backward": [
        (printed("backward", "", A), "a.backward()"),
        (
            printed("backward", "", A, gradient=B, retain_graph=True, create_graph=True, inputs=(B, C)),
            "a.backward(gradient=b, retain_graph=True, create_graph=True, inputs=[b, c])",
        ),
        (printed("backward", "", A, inputs=B), "a.backward(inputs=b)"),
    ],
    "grad": [
        (printed("grad", "", A, B, out=("g",)), "g, = torch.autograd.grad(a, b)"),
        (
            printed("grad", "", A, (B, C), grad_outputs=A, allow_unused=True, out=("g", "h")),
            "g, h = torch.autograd.grad(a, [b, c], grad_outputs=a, allow_unused=True)",
        ),
        (printed("grad", "", A, B), "torch.autograd.grad(a, b)"),
    ],
    "read_grad": [(printed("read_grad", "", A, out=("t",)), "t = a.grad")],
    "detach": [(printed("detach", "", A, out=("t",)), "t = a.detach()")],
    "hook": [(printed("hook", op, A, out=("h0",)), f"h0 = a.register_hook({action})") for op, action in HOOK_ACTIONS.items()],
    "remove_hook": [(printed("remove_hook", "", Ref("h0")), "h0.remove()")],
    "retain_grad": [(printed("retain_grad", "", A), "a.retain_grad()")],
    "requires_grad_": [(printed("requires_grad_", "", A, False), "a.requires_grad_(False)")],
    "clear_grad": [(printed("clear_grad", "none", A), "a.grad = None"), (printed("clear_grad", "zero", A), "a.grad.zero_()")],
    "enter": [(printed("enter", "set_grad_enabled", False), "with torch.set_grad_enabled(False):")],
    "exit": [],  # see the tests of blocks
    "optimizer": [
        (printed("optimizer", "SGD", (A, B), lr=0.1, nesterov=True, out=("opt0",)), "opt0 = torch.optim.SGD([a, b], lr=0.1, nesterov=True)")
    ],
    "step": [(printed("step", "", Ref("opt0")), "opt0.step()")],
    "zero_grad": [(printed("zero_grad", "", Ref("opt0"), set_to_none=False), "opt0.zero_grad(set_to_none=False)")],
    "delete": [(printed("delete", "", A), "del a")],
}


def test_every_kind_has_a_spelling_here() -> None:
    assert set(SPELLINGS) == set(KINDS)


@pytest.mark.parametrize(("got", "wanted"), [pair for pairs in SPELLINGS.values() for pair in pairs])
def test_a_statement_is_printed_as_one_would_write_it(got: str, wanted: str) -> None:
    assert got == wanted


@pytest.mark.parametrize("op", SYMBOLS)
def test_every_symbol_parses_as_one_binary_operation_on_its_operands(op: str) -> None:
    for args in ((A, B), (-1, A), (A, -1), (-0.5, A)):
        value = ast.parse(printed("operator", op, *args, out=("t",))).body[0].value  # type: ignore[attr-defined]
        operands = (value.left, value.comparators[0]) if isinstance(value, ast.Compare) else (value.left, value.right)
        assert [ast.unparse(operand) for operand in operands] == [expression(a) for a in args]


@pytest.mark.parametrize("op", UNARY)
def test_every_unary_operator_parses(op: str) -> None:
    assert ast.unparse(ast.parse(printed("operator", op, A, out=("t",)))) == printed("operator", op, A, out=("t",))


@pytest.mark.parametrize(
    ("atom", "text"),
    [
        (A, "a"),
        (None, "None"),
        (True, "True"),
        (-3, "-3"),
        (0.1, "0.1"),
        (-0.0, "-0.0"),
        (1e20, "1e+20"),
        (math.inf, 'float("inf")'),
        (-math.inf, 'float("-inf")'),
        (math.nan, 'float("nan")'),
        ("floor", "'floor'"),
        ("a\nb\u202e", "'a\\nb\\u202e'"),
        (DType("bfloat16"), "torch.bfloat16"),
        (Slice(None, 2, None), "slice(None, 2, None)"),
        (DOTS, "..."),
        ((), "()"),
        ((1,), "(1,)"),
        ((1, (A, 2.0)), "(1, (a, 2.0))"),
    ],
)
def test_an_atom_is_printed_as_itself(atom: object, text: str) -> None:
    assert expression(atom) == text


@pytest.mark.parametrize(
    ("literal", "text"),
    [
        (
            floats(math.nan, math.inf, -math.inf, -0.0),
            'torch.tensor([float("nan"), float("inf"), float("-inf"), -0.0], dtype=torch.float32)',
        ),
        (from_elements("bfloat16", (1,), [b"\xcd\x3d"]), "torch.tensor([0.1], dtype=torch.bfloat16)"),
        (from_elements("float16", (1,), [b"\x66\x2e"]), "torch.tensor([0.1], dtype=torch.float16)"),
        (from_elements("bool", (2, 1), [b"\1", b"\0"]), "torch.tensor([[True], [False]], dtype=torch.bool)"),
        (from_elements("int64", (), [b"\xff" * 8]), "torch.tensor(-1, dtype=torch.int64)"),
        (floats(*[2.5] * 9, shape=(3, 3)), "torch.full((3, 3), 2.5, dtype=torch.float32)"),
        (from_elements("float32", (0, 3), []), "torch.empty((0, 3), dtype=torch.float32)"),
        (
            Literal("float32", (2,), (2,), 1, struct.pack("<4f", 1, 2, 3, 4)),
            "torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float32).as_strided((2,), (2,), 1).detach()",
        ),
        (
            from_elements("float32", (), [b"\x01\x00\xc0\x7f"]),
            'torch.frombuffer(bytearray.fromhex("0100c07f"), dtype=torch.float32).reshape(()).detach()',
        ),
        (from_elements("bool", (1,), [b"\2"]), 'torch.frombuffer(bytearray.fromhex("02"), dtype=torch.bool)'),
    ],
)
def test_a_tensor_is_printed_in_the_plainest_form_that_keeps_its_bits(literal: Literal, text: str) -> None:
    assert expression(literal) == text


def test_requires_grad_stands_behind_a_view_so_that_the_tensor_is_a_leaf() -> None:
    odd = Literal("float32", (1,), (1,), 1, bytes(8))
    assert printed("tensor", "", odd, out=("t0",), requires_grad=True).endswith(".as_strided((1,), (1,), 1).detach().requires_grad_(True)")


# --- whole programs ------------------------------------------------------------------------------------------------------


NESTED = Program((
    Statement("tensor", "", (floats(1.0, shape=()),), out=("t0",)),
    Statement("enter", "no_grad"),
    Statement("enter", "enable_grad"),
    Statement("exit"),
    Statement("call", "exp", (Ref("t0"),), out=("t1",)),
    Statement("exit"),
    Statement("call", "relu", (Ref("t0"),), out=("t2",)),
))  # fmt: skip


def test_blocks_are_indented_and_empty_ones_get_a_pass() -> None:
    assert source(NESTED).splitlines() == [
        "import torch",
        "",
        "t0 = torch.tensor(1.0, dtype=torch.float32)",
        "with torch.no_grad():",
        "    with torch.enable_grad():",
        "        pass",
        "    t1 = torch.exp(t0)",
        "t2 = torch.relu(t0)",
    ]


def test_every_line_knows_its_statement() -> None:
    assert [place for place, _ in lines(NESTED)] == [0, 1, 2, 3, 4, 6]


def test_ops_are_found_by_their_path() -> None:
    assert lines(NESTED, path=lambda op: f"nn.functional.{op}")[-1] == (6, "t2 = torch.nn.functional.relu(t0)")


def test_another_module_is_imported_under_the_same_name() -> None:
    assert source(NESTED, module="refgrad").splitlines()[0] == "import refgrad as torch"


def test_a_statement_that_may_raise_is_guarded_and_says_what_is_right() -> None:
    assert lines(NESTED, expect={4: "RuntimeError: a\nb", 6: ""})[4:] == [
        (4, "    try:"),
        (4, "        t1 = torch.exp(t0)"),
        (4, "    except Exception as error:  # right: RuntimeError: a\\nb"),
        (4, '        print(f"{type(error).__name__}: {error}")'),
        (6, "try:"),
        (6, "    t2 = torch.relu(t0)"),
        (6, "except Exception as error:"),
        (6, '    print(f"{type(error).__name__}: {error}")'),
    ]


@pytest.mark.parametrize("payload", [False, True])
@pytest.mark.parametrize("name", ["t0", "a_name_" * 12])
def test_a_long_tensor_goes_over_several_lines_that_still_parse(name: str, payload: bool) -> None:
    items = [struct.pack("<f", i + 0.5) for i in range(99)] + [b"\x01\x00\xc0\x7f"] * payload
    printed_lines = lines(Program((Statement("tensor", "", (from_elements("float32", (len(items),), items),), out=(name,)),)))
    assert len(printed_lines) > 4 and {place for place, _ in printed_lines} == {0}
    assert max(len(text) for _, text in printed_lines[1:]) <= WIDTH
    assert len(ast.parse("\n".join(text for _, text in printed_lines)).body) == 1


# --- what cannot be printed ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (Statement("operator", "exp", (A, B), out=("t",)), "statement 0: no operator is called 'exp'; known here: add, sub"),
        (Statement("operator", "exp", (A,), out=("t",)), "statement 0: no operator is called 'exp'; known here: neg"),
        (Statement("augmented", "exp", (A, B)), "statement 0: no augmented is called 'exp'; known here: add, sub"),
        (Statement("hook", "explode", (A,)), "statement 0: no hook is called 'explode'; known here: observe"),
        (Statement("call", "exp(); import os; os.x", (A,)), "is not a name, so it cannot be printed as code"),
        (Statement("call", "exp", (A,), (("x=1, y", 2),)), "is not a name, so it cannot be printed as code"),
        (Statement("call", "exp", ((A, DType("x)")),)), "is not a name, so it cannot be printed as code"),
        (Statement("enter", "no_grad():\n x", ()), "is not a name, so it cannot be printed as code"),
        (Statement("call", "exp", (A,), out=("x; y",)), "is not a name, so it cannot be printed as code"),
        (Statement("sing", "", (A,)), "statement 0: unknown kind 'sing'; known: tensor"),
        (Statement("setitem", "", (A, 1)), "statement 0: too few arguments for args[0][args[1]] = args[2]"),
    ],
)
def test_what_has_no_spelling_is_refused_in_one_line(statement: Statement, message: str) -> None:
    with pytest.raises(ProgramError) as caught:
        source(Program((statement,)))
    assert message in str(caught.value) and "\n" not in str(caught.value)
