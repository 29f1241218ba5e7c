"""The exact mode: what balls hold where a small radius' first order does not tell."""

import numpy as np
import pytest

import refgrad
from refgrad import _dtypes
from refgrad._exact import ExactTensor, ball


def a_ball(centre, radius, dtype=refgrad.float32):
    return ball(np.array(centre, dtype.np), dtype, np.array(radius, np.float64))


FUNCTIONS = {
    "sin": np.sin,
    "cos": np.cos,
    "exp": np.exp,
    "exp2": np.exp2,
    "expm1": np.expm1,
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("radius", [1e-3, 0.5, 3.0, 100.0])
def test_a_function_of_a_ball_holds_its_values_over_the_ball(name, radius):
    centres = np.array([0.0, np.pi, 1.5, -4.0, 20.0], np.float32)
    out = getattr(refgrad, name)(ball(centres, refgrad.float32, np.full(5, radius)))
    for part in np.linspace(-1, 1, 41):
        values = FUNCTIONS[name](centres.astype(np.float64) + part * radius)
        assert (np.abs(values - out._data) <= out.radius).all(), part


def test_no_sine_is_further_than_one_from_zero():
    assert (refgrad.cos(a_ball([0.0, 2.0], [1e9, 1e9])).radius <= 2.001).all()


def test_the_slope_of_sinc_far_out_says_nothing_where_its_angle_is_rounded_by_whole_turns():
    x = ball(np.array(20000.0, refgrad.bfloat16.np), requires_grad=True)
    (slope,) = refgrad.autograd.grad(refgrad.sinc(x), x)
    assert slope._data - slope.radius <= -1 / 20000 and slope._data + slope.radius >= 1 / 20000


def test_a_comparison_of_balls_that_overlap_is_undecided():
    near, far = a_ball([1.0, 2.0], [0.1, 0.1]), refgrad.tensor([1.05, 1.05])
    for truth in (near < 1.05, near >= ball(far._data), near == 1.0, (near < 1.05).logical_not(), (near < 1.05).logical_or(near < 0)):
        assert isinstance(truth, ExactTensor) and truth.dtype is _dtypes.bool_
        assert truth.radius.tolist() == [1.0, 0.0]


def test_numbers_without_an_error_are_compared_as_they_are():
    assert not isinstance(ball(np.array([1.0, 2.0], np.float32)) < 1.0, ExactTensor)
    assert not isinstance(a_ball([1.0, 2.0], [0.0, 0.1]) == 1.0, ExactTensor)


def test_what_an_undecided_truth_chooses_holds_both():
    undecided = a_ball([1.0, 2.0], [0.1, 0.1]) < 1.05
    a, b = a_ball([5.0, 5.0], [0.5, 0.25]), a_ball([3.0, 3.0], [1.0, 0.0])
    for chosen, centre in ((refgrad.where(undecided, a, b), [5.0, 3.0]), (refgrad.where(undecided.logical_not(), b, a), [5.0, 3.0])):
        assert (chosen._data.tolist(), chosen.radius.tolist()) == (centre, [3.0, 0.0])
    filled = a.masked_fill(undecided, 3)
    assert (filled._data.tolist(), filled.radius.tolist()) == ([3.0, 5.0], [2.5, 0.25])


def test_a_gradient_at_an_undecided_kink_holds_both_slopes():
    x = ball(np.array(0.1, np.float32), requires_grad=True)
    y = (x * 3 - np.float32(0.3).item()).clamp(min=0)
    (slope,) = refgrad.autograd.grad(y, x)
    assert abs(slope._data - 1.5) + 1.5 <= slope.radius + 1e-9
