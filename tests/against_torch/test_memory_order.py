"""In which order results and gradients lie in memory, for operands that disagree about it, repeat themselves or have gaps."""

import random
from itertools import product

import pytest
import torch

import refgrad

LAYOUTS = {
    (2, 2): [(2, 1), (1, 2), (0, 1), (1, 0), (0, 0), (1, 1), (1, 3)],
    (2, 1, 2): [(2, 2, 1), (1, 3, 3), (0, 0, 1)],
    (2, 2, 2): [(4, 2, 1), (1, 2, 4), (0, 1, 2), (1, 0, 2), (4, 1, 2)],
}
PLACES = [(shape, strides) for shape, layouts in LAYOUTS.items() for strides in layouts]
BOTH = (torch, refgrad)


def lying(t, shape, strides, requires_grad=False):
    return t.tensor([0.0] * 64).as_strided(shape, strides, 0).detach().requires_grad_(requires_grad)


def order(tensor):
    """Strides where they address something."""
    return None if tensor is None else [s for s, n in zip(tensor.stride(), tensor.shape, strict=True) if n > 1]


def assert_same_order(call, label):
    __tracebackhide__ = True
    theirs, ours = (call(t) for t in BOTH)
    assert ours == theirs, f"{label}: refgrad {ours}, torch {theirs}"


LOSSES = {
    "mse_loss": {},
    "l1_loss": {},
    "smooth_l1_loss": {},
    "huber_loss": {},
    "binary_cross_entropy": {},
    "binary_cross_entropy_with_logits": {},
    "kl_div": {"log_target": True},
    "cross_entropy": {},
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("reduction", ("none", "sum"))
def test_a_loss_and_its_gradient_lie_as_torchs_do(name, reduction):
    def run(t, shape, x, y, g):
        input, target = lying(t, shape, x, True), lying(t, shape, y)
        loss = getattr(t.nn.functional, name)(input, target, reduction=reduction, **LOSSES[name])
        seed = lying(t, shape, g) if loss.shape == input.shape else t.ones_like(loss)
        return order(loss), order(t.autograd.grad(loss, input, seed)[0])

    for shape, layouts in LAYOUTS.items():
        for x, y, g in product(layouts, repeat=3):
            assert_same_order(lambda t, shape=shape, x=x, y=y, g=g: run(t, shape, x, y, g), f"{name} {reduction} {shape} {x} {y} {g}")


GRADIENTS = {
    "maximum": lambda t, x: t.maximum(x, x * 1),
    "minimum": lambda t, x: t.minimum(x * 1, x),
    "minimum of one": lambda t, x: t.minimum(x, x),
    "relu": lambda t, x: x.relu(),
    "threshold": lambda t, x: t.nn.functional.threshold(x, 0.0, 1.0),
    "leaky_relu": lambda t, x: t.nn.functional.leaky_relu(x),
    "logsigmoid": lambda t, x: t.nn.functional.logsigmoid(x),
    "softmax": lambda t, x: x.softmax(0),
    "log_softmax": lambda t, x: x.log_softmax(-1),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_a_gradient_lies_as_torchs_does(name):
    def run(t, shape, x, g):
        input = lying(t, shape, x, True)
        return order(t.autograd.grad(GRADIENTS[name](t, input), input, lying(t, shape, g))[0])

    for shape, layouts in LAYOUTS.items():
        for x, g in product(layouts, repeat=2):
            assert_same_order(lambda t, shape=shape, x=x, g=g: run(t, shape, x, g), f"{name} {shape} {x} {g}")


def accumulated(t, shape, x, g, how, create_graph):
    """The memory order of every ``.grad`` after each of two backwards."""
    leaf = lying(t, shape, x, True)
    result = leaf.exp()
    root = result * result if how == "inner" else leaf if how == "leaf" else result
    if how in ("retained", "inner"):
        result.retain_grad()
    inputs = {"inputs": [result], "both inputs": [leaf, result]}.get(how)
    found = []
    for _ in range(2):
        root.backward(lying(t, shape, g), retain_graph=True, create_graph=create_graph, inputs=inputs)
        found += [order(leaf.grad), order(result.grad) if how not in ("leaf", "plain") else None]
    return found


@pytest.mark.parametrize("how", ("plain", "leaf", "retained", "inner", "inputs", "both inputs"))
@pytest.mark.parametrize("create_graph", (False, True))
@pytest.mark.filterwarnings("ignore")
def test_what_is_accumulated_lies_as_torchs_does(how, create_graph):
    for shape, layouts in LAYOUTS.items():
        for x, g in product(layouts, repeat=2):
            assert_same_order(
                lambda t, shape=shape, x=x, g=g: accumulated(t, shape, x, g, how, create_graph), f"{how} {create_graph} {shape} {x} {g}"
            )


def test_results_of_any_two_operands_lie_as_torchs():
    """Dims of one element that stay one take part in the sort of dims; stretched ones do not."""
    rng = random.Random(0)
    for _ in range(600):
        out = [rng.choice((1, 2, 3)) for _ in range(rng.choice((2, 3, 4)))]
        shapes = [tuple(n if rng.random() < 0.7 else 1 for n in out)[rng.choice((0, 0, 1)) :] for _ in range(2)]
        places = [(shape, tuple(rng.choice((0, 1, 1, 2, 3, 4, 6, 8)) for _ in shape)) for shape in shapes]
        told = []
        for t in BOTH:
            a, b = (lying(t, *place) for place in places)
            told.append([order(r) for r in (a + b, t.eq(a, b), a.exp(), t.where(t.gt(a, b), a, b))])
        assert told[0] == told[1], places
