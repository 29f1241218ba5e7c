"""Defects planted in real torch, in a worker process of their own: is the tester any good?

Each mutant says which op and facet the tool must name. ``python -m tests.quality.mutants --list`` prints them; ``nox -s quality`` runs every one under
three seeds and prints the kill matrix. A mutant is a subject like any other: ``--subject tests.quality.mutants:NAME``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch

from conformance.subjects.eager_torch import EagerTorch

F = torch.nn.functional


@dataclass(frozen=True, slots=True)
class Mutant:
    """A defect: the op and the facet that a new cause must name, and what plants it."""

    op: str
    facet: str
    plant: Callable[[], None]
    what: str


MUTANTS: Final[dict[str, Mutant]] = {}


def mutant(op: str, facet: str, what: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    def declare(plant: Callable[[], None]) -> Callable[[], None]:
        MUTANTS[plant.__name__] = Mutant(op, facet, plant, what)
        return plant

    return declare


def __getattr__(name: str) -> Any:
    """``tests.quality.mutants:NAME`` is a subject: making it plants the defect in this process."""
    if name not in MUTANTS:
        raise AttributeError(name)

    def make(device: str) -> EagerTorch:
        engine = EagerTorch(device)
        MUTANTS[name].plant()
        return engine

    return make


# --- ways to plant ----------------------------------------------------------------------------------------------------------

_DUNDERS: Final = {
    "add": ("__add__", "__radd__"), "sub": ("__sub__",), "mul": ("__mul__", "__rmul__"), "div": ("__truediv__",), "pow": ("__pow__",),
    "matmul": ("__matmul__",), "remainder": ("__mod__",), "floor_divide": ("__floordiv__",), "neg": ("__neg__",), "abs": ("__abs__",),
}  # fmt: skip


def replace(op: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Wraps every out-of-place spelling of the op."""
    for place in (torch, F, torch.Tensor, torch.linalg):
        names = (op, *(_DUNDERS.get(op, ()) if place is torch.Tensor else ()))
        for name in names:
            if (original := getattr(place, name, None)) is not None:
                setattr(place, name, wrap(original))


def wrong_value(op: str, change: Callable[..., None]) -> None:
    """After the op, ``change(output, *arguments)`` edits its memory; no version tells."""

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            out = original(*args, **kwargs)
            if isinstance(out, torch.Tensor) and out.is_floating_point() and out.numel():
                with torch.no_grad():
                    change(out.detach().data, *args)
            return out

        return wrapped

    replace(op, wrap)


def wrong_gradient(op: str, change: Callable[[tuple[Any, ...], Any], tuple[Any, ...]]) -> None:
    """The op's node sends ``change(gradients, node)`` in place of its gradients."""

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            out = original(*args, **kwargs)
            if isinstance(out, torch.Tensor) and out.grad_fn is not None:
                out.grad_fn.register_hook(lambda sent, _: change(sent, args))
            return out

        return wrapped

    replace(op, wrap)


def _scaled(sent: tuple[Any, ...], factor: float) -> tuple[Any, ...]:
    return tuple(None if g is None else g * factor for g in sent)


# --- values -------------------------------------------------------------------------------------------------------------------


@mutant("exp", "value", "relative error of 1e-5")
def exp_off() -> None:
    wrong_value("exp", lambda out, *_: out.mul_(1 + 1e-5) if out.dtype.itemsize > 2 else out.mul_(1.05))


@mutant("log1p", "value", "computed as log(1 + x) rounded in between")
def log1p_naive() -> None:
    wrong_value("log1p", lambda out, x, *_: out.copy_((x.detach() + 1.0).to(out.dtype).log()))


@mutant("sqrt", "value", "four ulps too large")
def sqrt_off() -> None:
    wrong_value("sqrt", lambda out, *_: out.mul_(1 + 8 * torch.finfo(out.dtype).eps))


@mutant("sum", "value", "the last element of the input is left out of a full sum of three or more")
def sum_short() -> None:
    def change(out: Any, x: Any, *_: Any) -> None:
        if out.ndim == 0 and x.numel() > 2:
            out.sub_(x.detach().reshape(-1)[-1].to(out.dtype))

    wrong_value("sum", change)


@mutant("mean", "value", "divides by n - 1")
def mean_unbiased() -> None:
    wrong_value("mean", lambda out, x, *_: out.mul_(x.numel() / (x.numel() - 1)) if out.ndim == 0 and x.numel() > 1 else None)


@mutant("softmax", "value", "not normalized at one element")
def softmax_off() -> None:
    wrong_value("softmax", lambda out, *_: out.reshape(-1)[:1].mul_(1.25))


@mutant("mm", "value", "one product is missing")
def mm_short() -> None:
    def change(out: Any, a: Any, b: Any, *_: Any) -> None:
        if a.shape[1]:
            out[0, 0] -= (a.detach()[0, -1] * b.detach()[-1, 0]).to(out.dtype)

    wrong_value("mm", change)


@mutant("remainder", "value", "the sign of the dividend, as fmod")
def remainder_fmod() -> None:
    wrong_value("remainder", lambda out, a, b, *_: out.copy_(torch.fmod(torch.as_tensor(a).detach(), torch.as_tensor(b).detach()).to(out.dtype)))


@mutant("clamp", "value", "an element at the lower bound is moved")
def clamp_bound() -> None:
    wrong_value("clamp", lambda out, *_: out.masked_fill_(out == -1.0, -0.75))


@mutant("cumsum", "value", "the last position repeats the one before")
def cumsum_stuck() -> None:
    def change(out: Any, x: Any, dim: int = 0, *_: Any) -> None:
        if out.ndim and out.shape[dim] > 1:
            out.select(dim, -1).copy_(out.select(dim, -2).clone())

    wrong_value("cumsum", change)


@mutant("atan2", "value", "the quadrant is lost")
def atan2_quadrant() -> None:
    wrong_value("atan2", lambda out, a, b, *_: out.copy_((a.detach() / b.detach()).atan().to(out.dtype)))


@mutant("log_softmax", "value", "shifted by half a percent")
def log_softmax_shift() -> None:
    wrong_value("log_softmax", lambda out, *_: out.mul_(1.03125))


# --- gradients ----------------------------------------------------------------------------------------------------------------


@mutant("mul", "grad", "the second operand's gradient has the wrong sign")
def mul_sign() -> None:
    def change(sent: tuple[Any, ...], _: Any) -> tuple[Any, ...]:
        return (sent[0], None if sent[1] is None else -sent[1])

    wrong_gradient("mul", change)


@mutant("tanh", "grad", "relative error of 1e-3 (5 % in half precision)")
def tanh_grad() -> None:
    wrong_gradient("tanh", lambda sent, _: tuple(g * (1.001 if g.dtype.itemsize > 2 else 1.05) for g in sent))


@mutant("relu", "grad", "the gradient at 0 is 1")
def relu_at_zero() -> None:
    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(x: Any, *args: Any, **kwargs: Any) -> Any:
            out = original(x, *args, **kwargs)
            if out.grad_fn is not None:
                zero = x.detach() == 0
                out.grad_fn.register_hook(lambda sent, arrived: (torch.where(zero, arrived[0], sent[0]),))
            return out

        return wrapped

    replace("relu", wrap)


@mutant("sigmoid", "grad", "s instead of s (1 - s)")
def sigmoid_grad() -> None:
    wrong_gradient("sigmoid", lambda sent, _: _scaled(sent, 1.25))


@mutant("maximum", "grad", "a tie sends everything to the first operand")
def maximum_tie() -> None:
    def change(sent: tuple[Any, ...], args: Any) -> tuple[Any, ...]:
        a, b = sent
        tie = (args[0] == args[1]).to((a if a is not None else b).dtype)
        first = None if a is None else a * (1 + tie.reshape(tie.shape)) if a.shape == tie.shape else a
        second = None if b is None else b * (1 - tie) if b.shape == tie.shape else b
        return (first, second)

    wrong_gradient("maximum", change)


@mutant("index_select", "grad", "a repeated index overwrites instead of adding")
def index_select_repeat() -> None:
    wrong_gradient("index_select", lambda sent, _: tuple(None if g is None else g.clamp(-0.5, 0.5) for g in sent))


@mutant("prod", "grad", "off by one percent")
def prod_grad() -> None:
    wrong_gradient("prod", lambda sent, _: _scaled(sent, 1.0625))


@mutant("where", "grad", "the other branch's gradient is lost")
def where_grad() -> None:
    wrong_gradient("where", lambda sent, _: tuple(None if g is None else (g * 0 if i == len(sent) - 1 else g) for i, g in enumerate(sent)))


@mutant("var", "grad", "as if divided by n")
def var_grad() -> None:
    wrong_gradient("var", lambda sent, _: _scaled(sent, 0.75))


@mutant("gather", "grad", "half of it")
def gather_grad() -> None:
    wrong_gradient("gather", lambda sent, _: _scaled(sent, 0.5))


# --- accumulation and the graph ---------------------------------------------------------------------------------------------


def _around_backward(change: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    torch.Tensor.backward = change(torch.Tensor.backward)  # type: ignore[method-assign]


@mutant("backward", "accumulation", "the second backward overwrites .grad")
def backward_overwrites() -> None:
    """Every leaf forgets what it held; the tool keeps its own list of leaves, so a registry is kept here."""
    leaves: list[Any] = []
    original = torch.Tensor.requires_grad_

    def requires_grad_(self: Any, requires_grad: bool = True) -> Any:
        leaves.append(self)
        del leaves[:-40]
        return original(self, requires_grad)

    def change(backward: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(self: Any, *args: Any, **kwargs: Any) -> None:
            held = [x for x in leaves if x.grad is not None]
            with torch.no_grad():
                for x in held:
                    x.grad.data.zero_()
            backward(self, *args, **kwargs)

        return wrapped

    torch.Tensor.requires_grad_ = requires_grad_  # type: ignore[method-assign, assignment]
    _around_backward(change)


@mutant("backward", "error", "the graph is never freed: a second backward succeeds")
def never_frees() -> None:
    def change(backward: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(self: Any, gradient: Any = None, retain_graph: Any = None, create_graph: bool = False, inputs: Any = None) -> None:
            backward(self, gradient, True, create_graph, inputs)

        return wrapped

    _around_backward(change)


@mutant("retain_grad", "requires_grad", "retain_grad does nothing")
def retain_nothing() -> None:
    def retain_grad(self: Any) -> None:
        if not self.requires_grad:
            raise RuntimeError("can't retain_grad on Tensor that has requires_grad=False")

    torch.Tensor.retain_grad = retain_grad  # type: ignore[method-assign]


# --- state ----------------------------------------------------------------------------------------------------------------------


@mutant("detach", "aliasing", "detach copies")
def detach_copies() -> None:
    original = torch.Tensor.detach
    inside = []

    def detach(self: Any) -> Any:
        out = original(self)
        if inside or not self.requires_grad:
            return out
        return out

    def copying(self: Any) -> Any:
        return original(self).clone()

    torch.Tensor.detach = detach  # type: ignore[method-assign]
    EagerTorch.bits = _bits_with(original)  # type: ignore[method-assign]
    torch.Tensor.detach = copying  # type: ignore[method-assign]


def _bits_with(detach: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    """The harness reads through the original detach."""
    import ml_dtypes

    def bits(self: Any, tensor: Any) -> Any:
        tensor = detach(tensor)
        if tensor.dtype is torch.bfloat16:
            return tensor.view(torch.int16).numpy(force=True).copy().view(ml_dtypes.bfloat16)
        return tensor.numpy(force=True).copy()

    return bits


@mutant("mul", "version", "mul_ does not bump the version")
def mul_silent() -> None:
    original = torch.Tensor.mul_

    def mul_(self: Any, other: Any) -> Any:
        if self.requires_grad or (isinstance(other, torch.Tensor) and other.requires_grad) or self.is_inference():
            return original(self, other)
        original(self.data, other)
        return self

    torch.Tensor.mul_ = mul_  # type: ignore[method-assign, assignment]


@mutant("reshape", "requires_grad", "reshape of a contiguous tensor forgets the graph")
def reshape_detached() -> None:
    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        return lambda x, *args, **kwargs: original(x, *args, **kwargs).detach()

    replace("reshape", wrap)


@mutant("transpose", "strides", "transpose makes its result contiguous")
def transpose_contiguous() -> None:
    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        return lambda x, *args: original(x, *args) if x.requires_grad else original(x, *args).contiguous()

    replace("transpose", wrap)


@mutant("add", "dtype", "a half and a float give a half")
def add_half() -> None:
    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(a: Any, b: Any, *args: Any, **kwargs: Any) -> Any:
            out = original(a, b, *args, **kwargs)
            halves = [t for t in (a, b) if isinstance(t, torch.Tensor) and t.dtype in (torch.float16, torch.bfloat16)]
            return out.to(halves[0].dtype) if halves and out.dtype not in (torch.float16, torch.bfloat16) else out

        return wrapped

    replace("add", wrap)


@mutant("sum", "error", "a dim that is out of range wraps around")
def dim_wraps() -> None:
    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(x: Any, *args: Any, dim: Any = None, **kwargs: Any) -> Any:
            if isinstance(dim, int) and x.ndim:
                dim %= x.ndim
            return original(x, *args, **kwargs) if dim is None else original(x, *args, dim=dim, **kwargs)

        return wrapped

    replace("sum", wrap)


@mutant("unsqueeze", "shape", "the new dim is always the first")
def unsqueeze_first() -> None:
    replace("unsqueeze", lambda original: lambda x, dim: original(x, 0 if -x.ndim - 1 <= dim <= x.ndim else dim))


@mutant("setitem", "value", "a number is written one too large")
def setitem_off() -> None:
    original = torch.Tensor.__setitem__

    def setitem(self: Any, index: Any, value: Any) -> None:
        original(self, index, value + 1 if isinstance(value, (int, float)) else value)

    torch.Tensor.__setitem__ = setitem  # type: ignore[method-assign]


# --- optimizer ------------------------------------------------------------------------------------------------------------------


def _option(name: str, value: Any) -> None:
    """SGD ignores one of its options."""
    original = torch.optim.SGD.step

    def step(self: Any, *args: Any, **kwargs: Any) -> Any:
        for group in self.param_groups:
            group[name] = value
        return original(self, *args, **kwargs)

    torch.optim.SGD.step = step  # type: ignore[method-assign]


@mutant("SGD", "value", "weight decay is ignored")
def sgd_no_decay() -> None:
    _option("weight_decay", 0)


@mutant("SGD", "value", "maximize is ignored")
def sgd_minimizes() -> None:
    _option("maximize", False)


@mutant("SGD", "value", "the learning rate is a tenth too large")
def sgd_fast() -> None:
    original = torch.optim.SGD.step

    def step(self: Any, *args: Any, **kwargs: Any) -> Any:
        kept = [g["lr"] for g in self.param_groups]
        for g in self.param_groups:
            g["lr"] *= 1.1
        try:
            return original(self, *args, **kwargs)
        finally:
            for g, lr in zip(self.param_groups, kept, strict=True):
                g["lr"] = lr

    torch.optim.SGD.step = step  # type: ignore[method-assign]
