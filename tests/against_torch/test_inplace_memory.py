"""Writing in place to memory that repeats itself: which ops refuse it, and which of two faults torch names."""

import pytest
import torch

import refgrad
from refgrad._table import ENTRIES
from tests.against_torch.comparing import attempt

#: shape and strides; of the last two torch cannot tell, or they are plain
TARGETS = [((2,), (0,)), ((2, 1), (0, 1)), ((2, 2), (0, 1)), ((2, 2), (1, 0)), ((0, 2), (0, 0)), ((2, 2), (1, 1)), ((2, 2), (2, 1))]
DTYPES = ("float32", "int64", "bool", "uint8", "float16")


def target(t, shape, strides, dtype):
    return t.tensor([0] * 2000, dtype=getattr(t, dtype)).as_strided(shape, strides, 0).detach()


def assert_same_outcome(call, label):
    """Both libraries take the call, or both refuse it in the same words."""
    __tracebackhide__ = True
    theirs, ours = (attempt(call, t)[1] for t in (torch, refgrad))
    assert (theirs is None) == (ours is None), f"{label}: torch {theirs!r}, refgrad {ours!r}"
    if theirs is not None:
        text = str(theirs).split("\nException raised")[0]
        assert type(ours) is type(theirs), f"{label}: torch {theirs!r}, refgrad {ours!r}"
        assert "invalid combination" in text or str(ours) == text, f"{label}: torch {theirs!r}, refgrad {ours!r}"


UNARY = sorted({e.name for e in ENTRIES if e.inplace and len(e.params) == 1 and e.method and not e.name.startswith("_")})
BINARY = sorted({e.name for e in ENTRIES if e.inplace and e.params[1:] in (("other",), ("exponent",), ("min",), ("max",))})
OPERANDS = {
    "float": lambda t, x: t.zeros(tuple(x.shape)),
    "double": lambda t, x: t.zeros(tuple(x.shape), dtype=t.float64),
    "int": lambda t, x: t.zeros(tuple(x.shape), dtype=t.int64),
    "bool": lambda t, x: t.zeros(tuple(x.shape), dtype=t.bool),
    "float, 0-d": lambda t, x: t.zeros(()),
    "wrong shape": lambda t, x: t.zeros((3, *x.shape[1:])),
    "more dims": lambda t, x: t.zeros((2, *x.shape)),
    "1": lambda t, x: 1,
    "-1": lambda t, x: -1,
    "0.5": lambda t, x: 0.5,
    "itself": lambda t, x: x,
}


def written(t, name, place, dtype, operand, arguments):
    x = target(t, *place, dtype)
    args, kwargs = arguments(OPERANDS[operand](t, x))
    return getattr(x, name + "_")(*args, **kwargs)


def assert_all_the_same(name, arguments, operands=OPERANDS):
    __tracebackhide__ = True
    for place in TARGETS:
        for dtype in DTYPES:
            for operand in operands:
                assert_same_outcome(
                    lambda t, place=place, dtype=dtype, operand=operand: written(t, name, place, dtype, operand, arguments),
                    f"{name}_ {place} {dtype} {operand}",
                )


@pytest.mark.parametrize("name", [*UNARY, "nan_to_num", "square", "logit"])
def test_unary_ops_name_the_fault_that_torch_names(name):
    assert_all_the_same(name, lambda operand: ((), {}), ("itself",))


@pytest.mark.parametrize("name", [*BINARY, "true_divide"])
def test_binary_ops_name_the_fault_that_torch_names(name):
    assert_all_the_same(name, lambda operand: ((operand,), {}))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("copy", lambda o: ((o,), {})),
        ("fill", lambda o: ((o,), {})),
        ("clamp", lambda o: ((), {"min": o})),
        ("clamp", lambda o: ((o, o), {})),
        ("clip", lambda o: ((), {"max": o})),
        ("add", lambda o: ((o,), {"alpha": 0.5})),
        ("sub", lambda o: ((o,), {"alpha": True})),
        ("div", lambda o: ((o,), {"rounding_mode": "floor"})),
        ("div", lambda o: ((o,), {"rounding_mode": "other"})),
        ("addcmul", lambda o: ((o, o), {})),
        ("addcdiv", lambda o: ((o, o), {})),
        ("lerp", lambda o: ((o, 0.5), {})),
        ("lerp", lambda o: ((o, o), {})),
        ("cumsum", lambda o: ((0,), {})),
        ("cumprod", lambda o: ((5,), {})),
        ("uniform", lambda o: ((1.0, 0.0), {})),
        ("normal", lambda o: ((0.0, -1.0), {})),
        ("bernoulli", lambda o: ((2.0,), {})),
        ("tril", lambda o: ((), {})),
    ],
)
def test_other_ops_name_the_fault_that_torch_names(name, arguments):
    assert_all_the_same(name, arguments)


def test_a_refused_random_write_draws_nothing():
    refgrad.manual_seed(0)
    expected = refgrad.rand(3).tolist()
    refgrad.manual_seed(0)
    assert "single memory location" in str(attempt(lambda t: target(t, (2,), (0,), "float32").uniform_(), refgrad)[1])
    assert refgrad.rand(3).tolist() == expected


PRODUCTS = [
    *[("addmm", s, st) for s, st in TARGETS if len(s) == 2],
    *[("addmm", (20, 20), st) for st in ((0, 1), (1, 0), (20, 1))],
    *[("addmv", (n,), (st,)) for n in (1, 2, 20) for st in (0, 1)],
    *[("baddbmm", (2, 2, 2), st) for st in ((0, 2, 1), (2, 0, 1), (2, 1, 0), (1, 1, 1), (4, 2, 1))],
    *[("baddbmm", (3, 20, 20), st) for st in ((0, 20, 1), (20, 0, 1), (0, 1, 0), (400, 20, 1))],
]


def added(t, name, place, dtype, inner, beta):
    x = target(t, *place, dtype)
    *batch, last = x.shape if name != "addmv" else (*x.shape, None)
    b = {"addmm": (inner, last), "addmv": (inner,), "baddbmm": (*batch[:1], inner, last)}[name]
    kind = getattr(t, dtype)
    return getattr(x, name + "_")(t.ones((*batch, inner), dtype=kind), t.ones(b, dtype=kind), beta=beta)


@pytest.mark.parametrize("dtype", ("float32", "float64", "float16", "int64", "bool"))
def test_products_added_in_place_refuse_repeated_memory_where_they_copy(dtype):
    for name, *place in PRODUCTS:
        for inner in (0, 1, 2, 20):
            for beta in (1, 0, 0.5):
                assert_same_outcome(
                    lambda t, name=name, place=place, inner=inner, beta=beta: added(t, name, place, dtype, inner, beta),
                    f"{name}_ {place} {dtype}, inner size {inner}, beta {beta}",
                )


INDEXED = {
    "index_put": lambda t, x, i, v: x.index_put_((i,), v),
    "index_put, accumulated": lambda t, x, i, v: x.index_put_((i,), v, accumulate=True),
    "setitem": lambda t, x, i, v: x.__setitem__((i,), v),
    "put": lambda t, x, i, v: x.put_(i, v.expand(i.shape).clone()),
    "index_add": lambda t, x, i, v: x.index_add_(0, i, v.expand((i.numel(), *x.shape[1:])).clone()),
    "index_copy": lambda t, x, i, v: x.index_copy_(0, i, v.expand((i.numel(), *x.shape[1:])).clone()),
    "index_copy, dim": lambda t, x, i, v: x.index_copy_(5, i, v),
    "index_fill": lambda t, x, i, v: x.index_fill_(0, i, v),
    "index_fill, dim": lambda t, x, i, v: x.index_fill_(5, i, 1),
    "scatter": lambda t, x, i, v: x.scatter_(0, (x * 0).to(i.dtype), v.expand(x.shape).clone()),
    "scatter, large": lambda t, x, i, v: x.scatter_(0, t.zeros((3,) * x.dim(), dtype=i.dtype), v.expand(x.shape).clone()),
    "scatter, number": lambda t, x, i, v: x.scatter_(0, (x * 0).to(i.dtype), 1),
    "scatter_add": lambda t, x, i, v: x.scatter_add_(0, (x * 0).to(i.dtype), v.expand(x.shape).clone()),
    "masked_fill": lambda t, x, i, v: x.masked_fill_((x == 0).to(i.dtype), v),
    "masked_scatter": lambda t, x, i, v: x.masked_scatter_((x == 0).to(i.dtype), v.expand(x.shape).clone()),
    "masked_scatter, few": lambda t, x, i, v: x.masked_scatter_((x == 0).to(i.dtype), v.reshape(1)),
}


@pytest.mark.parametrize("name", INDEXED)
def test_writes_by_index_name_the_fault_that_torch_names(name):
    for place in [p for p in TARGETS if 0 not in p[0]]:
        for dtype in ("float32", "int64", "bool"):
            for index in ([0], [0, 1], [True, False], [0.0]):
                for value in ("float32", "int64", "bool"):
                    assert_same_outcome(
                        lambda t, place=place, dtype=dtype, index=index, value=value: INDEXED[name](
                            t, target(t, *place, dtype), t.tensor(index), t.ones((), dtype=getattr(t, value))
                        ),
                        f"{name} {place} {dtype} {index} {value}",
                    )


def put_by_mask(t, mask, kind, value):
    x = t.ones((2, 3))
    _, raised = attempt(lambda t: x.__setitem__(t.tensor(mask, dtype=getattr(t, kind)), t.tensor([value])), t)
    return x.tolist(), str(raised)


@pytest.mark.parametrize("value", (5, 5.5, True))
def test_one_mask_takes_one_value_of_any_dtype(value):
    for mask, kind in (([True, False], "bool"), ([[True, False, True], [False, True, False]], "bool"), ([1, 0], "uint8")):
        assert put_by_mask(refgrad, mask, kind, value) == put_by_mask(torch, mask, kind, value)
