"""Reproducers run on torch: 0 where the installed torch is right, 1 with the reason where it is not.

What torch gives is taken as "right" or as "wrong" by turning the evidence round: no defect of torch is needed to see both answers.
"""

from __future__ import annotations

import contextlib
import io
import runpy
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from conformance.divergence import Divergence, Element, Evidence, Key
from conformance.program import Literal, Program, Ref, Statement
from conformance.report.reproducer import script

torch = pytest.importorskip("torch", reason="reproducers need torch")

LEAF = Statement(
    "tensor", args=(Literal("float32", (2,), (1,), 0, struct.pack("<2f", 3.0, 4.0)),), kwargs=(("requires_grad", True),), out=("t0",)
)
SQUARE = Statement("operator", "mul", args=(Ref("t0"), Ref("t0")), out=("t1",))
SUM = Statement("method", "sum", args=(Ref("t1"),), out=("t2",))
BACKWARD = Statement("backward", args=(Ref("t2"),))
DOUBLE = Statement("inplace", "mul", args=(Ref("t1"), 2.0))


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """A reproducer runs torch on one thread; here that would outlive it."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def ran(folder: Path, divergence: Divergence, raising: tuple[int, ...] = ()) -> tuple[int, str]:
    """Exit code and last line of the reproducer, run in this process, since importing torch takes seconds."""
    path = folder / "reproducer.py"
    path.write_text(script(divergence, torch.__version__, raising=lambda program: raising), encoding="utf-8")
    printed, code = io.StringIO(), 0
    with contextlib.redirect_stdout(printed):
        try:
            runpy.run_path(str(path), run_name="__main__")
        except SystemExit as leave:
            code = int(leave.code or 0)
    return code, printed.getvalue().splitlines()[-1]


def divergence(facet: str, *statements: Statement, tensor: str = "t0", elements: tuple[Element, ...] = (), order: int = 0,
               expected: str = "", got: str = "", hooked: bool = True) -> Divergence:  # fmt: skip
    program = Program((LEAF, *statements), hooked=hooked)
    return Divergence(Key("mul", facet), len(program) - 1, tensor, Evidence(expected, got, elements=elements), program, order)


def element(low: str, high: str, index: tuple[int, ...] = (1,)) -> tuple[Element, ...]:
    return (Element(index, low, low, high, "0", 1.0),)


@pytest.mark.parametrize("hooked", [True, False])
@pytest.mark.parametrize(
    ("tensor", "statements", "is_"),
    [
        ("t1", (SQUARE,), "16.0"),
        ("t0.grad", (SQUARE, SUM, BACKWARD), "8.0"),
        ("t0.grad", (SQUARE, DOUBLE, SUM, BACKWARD), "16.0"),
    ],
)
def test_a_number_is_compared_with_its_interval(
    tmp_path: Path, tensor: str, statements: tuple[Statement, ...], is_: str, hooked: bool
) -> None:
    def answer(low: str, high: str) -> tuple[int, str]:
        return ran(tmp_path, divergence("value", *statements, tensor=tensor, elements=element(low, high), hooked=hooked))

    assert answer(is_, is_) == (0, f"not affected: {tensor} is as it should be")
    assert answer("99.0", "99.5") == (1, f"affected: {tensor} [1] is {is_}, allowed is 99.0 to 99.5")


@pytest.mark.parametrize(("version", "is_"), [(0, "2.0"), (1, "1.0")])
def test_what_arrives_at_each_version_is_compared(tmp_path: Path, version: int, is_: str) -> None:
    def answer(low: str) -> tuple[int, str]:
        found = divergence("grad", SQUARE, DOUBLE, SUM, BACKWARD, tensor=f"t1@{version}", elements=element(low, low), order=1)
        return ran(tmp_path, found)

    assert answer(is_)[0] == 0
    assert answer("5.0") == (1, f"affected: t1@{version} [1] is {is_}, allowed is 5.0 to 5.0")


def test_a_second_order_arrival_is_compared(tmp_path: Path) -> None:
    cube = Statement("operator", "mul", args=(Ref("t1"), Ref("t0")), out=("t3",))
    total = Statement("method", "sum", args=(Ref("t3"),), out=("t2",))
    first = Statement("grad", args=((Ref("t2"),), (Ref("t0"),)), kwargs=(("create_graph", True),), out=("g0",))
    again = Statement("method", "sum", args=(Ref("g0"),), out=("t4",))
    second = Statement("backward", args=(Ref("t4"),))

    def answer(low: str) -> int:
        statements = (SQUARE, cube, total, first, again, second)
        return ran(tmp_path, divergence("grad", *statements, tensor="t0.grad", elements=element(low, low), order=2))[0]

    assert (answer("24.0"), answer("12.0")) == (0, 1)


def test_an_arrival_that_never_comes_is_seen(tmp_path: Path) -> None:
    unused = replace(SQUARE, out=("t9",))
    found = divergence("grad", SQUARE, unused, SUM, BACKWARD, tensor="t9@0", elements=element("1.0", "1.0"), order=1)
    assert ran(tmp_path, found) == (1, "affected: t9@0 did not get any gradient")


@pytest.mark.parametrize(("expected", "got", "code"), [("nothing", "a gradient", 1), ("a gradient", "nothing", 0)])
def test_a_gradient_that_should_not_be_there_is_seen(tmp_path: Path, expected: str, got: str, code: int) -> None:
    assert ran(tmp_path, divergence("grad", SQUARE, SUM, BACKWARD, tensor="t0.grad", expected=expected, got=got))[0] == code


@pytest.mark.parametrize(
    ("facet", "tensor", "is_"),
    [
        ("dtype", "t1", "dtype=float32"),
        ("shape", "t1", "shape=(2,)"),
        ("strides", "t1", "strides=(1,)"),
        ("strides", "t1", "offset=0"),
        ("aliasing", "t3", "alias=t0"),
        ("aliasing", "t3", "base=t0"),
        ("aliasing", "t1", "base=None"),
        ("requires_grad", "t1", "requires_grad=True"),
        ("is_leaf", "t0", "is_leaf=True"),
        ("grad_fn", "t1", "grad_fn=MulBackward0"),
        ("grad_fn", "t1", "grad_fn='MulBackward0'"),
        ("grad_fn", "t0", "grad_fn="),
        ("grad_fn", "t1", "output_nr=0"),
        ("requires_grad", "t1", "retains_grad=False"),
        ("requires_grad", "t1", "is_inference=False"),
        ("version", "t1", "version=1"),
        ("grad_identity", "t0.grad", "identity=1"),
        ("dtype", "t0.grad", "dtype=float32"),
    ],
)
def test_a_field_of_the_state_is_compared(tmp_path: Path, facet: str, tensor: str, is_: str) -> None:
    view = Statement("method", "view", args=(Ref("t0"), -1), out=("t3",))

    def answer(expected: str) -> tuple[int, str]:
        return ran(tmp_path, divergence(facet, view, SQUARE, SUM, BACKWARD, DOUBLE, tensor=tensor, expected=expected, got="x=y"))

    field = is_.partition("=")[0]
    assert answer(is_) == (0, f"not affected: {field} of {tensor} is as it should be")
    code, line = answer(f"{field}=other")
    assert code == 1 and line.startswith(f"affected: {field} of {tensor} is ") and line.endswith(", right is other")


def test_a_new_grad_object_is_counted(tmp_path: Path) -> None:
    clear = Statement("clear_grad", "none", args=(Ref("t0"),))
    twice = (SQUARE, SUM, replace(BACKWARD, kwargs=(("retain_graph", True),)), clear, BACKWARD)
    assert ran(tmp_path, divergence("grad_identity", *twice, tensor="t0.grad", expected="identity=2"))[0] == 0
    assert ran(tmp_path, divergence("grad_identity", *twice, tensor="t0.grad", expected="identity=1"))[0] == 1


SECOND = "RuntimeError: Trying to backward through the graph a second time"


@pytest.mark.parametrize(
    ("statements", "expected", "got", "code"),
    [
        ((SQUARE, SUM, BACKWARD, BACKWARD), SECOND, "nothing", 0),
        ((SQUARE, SUM, BACKWARD, BACKWARD), "nothing", SECOND, 1),
        ((SQUARE, SUM, BACKWARD), "nothing", SECOND, 0),
        ((SQUARE, SUM, BACKWARD), SECOND, "nothing", 1),
        ((SQUARE, SUM, BACKWARD, BACKWARD), SECOND, "TypeError: another", 0),
    ],
)
def test_an_error_is_compared(tmp_path: Path, statements: tuple[Statement, ...], expected: str, got: str, code: int) -> None:
    assert ran(tmp_path, divergence("error", *statements, tensor="", expected=expected, got=got))[0] == code


def test_the_wrong_error_is_recognized_by_its_text(tmp_path: Path) -> None:
    attempt = Statement("requires_grad_", args=(Ref("t1"), False))
    with pytest.raises(RuntimeError) as caught:
        (torch.ones(1, requires_grad=True) * 2).requires_grad_(False)
    found = divergence("error", SQUARE, attempt, tensor="", expected="TypeError: right", got=f"RuntimeError: {caught.value}")
    assert ran(tmp_path, found)[0] == 1


def test_statements_that_rightly_raise_do_not_end_the_script(tmp_path: Path) -> None:
    bad = Statement("call", "matmul", args=(Ref("t0"), 3), out=("t8",))
    user = Statement("method", "sum", args=(Ref("t8"),), out=("t9",))
    found = divergence("value", bad, user, SQUARE, tensor="t1", elements=element("16.0", "16.0"))
    assert ran(tmp_path, found, raising=(1, 2))[0] == 0
    with pytest.raises(TypeError):
        ran(tmp_path, found)


def test_a_warning_is_compared(tmp_path: Path) -> None:
    sizes = Statement("call", "log", args=(Ref("t0"),), out=("t1",))
    assert ran(tmp_path, divergence("warning", sizes, tensor="", expected="nothing", got="deprecated"))[0] == 0
    assert ran(tmp_path, divergence("warning", sizes, tensor="", expected="deprecated", got="nothing"))[0] == 1


def with_python(text: str, statement: str) -> str:
    """The script with its last statement replaced, for what no program can say."""
    assert text.count("    t1 = t0 * t0\n") == 1
    return text.replace("    t1 = t0 * t0\n", f"    {statement}\n    t1 = t0 * t0\n")


@pytest.mark.parametrize(
    ("facet", "statement", "code", "says"),
    [
        ("crash", "pass", 0, "not affected: statement 1 is as it should be"),
        ("crash", "import os; os.abort()", 1, "affected: statement 1 ended the process with -6"),
        ("crash", "raise ValueError('no crash')", 0, "not affected: statement 1 is as it should be"),
        ("hang", "import time; time.sleep(600)", 1, "affected: statement 1 did not end within 1 s"),
    ],
)
def test_a_crash_or_hang_ends_a_process_of_its_own(tmp_path: Path, facet: str, statement: str, code: int, says: str) -> None:
    text = with_python(script(divergence(facet, SQUARE), torch.__version__, raising=lambda program: ()), statement)
    if facet == "hang":
        text = text.replace("timeout=60", "timeout=1").replace("within 60 s", "within 1 s")
    (tmp_path / "r.py").write_text(text)
    done = subprocess.run([sys.executable, str(tmp_path / "r.py")], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (code, says)


@pytest.mark.parametrize(("statement", "code"), [("pass", 0), ("t0 = t0 + torch.rand(2)", 1)])
def test_a_value_that_changes_between_runs_is_flaky(tmp_path: Path, statement: str, code: int) -> None:
    text = with_python(script(divergence("flaky", SQUARE, tensor="t1"), torch.__version__, raising=lambda program: ()), statement)
    (tmp_path / "r.py").write_text(text)
    assert subprocess.run([sys.executable, str(tmp_path / "r.py")], capture_output=True, timeout=120).returncode == code


def test_a_view_that_may_not_be_used_any_more_does_not_end_the_script(tmp_path: Path) -> None:
    split = Statement("method", "unbind", args=(Ref("t1"),), out=("t3", "t4"))
    found = divergence("value", SQUARE, split, DOUBLE, tensor="t1", elements=element("32.0", "32.0"))
    assert ran(tmp_path, found)[0] == 0
