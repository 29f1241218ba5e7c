"""What the engine does to leaves, hooks, ``.grad`` and versions: the same lines on torch and on refgrad tell the same."""

import copy
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

import refgrad

#: what a case tells: numbers, texts, classes of nodes
Told = Iterator[Any]


def leaf_moved_into_the_graph(lib: Any) -> Told:
    x = lib.tensor([2.0], requires_grad=True)
    y = x.floor()
    x.requires_grad_(False)
    x.add_(y)
    yield type(x.grad_fn).__name__
    x.backward()


def gradient_of_inference_mode(lib: Any) -> Told:
    x = lib.tensor(0.0, requires_grad=True)
    with lib.inference_mode():
        x.backward()
    yield x.grad.is_inference(), x.grad.item()
    x.backward()


def hook_on_a_leaf_that_became_a_result(lib: Any) -> Told:
    x = lib.tensor([1.0], requires_grad=True)
    seen: list[Any] = []
    x.requires_grad_(False)
    x.mul_(lib.tensor([3.0], requires_grad=True))
    x.register_hook(lambda g: seen.append(g.tolist()))
    x.backward()
    yield seen


def view_of_a_leaf_that_stopped_requiring_grad(lib: Any) -> Told:
    x = lib.tensor(1.0, requires_grad=True)
    view = x.unfold(0, 1, 1)
    x.requires_grad_(False)
    x.sinc_()
    yield view.requires_grad, type(view.grad_fn).__name__, view.grad_fn.next_functions[0][0]
    view.backward()
    yield x.grad


def gradient_of_another_dtype(lib: Any) -> Told:
    x = lib.tensor([1.0, 2.0], requires_grad=True)
    x.backward(gradient=lib.tensor([0.1, 0.2], dtype=lib.float64))
    yield str(x.grad.dtype).split(".")[-1], x.grad.tolist()


def integers_divided_by_zero(lib: Any) -> Told:
    zero = lib.tensor(0)
    for op in ("floor_divide", "remainder", "fmod"):
        yield getattr(lib, op)(lib.zeros((0,), dtype=lib.int64), zero).tolist()
    yield lib.div(lib.zeros((2, 0), dtype=lib.int64), 0, rounding_mode="trunc").tolist()
    lib.remainder(lib.ones((1,), dtype=lib.int64), zero)


def results_written_before_their_backward(lib: Any) -> Told:
    """The result is saved and checked also where the one operand whose slope needs it asks for no gradient."""
    for name in (
        "copysign",
        "pow",
        "hypot",
        "logaddexp",
        "atan2",
        "div",
        "mul",
        "fmod",
        "remainder",
        "maximum",
        "xlogy",
        "clamp_min",
        "lerp",
    ):
        for first in (False, True):
            a, b = lib.tensor([2.0]), lib.tensor([3.0], requires_grad=True)
            more = (lib.tensor([0.5]),) if name == "lerp" else ()
            result = getattr(lib, name)(*((b, a) if first else (a, b)), *more)
            result[0] = 0.5
            try:
                result.backward(lib.ones_like(result))
                yield name, first, b.grad.tolist()
            except RuntimeError as error:
                yield name, first, str(error)


def rolls_of_nothing(lib: Any) -> Told:
    nothing = lib.zeros((0, 3))
    for arguments in ((1, 5), ((1, 2), (0, 7)), ((1,), ()), ((1, 2), (0,))):
        try:
            yield list(lib.roll(nothing, *arguments).shape)
        except RuntimeError as error:
            yield str(error)


def repeated_memory_written_from_itself(lib: Any) -> Told:
    writes: dict[str, Callable[[Any], Any]] = {
        "index_add": lambda t: t.index_add_(1, lib.tensor([0]), t),
        "index_copy": lambda t: t.index_copy_(1, lib.tensor([0]), t),
        "scatter": lambda t: t.scatter_(1, lib.tensor([[0], [0]]), t),
        "scatter_add": lambda t: t.scatter_add_(1, lib.tensor([[0], [0]]), t),
        "masked_scatter": lambda t: t.masked_scatter_(lib.tensor([[True], [True]]), t),
        "put": lambda t: t.put_(lib.tensor([0]), t[0]),
        "add": lambda t: t.add_(t),
    }
    for name, write in writes.items():
        try:
            yield name, write(lib.broadcast_to(lib.zeros((1,)), (2, 1))).tolist()
        except RuntimeError as error:
            yield name, str(error)


def memory_of_a_result_without_elements(lib: Any) -> Told:
    x = lib.tensor([1.0, 2.0, 3.0])
    for part in (x[0:0], x[0:0].contiguous()):
        yield lib.as_strided(part, (1,), (1,)).tolist()
    lib.as_strided(lib.topk(x, 0, 0)[0], (1,), (1,))


def gradient_of_a_product_of_one_factor(lib: Any) -> Told:
    for factor in (0.0, 2.0):
        for dims in ((), (0,)):
            x = lib.tensor([factor], requires_grad=True)
            y = lib.prod(x, *dims)
            given = lib.ones_like(y)
            y.backward(gradient=given)
            given.zero_()
            yield x.grad.tolist()  # one memory with what was given, or not


def said(action: Callable[[], Any]) -> str:
    """The text of an error, with its type; the text of the result where there is none."""
    try:
        return repr(action())
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def gradients_of_unused_inputs(lib: Any) -> Told:
    x, unused = (lib.tensor([1.0], requires_grad=True) for _ in range(2))
    for gradient in lib.autograd.grad(x.sum(), [x, unused], materialize_grads=True):
        yield gradient.tolist(), gradient.requires_grad
    yield said(lambda: lib.autograd.grad(x.sum(), []))


def deep_copies(lib: Any) -> Told:
    x = lib.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    (x * 3).sum().backward()
    same = copy.deepcopy(x)
    yield same.tolist(), same.requires_grad, same.is_leaf, same.grad.tolist()
    part, whole = copy.deepcopy([x.detach().t()[1:], x])
    part.zero_()
    yield whole.tolist(), part.shape, part.stride(), part.storage_offset(), x.tolist()
    one, other = copy.deepcopy([x, x])
    yield one is other
    yield said(lambda: copy.deepcopy(x * 2))


def flags_and_devices_that_are_none(lib: Any) -> Told:
    yield said(lambda: setattr(lib.ones(1), "requires_grad", 1))
    yield said(lambda: lib.ones(1).to("cuda"))
    yield said(lambda: lib.ones(1).to(device="cuda"))


def operands_that_are_no_tensors(lib: Any) -> Told:
    x = lib.tensor([1.0, 2.0])
    yield said(lambda: lib.exp(1.0))
    yield said(lambda: lib.exp("a"))
    yield said(lambda: lib.sum(3.0))
    yield said(lambda: lib.add(x, "a"))
    yield said(lambda: lib.mul(x, "a"))


def named_results(lib: Any) -> Told:
    x = lib.tensor([[1.0, 5.0], [4.0, 2.0]])
    yield repr(x.max(0)), repr(x.sort()), repr(lib.topk(x, 1)), repr(lib.var_mean(x)), repr(lib.std_mean(x))


def printed_nodes_without_derivative(lib: Any) -> Told:
    y = lib.tensor([1.0, 5.0], requires_grad=True) // 2
    yield repr(y), y.grad_fn.name()


def printed_options_of_an_optimizer(lib: Any) -> Told:
    p = lib.tensor([1.0], requires_grad=True)
    optimizer = lib.optim.SGD([p], lr=lib.tensor(0.1))
    yield repr(optimizer), repr(optimizer.param_groups), f"{p}", f"{p.sum()}", f"{p.sum():.2f}"
    yield said(lambda: lib.optim.SGD([1]))


CASES = [
    leaf_moved_into_the_graph,
    gradient_of_inference_mode,
    hook_on_a_leaf_that_became_a_result,
    view_of_a_leaf_that_stopped_requiring_grad,
    gradient_of_another_dtype,
    integers_divided_by_zero,
    memory_of_a_result_without_elements,
    repeated_memory_written_from_itself,
    rolls_of_nothing,
    results_written_before_their_backward,
    gradient_of_a_product_of_one_factor,
    gradients_of_unused_inputs,
    deep_copies,
    flags_and_devices_that_are_none,
    operands_that_are_no_tensors,
    named_results,
    printed_nodes_without_derivative,
    printed_options_of_an_optimizer,
]


def told(case: Callable[[Any], Told], lib: Any) -> list[Any]:
    """What the case yields, and the error that ends it."""
    found: list[Any] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for item in case(lib):
                found.append(item)
        except Exception as error:
            return [*found, type(error).__name__, str(error)]
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_the_same_lines_tell_the_same(case: Callable[[Any], Told]) -> None:
    expected = told(case, torch)
    assert expected and told(case, refgrad) == expected
