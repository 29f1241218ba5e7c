"""The trigger of a cause: the first pitfall of RULES that a program holds, judged on the program alone."""

import json

import pytest

from conformance.generate.programs import from_seed
from conformance.program import DType, Literal, Program, Ref, Statement
from conformance.trigger import RULES, trigger
from tests.harness.test_generator import PITFALLS
from tests.harness.writing import literal, tensor


def program(*statements: Statement) -> Program:
    return Program((tensor("t0", [1.0, 2.0]), *statements))


def call(op: str, *args: object, out: str = "t1", **kwargs: object) -> Statement:
    return Statement("call", op, args, tuple(kwargs.items()), (out,))


BACKWARD = Statement("backward", "", (Ref("t0"),), (("gradient", literal([1.0, 1.0])),))
INPLACE = Statement("inplace", "mul", (Ref("t0"), 2))
GRAD = Statement("grad", "", (Ref("t0"), Ref("t0")), (("create_graph", True),), ("g",))

#: trigger -> programs that hold it and nothing that goes before it
HOLDING = {
    "empty and tiny": [Program((tensor("t0", [[], []]),))],
    "extreme values": [Program((tensor("t0", [value]),)) for value in (float("inf"), float("-inf"), float("nan"), 1e20, -1e-20)],
    "size": [Program((tensor("t0", [1.0] * count),)) for count in (7, 33)],
    "modes": [program(Statement("enter", "no_grad"), Statement("exit"))],
    "hooks": [program(Statement("hook", "observe", (Ref("t0"),), (), ("h",))), program(Statement("retain_grad", "", (Ref("t0"),)))],
    "in-place": [
        program(one) for one in (INPLACE, Statement("augmented", "mul", (Ref("t0"), 2)), Statement("setitem", "", (Ref("t0"), 0, 2)))
    ],
    "order": [program(GRAD), program(Statement("backward", "", (Ref("t0"),), (("create_graph", True),)))],
    "graph life": [program(BACKWARD, BACKWARD)],
    "layout": [
        Program((Statement("tensor", "", (literal([1.0, 2.0, 3.0, 4.0], shape=(2,), strides=(2,)),), (), ("t0",)),)),
        Program((Statement("tensor", "", (literal([1.0, 2.0, 3.0], shape=(2,), strides=(1,), offset=1),), (), ("t0",)),)),
    ],
    "dtypes": [program(tensor("t1", [1.0], dtype="float64")), program(call("to", Ref("t0"), DType("float16")))],
    "special points": [Program((tensor("t0", [1.0, zero]),)) for zero in (0.0, -0.0)],
    "ordinary": [program(), program(BACKWARD), program(call("exp", Ref("t0"))), program(tensor("t1", [0, 1], dtype="int64"))],
}
CASES = [(name, one) for name, programs in HOLDING.items() for one in programs]


def test_every_rule_has_its_programs_here_in_the_order_of_precedence() -> None:
    assert list(HOLDING) == [*(name for name, _ in RULES), "ordinary"]


def test_every_trigger_has_a_name_of_the_pitfalls() -> None:
    assert {name for name, _ in RULES} <= PITFALLS


@pytest.mark.parametrize(("name", "one"), CASES, ids=[f"{name}-{place}" for place, (name, _) in enumerate(CASES)])
def test_a_program_has_the_trigger_that_it_holds_also_after_json(name: str, one: Program) -> None:
    assert one.problems() == [] and trigger(one) == name == trigger(Program.from_json(json.dumps(one.to_json())))


@pytest.mark.parametrize("place", range(len(RULES)))
def test_what_stands_earlier_in_the_rules_takes_precedence(place: int) -> None:
    """A program that holds one pitfall and every later one, its names made different."""
    names = list(HOLDING)[place:-1]
    statements = [renamed(s, f"p{n}") for n, name in enumerate(names) for s in HOLDING[name][0]]
    assert trigger(Program(tuple(statements))) == names[0]


def renamed(s: Statement, prefix: str) -> Statement:
    def of(atom: object) -> object:
        return Ref(prefix + atom.name) if isinstance(atom, Ref) else atom

    return Statement(s.kind, s.op, tuple(map(of, s.args)), s.kwargs, tuple(prefix + name for name in s.out))


def test_the_bits_of_a_memory_that_no_element_reaches_are_no_trigger() -> None:
    gap = Literal("float32", (1,), (1,), 0, literal([1.0, float("inf")]).data)
    assert trigger(Program((Statement("tensor", "", (gap,), (), ("t0",)),))) == "ordinary"


def test_every_drawn_program_has_a_trigger() -> None:
    seen = {trigger(from_seed(seed)) for seed in range(400)}
    assert len(seen) > 6 and seen <= set(HOLDING)
