"""What the engine does to leaves, hooks, ``.grad`` and versions: the same lines on torch and on refgrad tell the same."""

import copy
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

import refgrad
from refgrad import _errors

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


def stale_outputs_of_unbind_in_ops_without_a_derivative(lib: Any) -> Told:
    for name in ("logical_not_", "logical_and_", "eq_", "logical_not", "isnan", "argmax", "eq", "isfinite", "floor"):
        base = lib.tensor([1.0, 2.0, 3.0], requires_grad=True) * 1
        first, *_ = lib.unbind(base)
        base.fill_(0.0)
        operands = (lib.tensor(1.0),) if name in ("logical_and_", "eq_", "eq") else ()
        try:
            yield name, getattr(first, name)(*operands).tolist(), base._version
        except RuntimeError as error:
            yield name, str(error)


def views_of_a_view_whose_base_came_to_require_grad(lib: Any) -> Told:
    makers: list[Callable[[Any], Any]] = [
        lambda t: t.expand(t.shape), lambda t: t.view(-1), lambda t: t.unfold(0, 1, 1), lambda t: t[...], lambda t: t.transpose(0, 0),
        lambda t: t.squeeze(), lambda t: lib.unsqueeze(t, 0), lambda t: t.reshape(-1).split(1)[0], lambda t: t.exp(), lambda t: t.detach(),
    ]  # fmt: skip
    for make in makers:
        base = lib.tensor([[1.0, 2.0], [3.0, 4.0]])
        view = base[0:1]
        base.requires_grad_(True)
        made = make(view)
        following = [] if made.grad_fn is None else [type(e[0]).__name__ for e in made.grad_fn.next_functions]
        yield made.requires_grad, made.is_leaf, type(made.grad_fn).__name__, following


def retain_grad_of_a_stale_view_that_is_a_leaf(lib: Any) -> Told:
    base = lib.tensor([1.0, 2.0], requires_grad=True)
    with lib.no_grad():
        first, _ = lib.unbind(base)
        base.mul_(2.0)
        yield first.retain_grad(), first.retains_grad


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


def hooks_that_return_the_wrong_thing(lib: Any) -> Told:
    class Returns:
        def __init__(self, value: Any) -> None:
            self.value = value

        def __call__(self, gradient: Any) -> Any:
            return self.value

    def named(gradient: Any) -> Any:
        return lib.ones(3)

    for hook in (named, lambda g: lib.ones(5), lambda g: 3, lambda g: g.to(lib.float64), Returns(lib.ones(3)), Returns("a")):
        for leaf in (True, False):
            x = lib.tensor([1.0], requires_grad=True)
            y = x * 2
            (x if leaf else y).register_hook(hook)
            yield said(y.backward), x.grad


def gradients_that_are_no_tensors(lib: Any) -> Told:
    x = lib.tensor([1.0, 2.0], requires_grad=True)
    for given in ([1.0, 2.0], 3, "a", (3.0,), (lib.ones(2), lib.ones(2)), [lib.ones(2)], [None], []):
        yield said(lambda given=given: (x * 2).backward(given))
        yield said(lambda given=given: (x * 2).sum().backward(given, inputs=x))
    yield x.grad.tolist()
    yield said(lambda: lib.autograd.backward([x.sum(), x.sum()], [lib.tensor(1.0)]))
    yield said(lambda: x.sum().backward(inputs=lib.ones(2)))
    yield said(lambda: lib.autograd.grad(x.sum(), lib.ones(2)))
    yield said(lambda: setattr(x, "grad", 3))
    unused = lib.tensor([0.5], requires_grad=True)
    yield lib.autograd.grad(x.sum(), [unused], materialize_grads=True, create_graph=True)[0].requires_grad


def conversions_to_python(lib: Any) -> Told:
    for x in (lib.ones(2), lib.zeros(0), lib.tensor([[2.5]])):
        for kind in (bool, int, float, complex):
            yield said(lambda kind=kind, x=x: kind(x))
        yield said(x.item)
    yield said(lambda: lib.tensor([1, "a"])), said(lambda: lib.tensor([["a"]]))


def what_a_tensor_does_not_let_change(lib: Any) -> Told:
    x = lib.ones(2)
    for name in ("is_leaf", "shape", "dtype", "device", "grad_fn", "output_nr", "_version", "_base", "ndim", "itemsize", "retains_grad"):
        yield said(lambda name=name: setattr(x, name, 1))
    yield said(lambda: x.__delitem__(0)), said(lambda: x.half_nonsense)


def warnings_where_gradients_are_not_kept(lib: Any) -> Told:
    x = lib.tensor([1.0], requires_grad=True)
    y, kept, given = x * 2, x * 2, x * 2
    kept.retain_grad()
    given.grad = lib.ones(1)
    for tensor in (x, y, x.view(1), kept, given, x.detach(), y):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield tensor.grad is None
        yield [str(w.message).split(" (Triggered")[0] for w in caught]


def casts_by_name(lib: Any) -> Told:
    x = lib.tensor([1.5, 2.0], requires_grad=True)
    for name in ("float", "double", "half", "bfloat16", "int", "long", "short", "char", "byte", "bool"):
        yield repr(getattr(x, name)()), getattr(x, name)() is x
    yield x.is_cuda, x.is_cpu, x.nbytes, x.is_signed(), lib.zeros(1, dtype=lib.uint8).is_signed()


def data_replaced(lib: Any) -> Told:
    x = lib.tensor([1.0, 2.0], requires_grad=True)
    y, z, given = x * x, x * 2, lib.full((2,), 5.0)
    x.data = given
    y.sum().backward()
    given.zero_()
    yield x.grad.tolist(), x.tolist(), x._version, x.is_leaf
    z.data = lib.ones((5,))
    yield repr(z)
    yield said(lambda: setattr(x, "data", 3)), said(lambda: setattr(x, "data", lib.ones(2, dtype=lib.int64)))


def closeness(lib: Any) -> Told:
    nan, x = lib.tensor([float("nan"), float("inf")]), lib.tensor([1.0, 2.0], requires_grad=True)
    for other in (x + 1e-5, x + 1e-4, x.to(lib.float64), lib.ones(3), 3, lib.tensor(1.0), nan):
        yield said(lambda other=other: lib.allclose(x, other)), said(lambda other=other: lib.isclose(x, other))
    yield lib.allclose(nan, nan), lib.allclose(nan, nan, equal_nan=True), lib.allclose(lib.tensor([10]), lib.tensor([11]), rtol=0.1)
    yield x.isclose(x + 1).tolist(), x.allclose(x)
    yield said(lambda: lib.allclose(x, x, rtol=-1)), said(lambda: lib.allclose(x, x, atol=-0.5)), lib.allclose(x, x, 0, 0)


def limits_of_dtypes(lib: Any) -> Told:
    for name in ("float16", "bfloat16", "float32", "float64"):
        limits = lib.finfo(getattr(lib, name))
        yield repr(limits), limits.bits, limits.max, limits.min, limits.eps, limits.tiny, limits.resolution
    for name in ("uint8", "int8", "int16", "int32", "int64"):
        yield repr(lib.iinfo(getattr(lib, name))), lib.iinfo(getattr(lib, name)).bits
    yield repr(lib.finfo()), said(lambda: lib.finfo(lib.int8)), said(lambda: lib.iinfo(lib.float32))


def random_state_set_again(lib: Any) -> Told:
    lib.manual_seed(3)
    state = lib.get_rng_state()
    first = lib.rand(3).tolist()
    lib.set_rng_state(state)
    yield first == lib.rand(3).tolist(), first


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
    views_of_a_view_whose_base_came_to_require_grad,
    retain_grad_of_a_stale_view_that_is_a_leaf,
    stale_outputs_of_unbind_in_ops_without_a_derivative,
    results_written_before_their_backward,
    gradient_of_a_product_of_one_factor,
    gradients_of_unused_inputs,
    deep_copies,
    flags_and_devices_that_are_none,
    operands_that_are_no_tensors,
    named_results,
    printed_nodes_without_derivative,
    printed_options_of_an_optimizer,
    hooks_that_return_the_wrong_thing,
    gradients_that_are_no_tensors,
    conversions_to_python,
    what_a_tensor_does_not_let_change,
    warnings_where_gradients_are_not_kept,
    casts_by_name,
    data_replaced,
    closeness,
    limits_of_dtypes,
    random_state_set_again,
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


def warned(action: Callable[[], Any]) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        action()
    return [str(w.message).split(" (Triggered")[0] for w in caught]


@pytest.mark.parametrize(
    "action",
    [
        lambda x: float(x),
        lambda x: float(x.detach()),
        lambda x: int(x),
        lambda x: x.item(),
        lambda x: f"{x:.2f}",
        lambda x: x.backward(create_graph=True),
        lambda x: x.backward(),
    ],
)
def test_warnings_given_once(action: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_errors, "_WARNED", set())
    torch.set_warn_always(True)
    try:
        expected = warned(lambda: action(torch.tensor(1.0, requires_grad=True)))
    finally:
        torch.set_warn_always(False)
    x = refgrad.tensor(1.0, requires_grad=True)
    assert warned(lambda: action(x)) == expected
    assert warned(lambda: action(x)) == []
