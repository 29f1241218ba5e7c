"""The walk: what it hooks, what it sees arrive, what it binds, and that it leaves nothing behind. Runs on the reference."""

import gc
import weakref
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import refgrad
from conformance.observation import ABSENT, Arrival, Observation
from conformance.program import KINDS, Ref, Statement
from conformance.subjects.reference import Reference
from conformance.subjects.walk import DO, Walk, walk
from tests.harness.writing import do, leaf, tensor, write


def looked(*statements: Statement, hooked: bool = True) -> list[Observation]:
    """What the walk observes of a program on the reference."""
    return walk(write(*statements, hooked=hooked), Reference())


def last(*statements: Statement, hooked: bool = True) -> Observation:
    return looked(*statements, hooked=hooked)[-1]


def arrived(observation: Observation) -> dict[tuple[str, int], list[float]]:
    """First-order arrivals by name and slot."""
    return {(a.name, a.slot): a.value.tolist() for a in observation.arrivals if a.order == 1}


def raised(observation: Observation) -> str:
    return observation.raised.type if observation.raised else ""


T0 = leaf("t0", [1.0, 2.0, 3.0])
SUM = do("method", "sum", "@t1", out="t2")


def test_every_kind_of_statement_is_walked() -> None:
    assert set(DO) == set(KINDS)


# --- hooks --------------------------------------------------------------------------------------------------------------


def test_what_arrives_at_every_named_tensor_is_seen() -> None:
    seen = last(T0, do("operator", "mul", "@t0", 2.0, out="t1"), SUM, do("backward", "", "@t2"))
    assert arrived(seen) == {("t2", 0): 1.0, ("t1", 0): [1.0] * 3, ("t0", 0): [2.0] * 3}


def test_an_in_place_write_makes_a_slot_and_each_slot_gets_its_own_gradient() -> None:
    seen = last(
        T0, do("operator", "mul", "@t0", 5.0, out="t1"), do("inplace", "mul", "@t1", 3.0), SUM, do("backward", "", "@t2")
    )  # fmt: skip
    assert arrived(seen) == {("t2", 0): 1.0, ("t1", 1): [1.0] * 3, ("t1", 0): [3.0] * 3, ("t0", 0): [15.0] * 3}


def test_a_write_to_the_base_makes_a_slot_of_a_view_and_the_other_way_round() -> None:
    view = do("method", "narrow", "@t1", 0, 0, 2, out="v")
    through = {
        name: last(T0, do("operator", "mul", "@t0", 5.0, out="t1"), view, do("inplace", "mul", name, 3.0)).slots for name in ("@t1", "@v")
    }
    assert through == {"@t1": {"t0": 0, "t1": 1, "v": 1}, "@v": {"t0": 0, "t1": 1, "v": 1}}


def test_a_write_that_records_nothing_makes_no_slot() -> None:
    assert last(T0, do("enter", "no_grad"), do("inplace", "mul", "@t0", 2.0), do("exit")).slots == {"t0": 0}


def test_what_does_not_require_grad_has_no_slot_until_it_does() -> None:
    seen = looked(tensor("t0", [1.0]), do("requires_grad_", "", "@t0", True))
    assert [observation.slots for observation in seen] == [{}, {"t0": 0}]


def test_a_program_that_is_not_hooked_sees_nothing_arrive_and_the_same_values() -> None:
    statements = T0, do("operator", "mul", "@t0", 2.0, out="t1"), SUM, do("backward", "", "@t2")
    hooked, plain = last(*statements), last(*statements, hooked=False)
    assert plain.arrivals == [] and plain.slots == {} and plain.states == hooked.states
    assert plain.values["t0.grad"].tolist() == hooked.values["t0.grad"].tolist() == [2.0] * 3


def test_an_arrival_is_recorded_before_the_hook_of_the_program_and_says_what_flowed_on() -> None:
    seen = last(T0, do("hook", "double", "@t0", out="h"), do("method", "sum", "@t0", out="t1"), do("backward", "", "@t1"))
    (at_leaf,) = [a for a in seen.arrivals if a.name == "t0"]
    assert (at_leaf.value.tolist(), at_leaf.flowed.tolist(), seen.values["t0.grad"].tolist()) == ([1.0] * 3, [2.0] * 3, [2.0] * 3)


@pytest.mark.parametrize(("action", "flowed"), [("observe", 1.0), ("double", 2.0), ("zero", 0.0), ("inplace", 2.0)])
def test_every_action_of_a_hook_flows_on_as_it_says(action: str, flowed: float) -> None:
    seen = last(T0, do("hook", action, "@t0", out="h"), do("operator", "mul", "@t0", 1.0, out="t1"), SUM, do("backward", "", "@t2"))
    (at_leaf,) = [a for a in seen.arrivals if a.name == "t0"]
    assert raised(seen) == "" and at_leaf.value.tolist() == [1.0] * 3 and at_leaf.flowed.tolist() == [flowed] * 3


def test_two_hooks_of_the_program_run_in_order_and_the_last_says_what_flows() -> None:
    hooks = do("hook", "double", "@t0", out="h"), do("hook", "double", "@t0", out="k")
    seen = last(T0, *hooks, do("method", "sum", "@t0", out="t1"), do("backward", "", "@t1"))
    (at_leaf,) = [a for a in seen.arrivals if a.name == "t0"]
    assert at_leaf.flowed.tolist() == [4.0] * 3 == seen.values["t0.grad"].tolist()


def test_a_hook_that_was_removed_does_nothing() -> None:
    seen = last(
        T0, do("hook", "double", "@t0", out="h"), do("remove_hook", "", "@h"), do("method", "sum", "@t0", out="t1"),
        do("backward", "", "@t1"),
    )  # fmt: skip
    (at_leaf,) = [a for a in seen.arrivals if a.name == "t0"]
    assert at_leaf.flowed.tolist() == [1.0] * 3 == seen.values["t0.grad"].tolist()


def test_what_was_recorded_is_a_copy_that_no_later_write_reaches() -> None:
    """A hook of the program writes into the gradient after it was recorded."""
    seen = last(T0, do("hook", "inplace", "@t0", out="h"), do("operator", "mul", "@t0", 1.0, out="t1"), SUM, do("backward", "", "@t2"))
    assert arrived(seen)["t0", 0] == [1.0] * 3 and seen.values["t0.grad"].tolist() == [2.0] * 3


def test_under_create_graph_what_reaches_an_arrival_is_of_the_second_order_and_says_of_which() -> None:
    seen = looked(
        T0, do("operator", "pow", "@t0", 3.0, out="t1"), SUM, do("grad", "", "@t2", "@t0", create_graph=True, out="g"),
        do("method", "sum", "@g", out="s"), do("backward", "", "@s"),
    )  # fmt: skip
    first = next(place for place, a in enumerate(seen[3].arrivals) if a.name == "t0")
    second: Arrival = next(a for a in seen[-1].arrivals if a.order == 2 and a.name == "t0")
    assert seen[3].arrivals[first].differentiable and second.of == (3, first) and second.value.tolist() == [1.0] * 3
    assert arrived(seen[-1])["t0", 0] == [6.0, 12.0, 18.0]


def test_nothing_is_differentiable_without_create_graph() -> None:
    assert not any(a.differentiable for a in last(T0, do("method", "sum", "@t0", out="t1"), do("backward", "", "@t1")).arrivals)


# --- names --------------------------------------------------------------------------------------------------------------


def test_a_statement_that_reads_what_was_never_bound_raises_unbound_and_changes_nothing() -> None:
    failed = do("method", "view", "@t0", 7, out="t1")
    seen = looked(T0, failed, do("method", "sum", "@t1", out="t2"), do("method", "sum", "@t0", out="t3"))
    assert [raised(o) for o in seen] == ["", "RuntimeError", "Unbound", ""] and list(seen[-1].states or ()) == ["t0", "t3"]


def test_several_outs_are_bound_one_by_one() -> None:
    seen = last(T0, do("method", "split", "@t0", 2, out=("a", "b")))
    assert (seen.values["a"].tolist(), seen.values["b"].tolist()) == ([1.0, 2.0], [3.0])


@pytest.mark.parametrize("outs", [("a", "b"), ("a", "b", "c", "d")])
def test_more_or_fewer_outs_than_there_are_raise_as_python_does(outs: tuple[str, ...]) -> None:
    seen = last(T0, do("method", "unbind", "@t0", out=outs))
    assert raised(seen) == "ValueError" and seen.raised and "values to unpack" in seen.raised.message and "a" not in (seen.states or {})


def test_the_one_gradient_of_grad_is_taken_out_of_its_tuple() -> None:
    seen = last(T0, do("method", "sum", "@t0", out="t1"), do("grad", "", "@t1", "@t0", out="g"))
    assert seen.values["g"].tolist() == [1.0] * 3


def test_an_unused_gradient_binds_nothing() -> None:
    seen = looked(
        T0, leaf("t9", [1.0]), do("method", "sum", "@t0", out="t1"), do("grad", "", "@t1", "@t9", allow_unused=True, out="g"),
        do("operator", "mul", "@g", 2.0, out="u"),
    )  # fmt: skip
    assert [raised(o) for o in seen] == ["", "", "", "", "Unbound"]


def test_a_deleted_name_is_gone_and_whoever_shares_its_memory_stays() -> None:
    seen = looked(T0, do("detach", "", "@t0", out="t1"), do("delete", "", "@t0"), do("inplace", "mul", "@t1", 2.0))
    assert list(seen[-1].states or ()) == ["t1"] and seen[-1].values["t1"].tolist() == [2.0, 4.0, 6.0]
    assert [o.states["t1"].alias for o in seen[1:] if o.states] == ["t0", "t1", "t1"]


def test_a_gradient_that_was_read_is_the_object_that_a_later_backward_adds_to() -> None:
    backward = do("method", "sum", "@t0", out="t1"), do("backward", "", "@t1", retain_graph=True)
    seen = last(T0, *backward, do("read_grad", "", "@t0", out="g"), do("backward", "", "@t1"))
    assert seen.values["g"].tolist() == [2.0] * 3 and seen.states and seen.states["g"].alias == seen.states["t0.grad"].alias


# --- blocks -------------------------------------------------------------------------------------------------------------


def modes() -> tuple[bool, bool]:
    return refgrad.is_grad_enabled(), refgrad.is_inference_mode_enabled()


@pytest.mark.parametrize("mode", ["no_grad", "inference_mode"])
def test_a_block_ends_where_it_says_also_after_a_statement_that_raised_in_it(mode: str) -> None:
    bad = do("method", "view", "@t0", 7, out="t1")
    seen = last(T0, do("enter", mode), bad, do("exit"), do("operator", "mul", "@t0", 2.0, out="t2"))
    assert seen.states and seen.states["t2"].requires_grad is True and seen.states["t2"].is_inference is False


def test_nested_blocks_end_in_order() -> None:
    inside = do("operator", "mul", "@t0", 2.0, out="a"), do("exit"), do("operator", "mul", "@t0", 2.0, out="b"), do("exit")
    seen = last(T0, do("enter", "no_grad"), do("enter", "set_grad_enabled", True), *inside)
    assert seen.states and (seen.states["a"].requires_grad, seen.states["b"].requires_grad) == (True, False)


def test_a_walk_that_breaks_off_within_blocks_leaves_them() -> None:
    class Broken(Reference):
        def function(self, op: str) -> Any:
            raise KeyboardInterrupt

    program = write(T0, do("enter", "inference_mode"), do("enter", "no_grad"), do("call", "exp", "@t0", out="t1"), do("exit"), do("exit"))
    before = modes()
    with pytest.raises(KeyboardInterrupt):
        walk(program, Broken())
    assert modes() == before == (True, False)


# --- looking ------------------------------------------------------------------------------------------------------------


def test_nobody_looks_after_a_statement_that_says_not_to() -> None:
    quiet = Statement("operator", "mul", (Ref("t0"), 2.0), (), ("t1",), observe=False)
    seen = looked(T0, quiet, do("operator", "mul", "@t0", 3.0, out="t2"))
    assert seen[1].states is None and seen[1].values == {} and set(seen[2].values) == {"t1", "t2"}


def test_only_values_that_changed_are_given_again() -> None:
    seen = looked(T0, do("detach", "", "@t0", out="t1"), do("inplace", "mul", "@t1", 2.0), do("method", "sum", "@t0", out="t2"))
    assert [set(o.values) for o in seen] == [{"t0"}, {"t1"}, {"t0", "t1"}, {"t2"}]


def test_a_version_is_counted_from_when_the_object_was_first_seen() -> None:
    write_to = do("inplace", "zero", "@t1")
    seen = looked(T0, do("operator", "mul", "@t0", 2.0, out="t1"), write_to, write_to, do("detach", "", "@t1", out="t2"), write_to)
    assert [(o.states["t1"].version, o.states["t2"].version if "t2" in o.states else None) for o in seen[1:] if o.states] == [
        (0, None), (1, None), (2, None), (2, 0), (3, 1),
    ]  # fmt: skip


def test_an_inference_tensor_has_no_version() -> None:
    seen = last(do("enter", "inference_mode"), tensor("t0", [1.0]), do("exit"))
    assert seen.states and seen.states["t0"].version is ABSENT and seen.states["t0"].is_inference is True


def test_a_new_gradient_object_has_a_new_identity_and_an_added_one_has_not() -> None:
    backward = do("backward", "", "@t1", retain_graph=True)
    seen = looked(T0, do("method", "sum", "@t0", out="t1"), backward, backward, do("clear_grad", "none", "@t0"), backward)
    assert [o.states["t0.grad"].identity for o in seen if o.states and "t0.grad" in o.states] == [1, 1, 2]


def test_a_base_without_a_name_is_unnamed() -> None:
    seen = last(T0, do("operator", "mul", "@t0", 2.0, out="t1"), do("method", "narrow", "@t1", 0, 0, 2, out="v"), do("delete", "", "@t1"))
    assert seen.states and seen.states["v"].base == "unnamed" and seen.states["v"].alias == "v"


def test_what_an_engine_cannot_do_is_unsupported_and_what_it_refuses_is_raised() -> None:
    class Poor(Reference):
        def function(self, op: str) -> Any:
            def refuse(*args: Any) -> Any:
                raise NotImplementedError("no kernel") if op == "exp" else RuntimeError("no")

            return refuse

    seen = walk(write(T0, do("call", "exp", "@t0", out="t1"), do("call", "sin", "@t0", out="t2")), Poor())
    assert (seen[1].unsupported, seen[1].raised, raised(seen[2]), seen[2].unsupported) == ("no kernel", None, "RuntimeError", "")


# --- following ----------------------------------------------------------------------------------------------------------


def test_the_one_that_follows_takes_over_values_and_goes_on_with_them() -> None:
    program = write(T0, do("operator", "mul", "@t0", 2.0, out="t1"), SUM, do("backward", "", "@t2"))
    subject = walk(program, Reference())
    subject[1].values["t1"] = np.array([7.0, 7.0, 7.0], np.float32)
    del subject[2].values["t2"]
    follower = Walk(Reference(), program, follow=subject)
    follower.tensor_type = refgrad.Tensor
    right = [follower.step(index, statement) for index, statement in enumerate(program)]
    assert [o.states for o in right] == [o.states for o in subject] and all(o.values == {} for o in right)
    assert Reference().bits(follower.names["t2"]).tolist() == 21.0


@pytest.mark.parametrize("strides", ((1, 2, 2), (1, 9, 2), (0, 0, 1), (4, 2, 1)))
def test_the_one_that_follows_takes_over_how_a_returned_gradient_lies(strides: tuple[int, ...]) -> None:
    program = write(
        leaf("t0", [0.0] * 4, shape=(2, 1, 2)), do("method", "exp", "@t0", out="t1"), tensor("g", [1.0] * 4, shape=(2, 1, 2)),
        do("grad", "", "@t1", "@t0", grad_outputs="@g", out="t2"), do("method", "to", "@t2", out="t3"),
    )  # fmt: skip
    seen = walk(program, Reference())
    assert seen[3].states is not None
    states = {**seen[3].states, "t2": seen[3].states["t2"]._replace(strides=strides)}
    followed = walk(program, Reference(), follow=[*seen[:3], replace(seen[3], states=states), seen[4]])
    assert followed[4].states is not None
    assert followed[4].states["t3"].strides == strides


def test_a_walk_lets_go_of_its_tensors_without_the_garbage_collector() -> None:
    """A cycle through a graph of torch's is never collected, so a run over 100,000 programs would keep them all."""
    held = []

    class Watched(Reference):
        def literal(self, literal: Any, requires_grad: bool) -> Any:
            tensor = super().literal(literal, requires_grad)
            held.append(weakref.ref(tensor))
            return tensor

    twice = do("grad", "", "@t2", "@t0", create_graph=True, out="t3")
    gc.disable()
    try:
        walk(write(T0, do("operator", "mul", "@t0", "@t0", out="t1"), SUM, twice), Watched())
        assert [tensor() for tensor in held] == [None]
    finally:
        gc.enable()
