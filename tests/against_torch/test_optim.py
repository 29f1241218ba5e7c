"""SGD with parameters that are given twice: what a step does, and what is said about it."""

import warnings

import pytest
import torch

import refgrad

OPTIONS = [
    {},
    {"momentum": 0.9},
    {"momentum": 0.9, "nesterov": True},
    {"momentum": 0.9, "dampening": 0.5},
    {"weight_decay": 0.1, "maximize": True},
    {"momentum": 0.9, "weight_decay": 0.1, "nesterov": True},
]


def stepped(t, given, options):
    """Both parameters after each of three steps, and the warnings."""
    x, y = t.tensor([1.0, 2.0], requires_grad=True), t.tensor([3.0], requires_grad=True)
    seen = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        optimizer = t.optim.SGD([{"x": x, "y": y}[name] for name in given], lr=0.1, **options)
        for _ in range(3):
            optimizer.zero_grad()
            (x * x).sum().backward()
            (y * y).sum().backward()
            optimizer.step()
            seen += x.tolist() + y.tolist()
    return seen, [(str(w.message), w.category) for w in caught], optimizer.state_dict()["param_groups"][0]["params"]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("given", ("xy", "xx", "xyx", "xxx", "xyyx"))
def test_a_parameter_given_twice_steps_twice_and_is_warned_of(given, options):
    theirs, ours = (stepped(t, given, options) for t in (torch, refgrad))
    assert ours[0] == pytest.approx(theirs[0], rel=1e-5)
    assert ours[1:] == theirs[1:]


def test_a_parameter_in_two_groups_raises_torchs_error():
    errors = []
    for t in (torch, refgrad):
        x = t.tensor(0.0, requires_grad=True)
        with pytest.raises(ValueError, match="more than one parameter group") as raised:
            t.optim.SGD([{"params": [x]}, {"params": [x]}])
        errors.append(str(raised.value))
    assert errors[0] == errors[1]
