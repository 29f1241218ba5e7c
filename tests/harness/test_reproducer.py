"""What a reproducer says, without running it on torch: it parses, imports only what it may, and its parts compare as they should."""

from __future__ import annotations

import ast
import re
import types
from dataclasses import replace
from typing import Any

import pytest

from conformance.divergence import Divergence, Element
from conformance.program import Program, Ref, Statement
from conformance.report.reproducer import raising_statements, script
from tests.helpers import HOSTILE, synthetic_divergence


def written(divergence: Divergence, raising: tuple[int, ...] = ()) -> str:
    text = script(divergence, "2.13.0+cpu", raising=lambda program: raising)
    ast.parse(text)
    return text


def imports(text: str) -> set[str]:
    return {alias.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names}


def body(text: str) -> list[str]:
    """The lines of ``program()``."""
    [function] = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef) and node.name == "program"]
    return [line[4:] for line in text.splitlines()[function.lineno : function.end_lineno]]


def function(text: str, name: str) -> Any:
    """A function of the script, on its own."""
    [found] = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef) and node.name == name]
    module = types.ModuleType("part")
    exec(compile(ast.Module([found], []), "part", "exec"), module.__dict__)
    return getattr(module, name)


def with_statements(divergence: Divergence, *statements: Statement) -> Divergence:
    return replace(divergence, program=Program((divergence.program.statements[0], *statements)), statement=len(statements))


@pytest.mark.parametrize(
    ("facet", "allowed"),
    [
        *((facet, {"torch"}) for facet in ("value", "grad", "version", "error", "flaky")),
        ("crash", {"torch", "subprocess", "sys"}),
        ("hang", {"torch", "subprocess", "sys"}),
        ("warning", {"torch", "warnings"}),
    ],
)
def test_a_reproducer_imports_torch_and_what_its_facet_needs(facet: str, allowed: set[str]) -> None:
    assert imports(written(synthetic_divergence(facet=facet, expected="version=1", got="version=0"))) == allowed


def test_the_program_stands_in_it_with_the_reads_of_the_harness() -> None:
    assert body(written(synthetic_divergence())) == [
        "t0 = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float32, requires_grad=True)",
        "look(t0=t0)",
        "t1 = torch.log_softmax(t0, 0)",
        "look(t0=t0, t1=t1)",
        "t2 = t1.sum()",
        "look(t0=t0, t1=t1, t2=t2)",
        "t2.backward()",
        "look(t0=t0, t1=t1, t2=t2)",
        "return [t0.grad]",
    ]


def test_it_ends_with_the_wrong_statement() -> None:
    assert body(written(replace(synthetic_divergence("exp", "value", tensor="t1"), statement=1)))[-1] == "return [t1]"
    assert ".backward()" not in written(replace(synthetic_divergence("exp", "value", tensor="t1"), statement=1))


def test_a_statement_that_is_not_looked_at_is_only_hooked_and_an_unhooked_program_not_at_all() -> None:
    divergence = synthetic_divergence()
    blind = [replace(statement, observe=False) for statement in divergence.program.statements]
    assert body(written(divergence.with_program(Program(tuple(blind)))))[1] == "watch(t0=t0)"
    unhooked = written(divergence.with_program(Program(tuple(blind), hooked=False)))
    assert body(unhooked)[1].startswith("t1 = ") and "register_hook" not in unhooked


def test_blocks_keep_their_indentation() -> None:
    divergence = with_statements(
        synthetic_divergence("exp", "value", tensor="t1"),
        Statement("enter", "no_grad"), Statement("call", "exp", args=(Ref("t0"),), out=("t1",)), Statement("exit"),
    )  # fmt: skip
    assert body(written(divergence))[2:] == [
        "with torch.no_grad():", "    look(t0=t0)", "    t1 = torch.exp(t0)", "    look(t0=t0, t1=t1)", "look(t0=t0, t1=t1)", "return [t1]",
    ]  # fmt: skip


def test_a_program_cut_inside_a_block_still_parses() -> None:
    divergence = with_statements(synthetic_divergence("exp", "value"), Statement("enter", "no_grad"), Statement("exit"))
    written(replace(divergence, statement=1))
    blind = [replace(statement, observe=False) for statement in divergence.program]
    assert body(written(replace(divergence.with_program(Program(tuple(blind), hooked=False)), statement=1)))[1:3] == [
        "with torch.no_grad():",
        "    pass",
    ]


def test_a_deleted_name_and_one_that_was_never_bound_are_not_looked_at() -> None:
    exp = Statement("call", "exp", args=(Ref("t0"),), out=("t1",))
    deleted = with_statements(synthetic_divergence("exp", "value"), exp, Statement("delete", args=(Ref("t0"),)))
    assert body(written(deleted))[-2:] == ["look(t1=t1)", "return [t0.grad]"]
    assert "look(t0=t0)" in body(written(with_statements(synthetic_divergence(), exp), raising=(1,)))[-2]


def test_a_statement_that_rightly_raises_is_guarded() -> None:
    assert body(written(synthetic_divergence(), raising=(1,)))[2:4] == ["try:", "    t1 = torch.log_softmax(t0, 0)"]


def test_the_statement_whose_error_is_judged_is_caught_even_if_it_rightly_raises() -> None:
    divergence = synthetic_divergence(facet="error", elements=(), expected="RuntimeError: twice", got="nothing")
    assert body(written(divergence, raising=(3,)))[6:] == [
        'found = "nothing"', "try:", "    t2.backward()", "except Exception as error:", '    found = f"{type(error).__name__}: {error}"',
        "look(t0=t0, t1=t1, t2=t2)", "return found",
    ]  # fmt: skip


def test_the_gradient_that_arrives_at_a_version_is_taken_from_its_hook() -> None:
    lines = body(written(replace(synthetic_divergence(), tensor="t1@2")))
    assert lines[-1] == "return arrived.get(('t1', 2, 1), [])" and lines[-4:-2] == ["arrived.clear()", "t2.backward()"]
    assert "('t1', 2, 3)" in body(written(replace(synthetic_divergence(), tensor="t1@2", order=3)))[-1]


@pytest.mark.parametrize(
    ("got", "low", "high", "sign", "right"),
    [
        (0.5, 0.25, 0.5, "", True),
        (0.51, 0.25, 0.5, "", False),
        (0.2, 0.25, 0.5, "", False),
        (float("nan"), 0.25, 0.5, "", False),
        (float("nan"), float("nan"), float("nan"), "", True),
        (1.0, float("nan"), float("nan"), "", False),
        (float("inf"), float("inf"), float("inf"), "", True),
        (float("inf"), 1e38, 3e38, "", False),
        (0.0, 0.0, 0.0, "", True),
        (0.0, -0.0, -0.0, "-0.0", False),
        (-0.0, -0.0, -0.0, "-0.0", True),
        (2**62 + 1, 2**62, 2**62, "", False),
        (True, True, True, "", True),
        (False, True, True, "", False),
        (1j, "1j", "1j", "", True),
        (2j, "1j", "1j", "", False),
    ],
)
def test_an_element_is_right_inside_its_interval(got: Any, low: Any, high: Any, sign: str, right: bool) -> None:
    assert function(written(synthetic_divergence()), "allowed")(got, low, high, sign) is right


@pytest.mark.parametrize(
    ("element", "stands"),
    [
        (Element((1, 2), "0.1", "0.09999999", "0.1", "0.2", 9), "((1, 2), 0.09999999, 0.1, '')"),
        (Element((), "inf", "inf", "inf", "1.0", 9), '((), float("inf"), float("inf"), \'\')'),
        (Element((0,), "nan", "nan", "nan", "1.0", 9), '((0,), float("nan"), float("nan"), \'\')'),
        (Element((0,), "-0.0", "-0.0", "-0.0", "0.0", 0), "((0,), -0.0, -0.0, '-0.0')"),
        (Element((0,), str(2**62 + 1), str(2**62 + 1), str(2**62 + 1), "5", 9), "((0,), 4611686018427387905, 4611686018427387905, '')"),
        (Element((0,), "True", "True", "True", "False", 1), "((0,), True, True, '')"),
        (Element((0,), "x", "__import__('os')", "y", "z", 1), "((0,), \"__import__('os')\", 'y', '')"),
    ],
)
def test_elements_stand_in_it_exactly_and_as_data(element: Element, stands: str) -> None:
    assert stands in written(synthetic_divergence(elements=(element,)))


@pytest.mark.parametrize("facet", ["value", "error", "version", "crash", "warning", "flaky"])
def test_hostile_text_stays_in_comments_and_strings(facet: str) -> None:
    divergence = replace(
        synthetic_divergence(facet=facet, expected=f"version={HOSTILE}", got=HOSTILE, reason=HOSTILE, blame=HOSTILE),
        attributes={"device": HOSTILE, HOSTILE: HOSTILE},
    )
    text = written(divergence)
    code = re.sub(r"(?m)^#.*$", "", text)
    names = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
    assert text.isprintable() or set(c for c in text if not c.isprintable()) == {"\n"}
    assert "alert" not in names and "\x1b" not in code


def test_a_device_other_than_the_cpu_is_set() -> None:
    text = written(replace(synthetic_divergence(), attributes={"device": "cuda:1"}))
    assert "torch.set_default_device('cuda:1')" in text and "allow_tf32 = False" in text
    assert "device" not in re.sub(r"(?m)^#.*$", "", written(synthetic_divergence()))


def test_the_comment_says_cause_right_observed_and_where() -> None:
    text = written(synthetic_divergence())
    where = "torch 2.13.0+cpu, device cpu, capability AVX2"
    for part in ("off by 41 ulp", "cause:    b1f27a", "right:    0.5", "observed: 0.5000012", where):
        assert part in text.split("import torch")[0]


def test_refgrad_tells_which_statements_rightly_raise() -> None:
    program = synthetic_divergence().program
    again = Statement("backward", args=(Ref("t2"),))
    assert raising_statements(program.with_statements([*program.statements, again])) == [4]
    assert raising_statements(program) == []
