"""Every entry of ``refgrad/_ops/losses.py`` against torch.

Compared: dtypes, shapes, reductions, weights, class indices, gradients of two orders, errors.
"""

import itertools
import warnings

import numpy as np
import pytest
import torch

import refgrad
from refgrad import _dtypes
from tests.against_torch.comparing import ALL, FLOATS, assert_same, assert_same_second, np_dtype, to_refgrad, to_torch, values

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
REDUCTIONS = ("mean", "sum", "none")
POINTWISE = ["binary_cross_entropy", "binary_cross_entropy_with_logits", "huber_loss", "kl_div", "l1_loss", "mse_loss", "smooth_l1_loss"]
PARAMETERS = {
    "huber_loss narrow": ("huber_loss", {"delta": 0.3}),
    "huber_loss none": ("huber_loss", {"delta": 0.0}),
    "kl_div log": ("kl_div", {"log_target": True}),
    "kl_div batch": ("kl_div", {"reduction": "batchmean"}),
    "mse_loss bad": ("mse_loss", {"reduction": "average"}),
    "mse_loss old": ("mse_loss", {"size_average": False}),
    "smooth_l1_loss narrow": ("smooth_l1_loss", {"beta": 0.3}),
    "smooth_l1_loss sharp": ("smooth_l1_loss", {"beta": 0.0}),
    "smooth_l1_loss negative": ("smooth_l1_loss", {"beta": -1.0}),
}
CASES = {f"{n} {r}": (n, {"reduction": r}) for n, r in itertools.product(POINTWISE, REDUCTIONS)} | PARAMETERS
#: torch takes the logarithm of the sigmoid in the input's dtype, whatever the target's: coarser than the result
COARSE = "binary_cross_entropy_with_logits"


def loss(name, keywords):
    return lambda lib, *operands: getattr(lib.nn.functional, name)(*operands, **keywords)


def operands(name, a, b, dtype="float32", other=None):
    """Inputs and targets in the domain of the loss."""
    inputs, targets = {"binary_cross_entropy": ((0.01, 0.99),) * 2, COARSE: ((-6, 6), (0, 1)), "kl_div": ((-3, 3), (0, 1))}.get(
        name, ((-3, 3),) * 2
    )
    return values(dtype, a, 1, *inputs), values(other or dtype, b, 2, *targets)


@pytest.mark.parametrize("case", CASES)
def test_a_loss_agrees_for_pairs_of_dtypes(case):
    name, keywords = CASES[case]
    for a, b in itertools.product(ALL, ALL):
        mixed = a != b and {a, b} <= set(FLOATS)
        if (a == b or "float32" in (a, b)) and not (mixed and name == COARSE):
            assert_same(loss(name, keywords), *operands(name, (2, 3), (2, 3), a, b), label=f"{case} {a} {b}")


@pytest.mark.parametrize("case", CASES)
def test_a_loss_agrees_for_every_shape_and_layout(case):
    name, keywords = CASES[case]
    for dtype, shape in itertools.product(FLOATS, ((), (67,), (0, 3))):
        assert_same(loss(name, keywords), *operands(name, shape, shape, dtype), label=f"{case} {dtype} {shape}")
    for a, b in (((), (3,)), ((2, 1), (1, 3)), ((0, 1), (3,)), ((3,), (2,)), ((1,), (2, 3, 1))):
        assert_same(loss(name, keywords), *operands(name, a, b), label=f"{case} {a} {b}")
    (turned, target), (_, other) = operands(name, (3, 4), (3, 4)), operands(name, (4, 3), (4, 3))
    for y in (target.T, other):
        assert_same(loss(name, keywords), turned.T, y, label=f"{case} turned")


@pytest.mark.parametrize("case", [c for c in CASES if c not in ("huber_loss none", "mse_loss bad", "smooth_l1_loss negative")])
def test_second_derivatives_agree(case):
    name, keywords = CASES[case]
    for dtype in FLOATS:
        if (name, dtype) != ("binary_cross_entropy", "float64"):  # torch adds 1e-12 to the denominator, which float64 shows
            assert_same_second(
                loss(name, keywords), values(dtype, (2, 3), 1, 0.1, 0.9), values(dtype, (2, 3), 2, 0.1, 0.9), label=f"{case} {dtype}"
            )


def weighted_loss(name, reduction, keys):
    return lambda lib, x, y, w: getattr(lib.nn.functional, name)(x, y, reduction=reduction, **dict.fromkeys(keys, w))


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_weights_agree(reduction):
    weight = values("float32", (3,), 9, 0.1, 2)
    for name, shape in itertools.product(("mse_loss", "l1_loss", "huber_loss"), ((3,), (2,))):
        assert_same(weighted_loss(name, reduction, ("weight",)), *operands(name, shape, shape), weight, label=name)
    for name, shape, dtype in itertools.product(POINTWISE[:2], ((3,), (2, 3), (2, 2)), ("float32", "float64")):
        for keys in (("weight",), ("pos_weight",), ("weight", "pos_weight")) if name == COARSE else (("weight",),):
            if shape[-1] == 3 or (keys == ("weight",) and name != COARSE):
                assert_same(
                    weighted_loss(name, reduction, keys),
                    *operands(name, shape, shape, dtype),
                    weight,
                    wrt=[0, 1],
                    label=f"{name} {keys} {shape}",
                )


def test_probabilities_outside_the_unit_interval_raise():
    for x, y in (((2.0,), (0.5,)), ((0.5,), (2.0,)), ((float("nan"),), (0.5,))):
        assert_same(loss("binary_cross_entropy", {}), np.asarray(x, np.float32), np.asarray(y, np.float32))


# --- classes ---------------------------------------------------------------------------------------------------------------------

CLASS_CASES = [
    (name, reduction, keywords, weighted)
    for name, reduction, weighted in itertools.product(("nll_loss", "cross_entropy"), REDUCTIONS, (False, True))
    for keywords in ({}, {"ignore_index": 1}, {"label_smoothing": 0.1})
    if name == "cross_entropy" or "label_smoothing" not in keywords
]
WEIGHT = np.asarray([0.5, 1.0, 2.0], np.float32)


def class_loss(name, reduction, keywords, weighted):
    return lambda lib, x, t, *w: getattr(lib.nn.functional, name)(x, t, *w, reduction=reduction, **keywords)


def classes(shape):
    return np.random.default_rng(3).integers(0, 3, shape)


def weights(weighted, dtype="float32"):
    return (_dtypes.narrow(WEIGHT, np_dtype(dtype)),) if weighted else ()


@pytest.mark.parametrize("case", CLASS_CASES, ids=str)
def test_a_class_loss_agrees_for_every_shape(case):
    call = class_loss(*case)
    every = ((4, 3), (3,), (2, 3, 4), (2, 3, 2, 2), (2, 3, 2, 1, 2), (0, 3), (0, 3, 2, 2), (67, 3))
    for dtype in FLOATS:
        for shape in every if dtype == "float32" else every[:4:3]:
            target = classes(shape[:1] + shape[2:] if len(shape) > 1 else ())
            assert_same(call, values(dtype, shape, 1), target, *weights(case[3], dtype), wrt=[0], label=f"{case} {dtype} {shape}")
    assert_same(call, values("float32", (3, 4), 1).T, classes((4,)), *weights(case[3]), wrt=[0], label=f"{case} turned")


@pytest.mark.parametrize("case", [c for c in CLASS_CASES if "label_smoothing" not in c[2]], ids=str)
def test_a_class_loss_agrees_about_targets_that_are_out_of_place(case):
    call = class_loss(*case)
    lists = ([0, 3], [0, -1], [-100, -100], [1, -100], [1], [0, 1, 2])
    targets = [np.asarray(t) for t in lists] + [np.asarray([0, 1], d) for d in (np.int32, np.uint8, np.float32)]
    for target in targets:
        assert_same(call, values("float32", (2, 3), 1), target, *weights(case[3]), wrt=[0], label=f"{case} {target}")
    others = ((("int64", (2, 3)), (2,)), (("float32", (2, 4)), (2,)), (("float32", (2, 3, 2, 2)), (2, 2, 3)), (("float32", ()), ()))
    for (dtype, shape), target_shape in others:
        assert_same(call, values(dtype, shape, 1), classes(target_shape), *weights(case[3]), wrt=[], label=f"{case} {shape}")


@pytest.mark.parametrize("case", [c for c in CLASS_CASES if c[0] == "cross_entropy"], ids=str)
def test_cross_entropy_with_probabilities_agrees(case):
    for dtype, shape in [
        *itertools.product(("float32",), ((4, 3), (3,), (2, 3, 4), (2, 3, 2, 2), (0, 3))),
        ("float64", (4, 3)),
        ("bfloat16", (4, 3)),
    ]:
        target = values(dtype, shape, 2, 0, 1)
        assert_same(
            class_loss(*case), values(dtype, shape, 1), target, *weights(case[3], dtype), wrt=[0, 1], label=f"{case} {dtype} {shape}"
        )


@pytest.mark.parametrize("case", CLASS_CASES, ids=str)
def test_second_derivatives_of_a_class_loss_agree(case):
    for shape in ((4, 3), (2, 3, 2, 2)):
        target = classes(shape[:1] + shape[2:])
        assert_same_second(class_loss(*case), values("float32", shape, 1), target, *weights(case[3]), wrt=[0], label=f"{case}")


# --- warnings ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, keywords", [("mse_loss", {}), ("huber_loss", {}), ("kl_div", {}), ("l1_loss", {"reduce": False})])
def test_a_loss_warns_as_torch_does(name, keywords):
    x, y = values("float32", (3,), 1), values("float32", (2, 3), 2)
    said = []
    for library, make in ((torch, to_torch), (refgrad, to_refgrad)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            getattr(library.nn.functional, name)(make(x), make(y), **keywords)
        said.append([(w.category, str(w.message)) for w in caught])
    assert said[0] == said[1] != []


SIZES = [((2, 3, 2), (2,)), ((2, 3, 2), (2, 3)), ((2, 3, 2, 2, 2), (2, 3)), ((2, 3, 2, 2), (2, 3)), ((2, 3, 2, 2), (2, 3, 4))]


@pytest.mark.parametrize(("shape", "targets"), SIZES)
def test_a_target_of_the_wrong_size_raises_torchs_error(shape, targets):
    arrays = values("float32", shape), np.zeros(targets, np.int64)
    assert_same(lambda t, x, y: t.nn.functional.nll_loss(x, y), *arrays, label=f"{shape} {targets}")


def test_weights_that_require_grad_raise_torchs_error():
    arrays = [values("float32", (2, 3), i, 0.1, 0.9) for i in range(3)]
    for wrt in ([2], [0, 2]):
        assert_same(lambda t, x, y, w: t.nn.functional.binary_cross_entropy(x, y, w), *arrays, wrt=wrt)
        assert_same(lambda t, x, y, w: t.nn.functional.binary_cross_entropy_with_logits(x, y, w), *arrays, wrt=wrt)
        assert_same(lambda t, x, y, w: t.nn.functional.binary_cross_entropy_with_logits(x, y, pos_weight=w), *arrays, wrt=wrt)
