"""Defects planted in real torch: is the tester any good?

Each says which op and facet the tool must name. A mutant is a subject like any other (``--subject tests.quality.mutants:exp_in_single``);
``nox -s quality`` runs all of them under three seeds and prints who was caught when.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch

from tests.quality.planting import (
    Function,
    Planted,
    leaves_below,
    mutant,
    patch,
    replace,
    wrong_gradient,
    wrong_result,
    wrong_value,
)


def unplanted(device: str) -> Planted:
    """The control: the same subject without a defect."""
    return Planted(device)


# --- values -----------------------------------------------------------------------------------------------------------------


@mutant("exp", "value", "values", "float64 is computed in float32")
def exp_in_single() -> None:
    wrong_value("exp", lambda x: x.float().exp() if x.dtype is torch.float64 else None)


@mutant("log1p", "value", "values", "computed as log(1 + x)")
def log1p_naive() -> None:
    wrong_value("log1p", lambda x: (x + 1.0).log())


@mutant("sum", "value", "values", "a full sum of three or more elements leaves the last one out")
def sum_short() -> None:
    wrong_value("sum", lambda x, **kwargs: x.reshape(-1)[:-1].sum() if not kwargs and x.numel() > 2 else None)


@mutant("mean", "value", "values", "a full mean divides by n - 1")
def mean_unbiased() -> None:
    wrong_value("mean", lambda x, **kwargs: x.sum() / (x.numel() - 1) if not kwargs and x.numel() > 1 else None)


@mutant("softmax", "value", "values", "the maximum is not subtracted: large inputs overflow")
def softmax_overflows() -> None:
    def formula(x: Any, dim: int) -> Any:
        powers = (x.float() if x.dtype.itemsize < 4 else x).exp()
        return powers / powers.sum(dim, keepdim=True)

    wrong_value("softmax", formula)


@mutant("mm", "value", "values", "the last product of every sum is missing")
def mm_short() -> None:
    wrong_value("mm", lambda a, b: a[:, :-1].mm(b[:-1]) if a.shape[1] else None)


@mutant("remainder", "value", "values", "the sign of the dividend, as fmod has it")
def remainder_as_fmod() -> None:
    wrong_value("remainder", lambda a, b: torch.fmod(torch.as_tensor(a), b))


@mutant("clamp", "value", "values", "where the bounds cross the lower one wins")
def clamp_crossed() -> None:
    wrong_value("clamp", lambda x, min=None, max=None: x.clamp(max=max).clamp(min=min) if None not in (min, max) else None)


@mutant("cumsum", "value", "values", "the last position repeats the one before")
def cumsum_stuck() -> None:
    def formula(x: Any, dim: int) -> Any:
        out = x.cumsum(dim)
        if x.ndim and x.shape[dim] > 1:
            out.select(dim, -1).copy_(out.select(dim, -2).clone())
        return out

    wrong_value("cumsum", formula)


@mutant("gelu", "value", "values", "approximate='tanh' is ignored")
def gelu_never_approximates() -> None:
    wrong_value("gelu", lambda x, **kwargs: torch.nn.functional.gelu(x))


@mutant("round", "value", "values", "halves go away from zero, not to even")
def round_half_away() -> None:
    wrong_value("round", lambda x: torch.where(x.frac().abs() == 0.5, x + x.sign() / 2, x.round()))


@mutant("scatter_add", "value", "values", "of several sources for one place only the last is added")
def scatter_add_races() -> None:
    wrong_value("scatter_add", lambda x, dim, index, source: x + torch.zeros_like(x).scatter(dim, index, source))


@mutant("setitem", "value", "values", "a negative index counts one too far")
def setitem_off_by_one() -> None:
    def wrap(original: Function) -> Function:
        def setitem(x: Any, index: Any, value: Any) -> None:
            if isinstance(index, int) and x.ndim and -x.shape[0] < index < 0:
                index -= 1
            original(x, index, value)

        return setitem

    patch(torch.Tensor, "__setitem__", wrap)


# --- gradients --------------------------------------------------------------------------------------------------------------


@mutant("mul", "grad", "gradients", "a tensor times itself gets one of its two contributions")
def mul_counts_once() -> None:
    def wrap(original: Function) -> Function:
        def mul(a: Any, b: Any) -> Any:
            out = original(a, b)
            if a is b and out.grad_fn is not None:
                out.grad_fn.register_hook(lambda sent, _: (sent[0], None))
            return out

        return mul

    replace("mul", wrap)


@mutant("tanh", "grad", "gradients", "1 - x² in place of 1 - tanh(x)²")
def tanh_of_input() -> None:
    wrong_gradient("tanh", lambda sent, arrived, out, x: (arrived * (1 - x * x),))


@mutant("relu", "grad", "gradients", "the gradient at 0 is 1")
def relu_open_at_zero() -> None:
    wrong_gradient("relu", lambda sent, arrived, out, x: (torch.where(x == 0, arrived, sent[0]),))


@mutant("maximum", "grad", "gradients", "a tie sends everything to the first operand")
def maximum_tie() -> None:
    def formula(sent: Any, arrived: Any, out: Any, a: Any, b: Any) -> Any:
        tie = a == b
        first, second = (g is not None and g.shape == tie.shape for g in sent)
        return (torch.where(tie, arrived, sent[0]) if first else sent[0], sent[1] * ~tie if second else sent[1])

    wrong_gradient("maximum", formula)


@mutant("index_select", "grad", "gradients", "of several gradients for one place only the last counts")
def index_select_overwrites() -> None:
    wrong_gradient("index_select", lambda sent, arrived, out, x, dim, index: (torch.zeros_like(x).index_copy(dim, index, arrived),))


@mutant("prod", "grad", "gradients", "computed as product / x, which is NaN where an element is 0")
def prod_divides() -> None:
    def formula(sent: Any, arrived: Any, out: Any, x: Any, dim: Any = None, keepdim: bool = False) -> Any:
        if dim is not None and not keepdim and x.ndim:
            arrived, out = arrived.unsqueeze(dim), out.unsqueeze(dim)
        return (arrived * out / x,)

    wrong_gradient("prod", formula)


@mutant("where", "grad", "gradients", "the second branch gets no gradient")
def where_forgets() -> None:
    wrong_gradient("where", lambda sent, *_: (sent[0], None if sent[1] is None else sent[1] * 0))


@mutant("var", "grad", "gradients", "the correction is forgotten")
def var_uncorrected() -> None:
    def formula(sent: Any, arrived: Any, out: Any, x: Any, dim: Any = None, correction: float = 1, keepdim: bool = False) -> Any:
        count = x.numel() / max(out.numel(), 1)
        return (sent[0] * ((count - correction) / max(count, 1)),)

    wrong_gradient("var", formula)


@mutant("mse_loss", "grad", "gradients", "the factor 2 is missing")
def mse_halved() -> None:
    wrong_gradient("mse_loss", lambda sent, *_, **__: (None if g is None else g / 2 for g in sent))


@mutant("tril", "grad", "gradients", "the gradient is not masked")
def tril_unmasked() -> None:
    wrong_gradient("tril", lambda sent, arrived, *_: (arrived,))


# --- bookkeeping: accumulation, the graph's life, hooks ---------------------------------------------------------------------


def _with_held_gradients(accumulate: Callable[[Any, Any], Any]) -> None:
    """Backward in place of the usual sum: a leaf that held ``held`` and got ``new`` has ``accumulate(held, new)`` as its ``.grad``."""

    def wrap(original: Function) -> Function:
        def backward(self: Any, *args: Any, create_graph: bool = False, **kwargs: Any) -> None:
            holders = [] if create_graph else [(leaf, leaf.grad) for leaf in leaves_below(self) if leaf.grad is not None]
            for leaf, _ in holders:
                leaf.grad = None
            try:
                original(self, *args, create_graph=create_graph, **kwargs)
            finally:
                with torch.no_grad():
                    for leaf, held in holders:
                        leaf.grad = held if leaf.grad is None else accumulate(held, leaf.grad)

        return backward

    patch(torch.Tensor, "backward", wrap)


@mutant("backward", "accumulation", "bookkeeping", "a second backward overwrites what .grad held")
def backward_overwrites() -> None:
    _with_held_gradients(lambda held, new: held.copy_(new))


@mutant("backward", "grad_identity", "bookkeeping", "the sum is a new tensor: whoever kept .grad keeps the old one")
def backward_replaces() -> None:
    _with_held_gradients(lambda held, new: held + new)


@mutant("backward", "error", "bookkeeping", "the graph is never freed: a second backward succeeds")
def backward_never_frees() -> None:
    def wrap(original: Function) -> Function:
        return lambda self, gradient=None, retain_graph=None, **kwargs: original(self, gradient, retain_graph=True, **kwargs)

    patch(torch.Tensor, "backward", wrap)


@mutant("grad", "error", "bookkeeping", "an unused input gets zeros, asked or not")
def grad_allows_unused() -> None:
    def wrap(original: Function) -> Function:
        def grad(*args: Any, **kwargs: Any) -> Any:
            return original(*args, **kwargs) if "allow_unused" in kwargs else original(*args, **kwargs, materialize_grads=True)

        return grad

    patch(torch.autograd, "grad", wrap)


@mutant("grad", "accumulation", "bookkeeping", "autograd.grad fills an empty .grad, too")
def grad_accumulates() -> None:
    def wrap(original: Function) -> Function:
        def grad(outputs: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            found = original(outputs, inputs, *args, **kwargs)
            for x, g in zip([inputs] if isinstance(inputs, torch.Tensor) else inputs, found, strict=True):
                if x.is_leaf and x.grad is None and g is not None:
                    x.grad = g.detach().clone()
            return found

        return grad

    patch(torch.autograd, "grad", wrap)


@mutant("retain_grad", "requires_grad", "bookkeeping", "retain_grad does nothing")
def retain_grad_idle() -> None:
    patch(torch.Tensor, "retain_grad", lambda original: lambda self: None if self.requires_grad else original(self))


@mutant("hook", "error", "bookkeeping", "a hook may be set where no gradient will come")
def hook_anywhere() -> None:
    def wrap(original: Function) -> Function:
        return lambda self, hook: original(self, hook) if self.requires_grad else torch.utils.hooks.RemovableHandle(OrderedDict())

    patch(torch.Tensor, "register_hook", wrap)


@mutant("hook", "grad", "bookkeeping", "a removed hook still runs")
def hook_stays() -> None:
    patch(torch.utils.hooks.RemovableHandle, "remove", lambda original: lambda self: None)


@mutant("requires_grad_", "error", "bookkeeping", "requires_grad_(False) on what is no leaf is ignored")
def requires_grad_ignored() -> None:
    def wrap(original: Function) -> Function:
        return lambda self, flag=True: original(self, flag) if flag or self.is_leaf else self

    patch(torch.Tensor, "requires_grad_", wrap)


@mutant("zero_grad", "accumulation", "bookkeeping", "gradients are zeroed where they should become None")
def zero_grad_keeps() -> None:
    patch(torch.optim.Optimizer, "zero_grad", lambda original: lambda self, set_to_none=True: original(self, set_to_none=False))


@mutant("mul", "version", "bookkeeping", "mul_ outside a graph does not count as a write")
def mul_silent() -> None:
    def wrap(original: Function) -> Function:
        def mul_(self: Any, other: Any) -> Any:
            recorded = self.requires_grad or (isinstance(other, torch.Tensor) and other.requires_grad)
            if self.is_inference() or (recorded and torch.is_grad_enabled()):
                return original(self, other)
            original(self.data, other)
            return self

        return mul_

    patch(torch.Tensor, "mul_", wrap)


# --- state: aliasing, strides, dtype, shape, graph, errors ------------------------------------------------------------------


def _copied(out: Any) -> Any:
    return out if out.is_inference() or out.requires_grad else out.clone()


@mutant("detach", "aliasing", "state", "detach copies")
def detach_copies() -> None:
    wrong_result("detach", _copied)


@mutant("transpose", "aliasing", "state", "transpose copies where no gradient is needed")
def transpose_copies() -> None:
    wrong_result("transpose", _copied)


@mutant("clone", "strides", "state", "the copy of a transposed tensor is contiguous")
def clone_contiguous() -> None:
    replace("clone", lambda original: lambda x: original(x, memory_format=torch.contiguous_format))


@mutant("reshape", "requires_grad", "state", "reshape loses the graph")
def reshape_detaches() -> None:
    wrong_result("reshape", lambda out: out.detach() if out.requires_grad else out)


@mutant("hypot", "is_leaf", "state", "the result is a fresh leaf")
def hypot_leaf() -> None:
    wrong_result("hypot", lambda out: out.detach().requires_grad_() if out.requires_grad else out)


@mutant("square", "grad_fn", "state", "recorded as a product")
def square_as_product() -> None:
    replace("square", lambda original: lambda x: x * x if x.requires_grad else original(x))


@mutant("add", "dtype", "state", "a half and a wider float give a half")
def add_narrows() -> None:
    halves = (torch.float16, torch.bfloat16)

    def wrap(original: Function) -> Function:
        def add(a: Any, b: Any, **kwargs: Any) -> Any:
            out = original(a, b, **kwargs)
            narrow = [x.dtype for x in (a, b) if isinstance(x, torch.Tensor) and x.dtype in halves]
            return out.to(narrow[0]) if narrow and out.dtype in (torch.float32, torch.float64) else out

        return add

    replace("add", wrap)


@mutant("argmax", "dtype", "state", "indices are int32")
def argmax_narrow() -> None:
    wrong_result("argmax", lambda out: out.int())


@mutant("unsqueeze", "shape", "state", "a negative dim counts without the new one")
def unsqueeze_off_by_one() -> None:
    replace("unsqueeze", lambda original: lambda x, dim: original(x, dim + x.ndim if -x.ndim <= dim < 0 else dim))


@mutant("sum", "error", "state", "a dim out of range wraps around")
def sum_wraps() -> None:
    def wrap(original: Function) -> Function:
        def sum_(x: Any, **kwargs: Any) -> Any:
            if isinstance(kwargs.get("dim"), int) and x.ndim:
                kwargs["dim"] %= x.ndim
            return original(x, **kwargs)

        return sum_

    replace("sum", wrap)


@mutant("view", "error", "state", "a view that strides forbid is a copy")
def view_copies() -> None:
    def wrap(original: Function) -> Function:
        def view(x: Any, *shape: Any) -> Any:
            try:
                return original(x, *shape)
            except RuntimeError as error:
                if "stride" not in str(error):
                    raise
                return x.reshape(*shape)

        return view

    patch(torch.Tensor, "view", wrap)


# --- optimizer --------------------------------------------------------------------------------------------------------------


def _sgd_ignores(option: str, value: Any) -> None:
    def wrap(original: Function) -> Function:
        def step(self: Any, *args: Any, **kwargs: Any) -> Any:
            for group in self.param_groups:
                group[option] = value
            return original(self, *args, **kwargs)

        return step

    patch(torch.optim.SGD, "step", wrap)


@mutant("SGD", "value", "optimizer", "weight decay is ignored")
def sgd_without_decay() -> None:
    _sgd_ignores("weight_decay", 0)


@mutant("SGD", "value", "optimizer", "maximize is ignored")
def sgd_minimizes() -> None:
    _sgd_ignores("maximize", False)


@mutant("SGD", "value", "optimizer", "Nesterov momentum is plain momentum")
def sgd_plain_momentum() -> None:
    _sgd_ignores("nesterov", False)
