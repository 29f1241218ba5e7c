"""One op on the same operands in torch and in refgrad: the strong helper of the tests of op families.

A case is a function of the library (``torch`` or ``refgrad``) and of tensors. Values and gradients must lie in the ball that the exact mode
gives for the same call, widened by half an ulp; everything else must be equal.
"""

from __future__ import annotations

import warnings

import ml_dtypes
import numpy as np
import torch

import refgrad
from refgrad import _dtypes
from refgrad._exact import ExactTensor, ball
from refgrad._tensor import make

BF16 = np.dtype(ml_dtypes.bfloat16)
FLOATS = ("float32", "float64", "float16", "bfloat16")
INTS = ("uint8", "int8", "int16", "int32", "int64")
ALL = (*FLOATS, *INTS, "bool")


def np_dtype(name):
    return _dtypes.by_name(name).np


def to_torch(array, requires_grad=False):
    """The same elements and strides as a torch tensor of its own memory."""
    if array.dtype == BF16:
        made = to_torch(array.view(np.int16)).view(torch.bfloat16)
    else:
        made = torch.empty_strided(array.shape, [s // array.itemsize for s in array.strides], dtype=getattr(torch, array.dtype.name))
        made.copy_(torch.from_numpy(np.array(array)))
        made = made.data  # whose version is 0
    return made.requires_grad_() if requires_grad else made


def from_torch(tensor):
    tensor = tensor.detach()
    if tensor._is_zerotensor():  # has no memory to look at
        tensor = torch.zeros(tensor.shape, dtype=tensor.dtype)
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(BF16)
    return tensor.numpy()


def to_refgrad(array, requires_grad=False):
    copied = np.array(array, order="K", copy=True) if _dense(array) else array
    return make(copied).requires_grad_(requires_grad)


def _dense(array):
    return array.flags.c_contiguous or array.T.flags.c_contiguous


def to_exact(array, requires_grad=False):
    return ball(array, requires_grad=requires_grad)


def attempt(call, *operands):
    """(result, None) or (None, the exception)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return call(*operands), None
        except Exception as raised:
            return None, raised


def floating(array):
    return isinstance(array, np.ndarray) and (array.dtype == BF16 or array.dtype.kind == "f")


def assert_same(call, *arrays, wrt=None, label="", text=True, exact=None):
    """Asserts that torch and refgrad agree on ``call(library, *tensors)``, and on the gradients of the operands at ``wrt`` (all floats).

    ``exact`` is the call that gives the ball, where the call itself writes in place.
    """
    __tracebackhide__ = True
    exact = call if exact is None else exact
    wrt = [i for i, a in enumerate(arrays) if floating(a)] if wrt is None else wrt
    theirs, ours, exactly = (
        [make_one(a, i in wrt) if isinstance(a, np.ndarray) else a for i, a in enumerate(arrays)]
        for make_one in (to_torch, to_refgrad, to_exact)
    )
    expected, raised = attempt(call, torch, *theirs)
    got, ours_raised = attempt(call, refgrad, *ours)
    if raised is not None:
        _assert_same_error(raised, ours_raised, label, text)
        return
    assert ours_raised is None, f"{label}: torch gives {expected}, refgrad raises {ours_raised!r}"
    _assert_same_state(expected, got, label)
    if expected.dtype.is_floating_point:
        _assert_in_ball(expected, got, _exact_result(exact, arrays, exactly, got.dtype), label)
    else:
        np.testing.assert_array_equal(got._data, from_torch(expected), err_msg=label)
    if expected.requires_grad:
        _assert_same_gradients(expected, got, exact(refgrad, *exactly), [(theirs[i], ours[i], exactly[i]) for i in wrt], label)


def _exact_result(call, arrays, exactly, nominal):
    """The ball of the result; where no operand was a float, integers count as exact numbers of the result's dtype."""
    made = call(refgrad, *exactly)
    if isinstance(made, ExactTensor):
        return made
    return call(refgrad, *[ball(a.astype(nominal.wide), nominal) if isinstance(a, np.ndarray) else a for a in arrays])


def _assert_same_error(raised, ours, label, text):
    assert ours is not None, f"{label}: torch raises {raised!r}, refgrad does not"
    assert type(ours) is type(raised), f"{label}: torch raises {raised!r}, refgrad {ours!r}"
    if text and "invalid combination" not in str(raised):
        assert str(ours) == str(raised).split("\nException raised from")[0], label


def _assert_same_state(expected, got, label):
    state = (str(expected.dtype), tuple(expected.shape), expected.requires_grad, _node(expected), _strides(expected), expected._version)
    ours = (repr(got.dtype), tuple(got.shape), got.requires_grad, _node(got), _strides(got), got._version)
    assert ours == state, f"{label}: refgrad {ours}, torch {state}"


def _node(tensor):
    return tensor.grad_fn and tensor.grad_fn.name()


def _strides(tensor):
    """Those that say something: of dims with more than one element, where there are elements."""
    return [s for s, n in zip(tensor.stride(), tensor.shape, strict=True) if n > 1] if tensor.numel() else []


def _assert_in_ball(expected, got, exact, label):
    values, nominal = from_torch(expected), got.dtype
    for name, array in (("torch", values), ("refgrad", got._data)):
        bad = outside(array, exact, nominal)
        assert not bad.any(), _describe(name, label, array, exact, nominal, bad)


def outside(array, exact, nominal):
    """Where an array of the nominal dtype lies outside the ball by more than half an ulp."""
    wide = np.asarray(array).astype(nominal.wide)
    centre, radius = exact._data, exact.radius
    slack = radius + np.abs(centre) * nominal.unit + nominal.eta
    overflow = (np.abs(centre) + slack >= nominal.largest) & np.isinf(wide) & (np.sign(wide) == np.sign(centre))
    same = (wide == centre) | (np.isnan(wide) & np.isnan(centre)) | overflow | ~np.isfinite(radius)
    return ~(same | (np.isfinite(wide) & (np.abs(wide - centre) <= slack)))


def _describe(name, label, array, exact, nominal, bad):
    place = tuple(np.argwhere(bad)[0])
    value, centre, radius = (np.asarray(a)[place] for a in (array, exact._data, exact.radius))
    units = abs(float(value) - float(centre)) / (nominal.unit * abs(float(centre)) + nominal.eta)
    return f"{label}: {name} gives {value} at {place}, exact is {centre} ± {radius} ({units:.2f} u)"


def _assert_same_gradients(expected, got, exact, operands, label):
    seed = np.random.default_rng(7).uniform(0.5, 2, expected.shape)
    seed = _dtypes.narrow(np.asarray(seed), got.dtype.np)
    theirs, ours, exactly = zip(*operands, strict=True)
    for order in (1, 2):
        expected_grads, raised = attempt(_backward, torch, expected, theirs, to_torch(seed))
        got_grads, ours_raised = attempt(_backward, refgrad, got, ours, to_refgrad(seed))
        if raised is not None or ours_raised is not None:
            assert str(ours_raised) == str(raised), f"{label}, backward {order}: torch raises {raised!r}, refgrad {ours_raised!r}"
            return
        if order == 1:
            _assert_gradients(expected_grads, got_grads, _backward(refgrad, exact, exactly, ball(seed)), label)


def _backward(library, output, operands, seed):
    return library.autograd.grad(output, operands, seed, allow_unused=True)


def _assert_gradients(expected, got, exact, label):
    for place, (a, b, c) in enumerate(zip(expected, got, exact, strict=True)):
        where = f"{label}, gradient {place}"
        assert (a is None) == (b is None), f"{where}: torch {a}, refgrad {b}"
        if a is None:
            continue
        assert (str(a.dtype), tuple(a.shape)) == (repr(b.dtype), tuple(b.shape)), where
        _assert_in_ball(a, b, c, where)


def values(dtype, shape, seed=0, low=-3.0, high=3.0):
    """Seeded values of a dtype; integers from the same range, bools by coin."""
    drawn = np.random.default_rng(seed).uniform(low, high, shape)
    if dtype == "bool":
        return np.asarray(drawn > (low + high) / 2)
    if dtype in FLOATS:
        return _dtypes.narrow(np.asarray(drawn), np_dtype(dtype))
    return np.asarray(np.rint(np.abs(drawn) if dtype == "uint8" else drawn)).astype(np_dtype(dtype))


SPECIAL = (0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 3.0, -3.0, 6.0, float("inf"), float("-inf"), float("nan"), 1e-4, -1e-4, 20.0, -20.0)


def special(dtype):
    return np.asarray(SPECIAL).astype(np_dtype(dtype))


def pairs(dtype):
    """Every pair of special values, as two arrays."""
    a, b = np.meshgrid(special(dtype), special(dtype))
    return np.ascontiguousarray(a.reshape(-1)), np.ascontiguousarray(b.reshape(-1))


def assert_same_second(call, *arrays, wrt=None, label="", nodes=True):
    """As ``assert_same`` for the gradient under ``create_graph``: its node's name, and the gradients of its sum with the seed."""
    __tracebackhide__ = True
    wrt = [i for i, a in enumerate(arrays) if floating(a)] if wrt is None else wrt
    results = [
        _second(library, make_one, call, arrays, wrt)
        for library, make_one in ((torch, to_torch), (refgrad, to_refgrad), (refgrad, to_exact))
    ]
    (expected, first), (got, ours), (exact, _) = results
    if nodes:
        assert ours == first, f"{label}: nodes of the gradients are {ours}, torch's {first}"
    for place, (a, b, c) in enumerate(zip(expected, got, exact, strict=True)):
        _assert_in_ball_or_none(a, b, c, f"{label}, second derivative, operand {place}")


def _second(library, make_one, call, arrays, wrt):
    operands = [make_one(a, i in wrt) if isinstance(a, np.ndarray) else a for i, a in enumerate(arrays)]
    variables = [operands[i] for i in wrt]
    out = call(library, *operands)
    seed = make_one(_dtypes.narrow(np.random.default_rng(7).uniform(0.5, 2, tuple(out.shape)), arrays[wrt[0]].dtype), True)
    firsts = library.autograd.grad(out, variables, seed, create_graph=True, allow_unused=True)
    names = [_node(f) if f is not None else None for f in firsts]
    total = None
    for f in firsts:
        if f is not None and f.requires_grad:
            total = f.sum() if total is None else total + f.sum()
    if total is None:
        return [None] * (len(variables) + 1), names
    return library.autograd.grad(total, [*variables, seed], allow_unused=True), names


def _assert_in_ball_or_none(a, b, c, label):
    if a is None or b is None:  # torch may give None where the derivative is zero, refgrad zeros, or the other way round
        given = [from_torch(a)] if a is not None else [b._data] if b is not None else []
        assert all(not np.any(np.asarray(g, np.float64)) for g in given), f"{label}: torch {a}, refgrad {b}"
        return
    _assert_in_ball(a, b, c, label)
