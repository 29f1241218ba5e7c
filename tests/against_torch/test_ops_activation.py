"""Every entry of ``refgrad/_ops/activation.py`` against torch.

Compared: dtypes, shapes, layouts, kinks, gradients of two orders, in-place forms, errors.
"""

import numpy as np
import pytest

from refgrad._table import OVERLOADS
from tests.against_torch.comparing import ALL, FLOATS, assert_same, assert_same_second, special, values

NAMES = [
    "celu",
    "elu",
    "gelu",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "leaky_relu",
    "logsigmoid",
    "mish",
    "relu",
    "relu6",
    "selu",
    "silu",
    "softplus",
    "softsign",
    "tanhshrink",
]
CALLS = (
    {name: lambda lib, x, name=name: getattr(lib.nn.functional, name)(x) for name in NAMES}
    | {
        "celu half": lambda lib, x: lib.nn.functional.celu(x, 0.5),
        "elu half": lambda lib, x: lib.nn.functional.elu(x, 0.5),
        "gelu bad": lambda lib, x: lib.nn.functional.gelu(x, approximate="erf"),
        "gelu tanh": lambda lib, x: lib.nn.functional.gelu(x, approximate="tanh"),
        "hardtanh bounds": lambda lib, x: lib.nn.functional.hardtanh(x, -2, 0.5),
        "hardtanh crossed": lambda lib, x: lib.nn.functional.hardtanh(x, 1, 0),
        "leaky_relu negative": lambda lib, x: lib.nn.functional.leaky_relu(x, -0.3),
        "softplus steep": lambda lib, x: lib.nn.functional.softplus(x, 2, 3),
        "threshold": lambda lib, x: lib.nn.functional.threshold(x, 0.5, -7),
        "torch.relu": lambda lib, x: lib.relu(x),
        "torch.selu": lambda lib, x: lib.selu(x),
        "softmin": lambda lib, x: lib.nn.functional.softmin(x, 0),
    }
    | {
        f"{name} {kind}": call
        for name in ("softmax", "log_softmax")
        for kind, call in {
            "last": lambda lib, x, name=name: getattr(lib, name)(x, -1),
            "first": lambda lib, x, name=name: getattr(x, name)(dim=0),
            "dtype": lambda lib, x, name=name: getattr(lib.nn.functional, name)(x, dim=0, dtype=lib.float64),
            "out of range": lambda lib, x, name=name: getattr(lib, name)(x, 5),
        }.items()
    }
)
#: torch's gradient at NaN is NaN, 0 or the incoming gradient, by dtype and by the place in a vector
AT_NAN = {"celu", "elu", "hardswish", "hardtanh", "relu6", "selu", "torch.selu"}
#: torch multiplies by 1/6 rounded to float32, also for float64
COARSE = {("hardsigmoid", "float64")}
IN_PLACE = ["celu", "elu", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "mish", "relu", "relu6", "selu", "silu"]


def arrays(name, dtype, *drawn):
    return [] if (name, dtype) in COARSE else drawn


@pytest.mark.parametrize("name", CALLS)
def test_an_activation_agrees_for_every_dtype(name):
    for dtype in ALL:
        for array in arrays(name, dtype, values(dtype, (2, 3), 1)):
            assert_same(CALLS[name], array, label=f"{name} {dtype}")


@pytest.mark.parametrize("name", CALLS)
def test_an_activation_agrees_for_every_shape_and_layout(name):
    for dtype in FLOATS:
        turned, strided = values(dtype, (4, 3), 2).T, values(dtype, (4, 6), 2)[:, ::2]
        for array in arrays(name, dtype, values(dtype, (), 2), values(dtype, (0, 3), 2), turned, strided, values(dtype, (2, 3, 4), 2)):
            assert_same(CALLS[name], array, label=f"{name} {dtype} {array.shape} {array.strides}")


@pytest.mark.parametrize("name", CALLS)
def test_an_activation_agrees_far_out_near_zero_and_at_kinks(name):
    for dtype in FLOATS:
        points = special(dtype)[:, None]
        if name.split()[0] in AT_NAN:
            points = points[~np.isnan(points[:, 0])]
        drawn = [values(dtype, (67,), 3, low, high) for low, high in ((-20, 20), (-110, 110), (-0.01, 0.01), (0, 1))]
        for array in arrays(name, dtype, points, *drawn):
            assert_same(CALLS[name], array, label=f"{name} {dtype}")


@pytest.mark.parametrize("name", [n for n in CALLS if n not in ("gelu bad", "hardtanh crossed", "hardsigmoid") and "range" not in n])
def test_second_derivatives_agree(name):
    for dtype in FLOATS:
        for low, high in ((0.1, 0.9), (-3, 3)):
            assert_same_second(CALLS[name], values(dtype, (2, 3), 1, low, high), label=f"{name} {dtype}")


def test_hardsigmoid_has_no_second_derivative():
    with pytest.raises(RuntimeError, match="derivative for aten::hardsigmoid_backward is not implemented"):
        assert_same_second(CALLS["hardsigmoid"], values("float32", (3,), 1))


@pytest.mark.parametrize("name", IN_PLACE)
def test_the_in_place_form_agrees(name):
    for dtype in FLOATS:
        for array in arrays(name, dtype, values(dtype, (2, 3), 1), values(dtype, (4, 3), 2).T, values(dtype, (0,), 1)):
            assert_same(
                lambda lib, x: getattr(lib.nn.functional, name)(x * 1, inplace=True),
                array,
                exact=in_place_exactly(name),
                label=f"{name} {dtype}",
            )


def in_place_exactly(name):
    """elu's gradient comes from the rounded result where it was written in place."""
    written = {"elu": ("_elu", (1.0, 1.0, 1.0)), "celu": ("_celu", (1.0,)), "selu": ("_elu", (1.6732632423543772, 1.0507009873554805, 1.0))}
    if name not in written:
        return lambda lib, x: CALLS[name](lib, x * 1)
    entry, arguments = written[name]
    return lambda lib, x: OVERLOADS[entry][1].python(x * 1, *arguments)


@pytest.mark.parametrize("name", IN_PLACE)
def test_the_in_place_form_on_a_leaf_raises(name):
    assert_same(lambda lib, x: getattr(lib.nn.functional, name)(x, inplace=True), values("float32", (3,), 1), label=name)
