"""Every reduction against torch: dtypes, layouts, dims, special values, ties, empty tensors, errors, and second derivatives."""

import numpy as np
import pytest

from refgrad._exact import ExactTensor
from refgrad._ops.reduction import _mean_ulps, _welford
from tests.against_torch.comparing import ALL, FLOATS, INTS, assert_same, np_dtype, values

INF, NAN = float("inf"), float("nan")


def _both(function):
    """The form over all elements, over a dim, over several, and with the dims kept."""
    return {
        "all": lambda t, x: function(t, x),
        "dim 0": lambda t, x: function(t, x, 0),
        "dim -1 kept": lambda t, x: function(t, x, -1, True),
    }


def _several(function):
    return _both(function) | {
        "dims (0, -1)": lambda t, x: function(t, x, (0, -1)),
        "dims [0] kept": lambda t, x: function(t, x, [0], keepdim=True),
        "no dims": lambda t, x: function(t, x, ()),
        "dim None kept": lambda t, x: function(t, x, None, True),
    }


def _without(form, forms):
    return {name: call for name, call in forms.items() if name != form}


def _dim_only(function):
    return {"dim 0": lambda t, x: function(t, x, 0), "dim -1": lambda t, x: function(t, x, -1)}


def _table(**families):
    return {f"{name} {form}": call for name, forms in families.items() for form, call in forms.items()}


CALLS = _table(
    sum=_several(lambda t, x, *a, **k: x.sum(*a, **k)),
    mean=_several(lambda t, x, *a, **k: t.mean(x, *a, **k)),
    nansum=_several(lambda t, x, *a, **k: t.nansum(x, *a, **k)),
    prod=_both(lambda t, x, *a, **k: t.prod(x, *a, **k)),
    # torch's gradient of var and std over no dims divides by 1 - correction, as if one element were reduced
    var=_without("no dims", _several(lambda t, x, *a, **k: t.var(x, *a, **k) if len(a) < 2 else t.var(x, a[0], keepdim=True))),
    var_biased={
        "all": lambda t, x: x.var(False),
        "dim": lambda t, x: x.var(0, False, True),
        "correction 0": lambda t, x: t.var(x, -1, correction=0),
        "correction 0.5": lambda t, x: t.var(x, correction=0.5),
        "unbiased=": lambda t, x: t.var(x, unbiased=False),
    },
    std=_without("no dims", _several(lambda t, x, *a, **k: t.std(x, *a, **k) if len(a) < 2 else t.std(x, a[0], keepdim=True))),
    std_biased={"dim": lambda t, x: x.std(0, unbiased=False), "correction 2": lambda t, x: t.std(x, correction=2)},
    var_mean={str(i): lambda t, x, i=i: t.var_mean(x, 0)[i] for i in (0, 1)},
    std_mean={str(i): lambda t, x, i=i: t.std_mean(x, -1, keepdim=True)[i] for i in (0, 1)},
    amax=_several(lambda t, x, *a, **k: x.amax(*a, **k)),
    amin=_several(lambda t, x, *a, **k: t.amin(x, *a, **k)),
    max={"all": lambda t, x: x.max(), "values": lambda t, x: t.max(x, 0)[0], "indices": lambda t, x: x.max(-1, True).indices},
    min={"all": lambda t, x: t.min(x), "values": lambda t, x: x.min(-1, keepdim=True).values, "indices": lambda t, x: t.min(x, 0)[1]},
    argmax=_both(lambda t, x, *a, **k: t.argmax(x, *a, **k)) | {"None kept": lambda t, x: x.argmax(None, True)},
    argmin=_both(lambda t, x, *a, **k: x.argmin(*a, **k)),
    norm=_several(lambda t, x, *a, **k: t.norm(x, 2, *a, **k)),
    logsumexp=_dim_only(lambda t, x, *a: t.logsumexp(x, *a)) | {"dims": lambda t, x: x.logsumexp((0, -1), keepdim=True)},
    all=_several(lambda t, x, *a, **k: x.all(*a, **k)),
    any=_several(lambda t, x, *a, **k: t.any(x, *a, **k)),
    count_nonzero=_dim_only(lambda t, x, *a: t.count_nonzero(x, *a)) | {"all": lambda t, x: x.count_nonzero()},
    cumsum=_dim_only(lambda t, x, *a: x.cumsum(*a)),
    cumprod=_dim_only(lambda t, x, *a: t.cumprod(x, *a)),
)
NORMS = {f"norm p={p}": lambda t, x, p=p: t.norm(x, p) for p in (0, 0.5, 1, 1.5, 2, 2.5, 3, -1, -2.5, INF, -INF, "fro", None)} | {
    f"vector_norm ord={p}": lambda t, x, p=p: t.linalg.vector_norm(x, p, -1, True) for p in (0, 1, 2, 3, INF)
}


def layouts(dtype):
    base = values(dtype, (4, 6), seed=3)
    return {
        "2x3": values(dtype, (2, 3), seed=1),
        "one": values(dtype, (1,), seed=2),
        "0-d": values(dtype, (), seed=2),
        "0x3": values(dtype, (0, 3)),
        "3x0": values(dtype, (3, 0)),
        "transposed": values(dtype, (4, 3), seed=4).T,
        "strided": base[::2, 1::2],
        "3-d permuted": values(dtype, (2, 3, 4), seed=5).transpose(2, 0, 1),
    }


@pytest.mark.parametrize("dtype", ALL)
def test_reductions_agree_for_every_layout(dtype):
    for name, call in CALLS.items():
        for layout, array in layouts(dtype).items():
            assert_same(call, array, label=f"{name}, {dtype}, {layout}")


@pytest.mark.parametrize("dtype", FLOATS)
def test_norms_agree_for_every_order(dtype):
    for name, call in NORMS.items():
        for array in (
            values(dtype, (2, 3), seed=8),
            np.zeros(3, np_dtype(dtype)),
            np.array([0, 2, -2], np_dtype(dtype)),
            values(dtype, ()),
        ):
            assert_same(call, array, label=f"{name}, {dtype}, {array.tolist()}")


SPECIAL = (
    [0.0, -0.0],
    [INF, 1.0],
    [INF, -INF],
    [NAN, 1.0, NAN],
    [-INF, -INF],
    [3.0, 3.0, 1.0],
    [1.0, 1.0, 1.0],
    [0.0, 2.0, 0.0],
    [0.0, 2.0, 3.0],
    [1.0],
)


@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_special_values_and_ties_agree(dtype):
    for name, call in CALLS.items():
        for special in SPECIAL:
            assert_same(call, np.array(special, np_dtype(dtype)), label=f"{name}, {special}")


DTYPED = {
    "sum": lambda t, x, d: x.sum(dtype=d),
    "sum dim": lambda t, x, d: t.sum(x, 0, dtype=d),
    "mean": lambda t, x, d: x.mean(dtype=d),
    "mean dim": lambda t, x, d: t.mean(x, -1, True, dtype=d),
    "nansum": lambda t, x, d: t.nansum(x, dtype=d),
    "prod": lambda t, x, d: x.prod(dtype=d),
    "prod dim": lambda t, x, d: t.prod(x, 0, dtype=d),
    "cumsum": lambda t, x, d: x.cumsum(0, dtype=d),
    "cumprod": lambda t, x, d: x.cumprod(0, dtype=d),
    "norm": lambda t, x, d: t.norm(x, dtype=d),
    "vector_norm": lambda t, x, d: t.linalg.vector_norm(x, 3, 0, dtype=d),
}


@pytest.mark.parametrize("given", ("float32", "float64", "int64", "int8", "bool"))
def test_a_dtype_argument_converts_first(given):
    for name, call in DTYPED.items():
        for dtype in ("float32", "float16", "int32", "bool", "float64"):
            assert_same(
                lambda t, x, call=call: call(t, x, getattr(t, given)), values(dtype, (3, 2), seed=6), label=f"{name}, {dtype} as {given}"
            )


ERRORS = {
    "dim out of range": lambda t, x: x.sum(2),
    "negative dim out of range": lambda t, x: x.mean(-3),
    "dim twice": lambda t, x: x.sum((0, -2)),
    "dim of 0-d": lambda t, x: t.prod(x.sum(), 1),
    "keepdim alone": lambda t, x: x.sum(keepdim=True),
    "bool as dim": lambda t, x: t.sum(x, True),
    "float as dim": lambda t, x: t.mean(x, 0.5),
    "amax twice": lambda t, x: x.amax((1, 1)),
    "max of dims": lambda t, x: t.max(x, (0, 1)),
    "norm dim": lambda t, x: t.norm(x, 2, 5),
    "var dim": lambda t, x: t.var(x, (0, 0)),
    "cumsum dim": lambda t, x: x.cumsum(2),
}


@pytest.mark.parametrize("name", ERRORS)
def test_a_wrong_call_raises_what_torch_raises(name):
    assert_same(ERRORS[name], values("float32", (2, 3)), label=name)


ORDER_2 = (
    "sum all",
    "mean dim 0",
    "prod all",
    "prod dim 0",
    "var dim 0",
    "std all",
    "amax all",
    "max all",
    "max values",
    "norm dim 0",
    "logsumexp dim 0",
    "cumsum dim 0",
    "cumprod dim 0",
)


@pytest.mark.parametrize("name", ORDER_2)
def test_second_derivatives_agree(name):
    def gradient(t, x):
        y = CALLS[name](t, x) ** 2
        return t.autograd.grad(y, x, t.ones_like(y), create_graph=True)[0] * 1

    for array in (values("float64", (3, 2), seed=9), np.array([[0.0, 2.0], [0.0, 3.0], [1.0, -1.0]]), values("float32", (2, 3), seed=9)):
        assert_same(gradient, array, label=f"{name}, {array.tolist()}")


def test_products_with_zeros_are_right_to_the_second_order():
    def gradient(t, x):
        return t.autograd.grad(x.prod(), x, create_graph=True)[0] * 1

    for zeros in ([0.0, 2.0, 3.0], [0.0, 0.0, 3.0], [0.0, 0.0, 0.0]):
        assert_same(gradient, np.array(zeros), label=f"{zeros}")


def test_the_form_in_place_agrees():
    for dtype in (*FLOATS, *INTS):
        for name, dim in (("cumsum", 0), ("cumprod", -1)):
            assert_same(
                lambda t, x, f=name, d=dim: getattr(x * 1, f + _written(x))(d), values(dtype, (3, 2), seed=1), label=f"{name}_ {dtype}"
            )


def _written(x):
    """Balls are not written to: their form in place is the other one."""
    return "" if isinstance(x, ExactTensor) else "_"


@pytest.mark.parametrize("name", ["cumsum", "cumprod", "sum"])
def test_many_equal_terms_whose_roundings_go_one_way_agree(name):
    """2049 additions of 1/2049, one after the other, err by up to 2048 roundings."""
    for dtype in ("float32", "float64"):
        x = np.full(2049, 1 / 2049 if name != "cumprod" else 1.0001, dtype)
        assert_same(lambda t, x: getattr(t, name)(x, 0), x, label=f"{name} {dtype}")


def _step(n, first, last):
    """Zeros, with ones in one place: everything after them moves the running moments the same way."""
    array = np.zeros(n)
    array[first:last] = 1
    return array


@pytest.mark.parametrize("name", ["var", "std", "var_mean", "std_mean"])
@pytest.mark.parametrize(
    "array",
    [_step(2047, 1530, 1533), _step(32769, 29697, 30481), _step(2047, 0, 500) + 1000],
    ids=["few of 2047", "many of 32769", "far from zero"],
)
def test_moments_of_many_float64_agree(name, array):
    for form in (lambda t, x: getattr(t, name)(x), lambda t, x: getattr(t, name)(x.reshape(1, -1), 1)):
        for place in (0, 1) if name.endswith("mean") else (...,):
            assert_same(lambda t, x, f=form, p=place: f(t, x)[p], array, label=f"{name}, {place}")


def test_running_moments_err_by_no_more_than_their_bound():
    rng = np.random.default_rng(0)
    for n in (2, 3, 5, 20, 300):
        for off in (0, 1, 30, 1000):
            for x in (rng.normal(size=n), np.sort(rng.normal(size=n)), _step(n, 0, n // 2), np.linspace(0, 1, n)):
                _assert_bounded((x + off).astype(np.float32), np.float32)


def _assert_bounded(x, single):
    """Welford's recurrence in float32 against float64, by the number of roundings that are allowed."""
    mean = total = single(0)
    for k, element in enumerate(x, 1):
        gap = element - mean
        mean = mean + gap / single(k)
        total = total + gap * (element - mean)
    wide, u, n = x.astype(np.float64), 2.0**-24, x.size
    right = ((wide - wide.mean()) ** 2).sum()
    own, magnified = _welford(n)
    kappa = np.sqrt((wide**2).sum() / right)
    assert abs(total - right) <= ((own + magnified * kappa) * u + (n * u * kappa) ** 2) * right, (n, kappa)
    assert abs(mean - wide.mean()) <= _mean_ulps(n) * u * (1 + n * u) * np.abs(wide).mean(), n
