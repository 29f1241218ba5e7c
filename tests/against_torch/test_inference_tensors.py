"""Inference tensors outside inference mode: no part in autograd, unless a normal tensor (or a number made one) stands beside them."""

import pytest
import torch

import refgrad
from tests.against_torch.comparing import attempt


def inside(t, values, **options):
    with t.inference_mode():
        return t.tensor(values, **options)


def shown(call, t):
    """The error's words; or whether the result requires grad, its node and whether it is an inference tensor."""
    x, plain = inside(t, [[0.5, 1.5], [2.5, 3.5]], requires_grad=True), t.ones((2, 2), requires_grad=True)
    result, raised = attempt(lambda t: call(t, x, plain), t)
    if raised is not None:
        return str(raised)
    results = result if isinstance(result, (tuple, list)) else [result]
    return [(r.requires_grad, r.is_leaf, r.grad_fn and r.grad_fn.name(), r.is_inference()) for r in results]


CALLS = {
    "transpose": lambda t, x, y: x.transpose(0, 1),
    "t": lambda t, x, y: x.t(),
    "view": lambda t, x, y: x.view(4),
    "select": lambda t, x, y: x.select(0, 1),
    "x[0]": lambda t, x, y: x[0],
    "expand": lambda t, x, y: x.expand(3, 2, 2),
    "unbind": lambda t, x, y: x.unbind(0),
    "split": lambda t, x, y: x.split(1),
    "exp": lambda t, x, y: x.exp(),
    "x + x": lambda t, x, y: x + x,
    "x + 1": lambda t, x, y: x + 1,
    "x / 2": lambda t, x, y: x / 2,
    "x * 2": lambda t, x, y: x * 2,
    "x > 1": lambda t, x, y: x > 1,
    "where": lambda t, x, y: t.where(x > 1, x, 0.0),
    "x + y": lambda t, x, y: x + y,
    "x * y": lambda t, x, y: x * y,
    "x * y, of two shapes": lambda t, x, y: x * t.ones(3, requires_grad=True),
    "x.add_(1)": lambda t, x, y: x.add_(1),
    "x.exp_()": lambda t, x, y: x.exp_(),
    "x.add_(y)": lambda t, x, y: x.add_(y),
    "x.add_(x), of two shapes": lambda t, x, y: x.add_(inside(t, [1.0, 2.0, 3.0])),
    "y.mul_(x)": lambda t, x, y: (y * 1).mul_(x),
    "y.add_(x)": lambda t, x, y: (y * 1).add_(x),
    "binary_cross_entropy": lambda t, x, y: t.nn.functional.binary_cross_entropy(x / 4, x.detach() / 4, weight=x),
    "binary_cross_entropy, alone": lambda t, x, y: t.nn.functional.binary_cross_entropy(x.detach(), x.detach(), weight=x),
}


@pytest.mark.parametrize("name", CALLS)
def test_an_inference_tensor_that_requires_grad_is_outside_what_it_is_in_torch(name):
    assert shown(CALLS[name], refgrad) == shown(CALLS[name], torch)
