"""Indexing and the ops that pick, write and sort by index: values, layouts, gradients, what is saved, in-place forms, errors."""

import numpy as np
import pytest
import torch

import refgrad
from tests.against_torch.comparing import ALL, FLOATS, assert_same, assert_same_second, attempt, from_torch, to_refgrad, to_torch, values


def _long(t, *data):
    return t.tensor(list(data), dtype=t.int64)


def _mask(t, x):
    """Every third element, in index order."""
    return (t.arange(x.numel()) % 3 == 0).reshape(x.shape)


#: key of an index expression on a tensor of shape (2, 3, 4) -> the key
KEYS = {
    "int": lambda t, x: 1,
    "negative int": lambda t, x: -2,
    "ints": lambda t, x: (1, 2, -1),
    "slice": lambda t, x: slice(0, 1),
    "everything": lambda t, x: slice(None),
    "every second": lambda t, x: (..., slice(None, None, 2)),
    "past the end": lambda t, x: slice(1, 9),
    "nothing": lambda t, x: (slice(None), slice(3, 1)),
    "int and slice": lambda t, x: (slice(None), 1, slice(1, -1)),
    "no index": lambda t, x: (),
    "ellipsis": lambda t, x: ...,
    "None": lambda t, x: None,
    "None inside": lambda t, x: (0, None, ..., None, slice(2)),
    "True": lambda t, x: True,
    "False": lambda t, x: False,
    "True inside": lambda t, x: (0, True, slice(1, 3)),
    "0-d tensor": lambda t, x: t.tensor(1),
    "0-d mask": lambda t, x: t.tensor(True),
    "list": lambda t, x: [1, 0, 1],
    "bool list": lambda t, x: [True, False],
    "empty list": lambda t, x: [],
    "tensor": lambda t, x: _long(t, 0, 1, 0),
    "negative tensor": lambda t, x: _long(t, -1, -2),
    "int32 tensor": lambda t, x: t.tensor([1, 0], dtype=t.int32),
    "matrix of indices": lambda t, x: t.tensor([[0, 1], [1, 0], [0, 0]]),
    "transposed indices": lambda t, x: t.tensor([[0, 1], [1, 0], [0, 0]]).t(),
    "tensor for dim 1": lambda t, x: (slice(None), _long(t, 2, 0)),
    "tensor at the end": lambda t, x: (..., _long(t, 3, 0, 3)),
    "neighbours": lambda t, x: (slice(None), _long(t, 0, 2), _long(t, 1, 3)),
    "apart": lambda t, x: (_long(t, 0, 1), slice(None), _long(t, 3, 0)),
    "apart by None": lambda t, x: (_long(t, 0, 1), None, _long(t, 2, 0)),
    "broadcast": lambda t, x: (t.tensor([[0], [1]]), _long(t, 0, 1, 2)),
    "three": lambda t, x: ([0, 1, 1], [2, 0, 2], [3, 3, 0]),
    "tensor and int": lambda t, x: (_long(t, 0, 1), 2, slice(1, 3)),
    "int between": lambda t, x: (_long(t, 0, 1), 0, _long(t, 1, 2)),
    "mask": lambda t, x: _mask(t, x),
    "mask of rows": lambda t, x: _mask(t, x[:, :, 0]),
    "mask of a dim": lambda t, x: (slice(None), t.tensor([True, False, True])),
    "mask and tensor": lambda t, x: (t.tensor([True, True]), _long(t, 0, 2)),
    "mask in a row": lambda t, x: (1, _mask(t, x[0])),
    "empty mask": lambda t, x: _mask(t, x) & ~_mask(t, x),
}
PICKS = {
    "gather": lambda t, x: x.gather(1, t.tensor([[[2, 0, 1, 1]], [[0, 0, 2, 1]]])),
    "gather few": lambda t, x: t.gather(x, -1, t.tensor([[[3, 0], [1, 1]]])),
    "gather nothing": lambda t, x: x.gather(0, t.zeros(0, dtype=t.int64)),
    "index_select": lambda t, x: x.index_select(1, _long(t, 2, 0, 2)),
    "index_select 0-d": lambda t, x: t.index_select(x, 0, t.tensor(1)),
    "masked_select": lambda t, x: x.masked_select(_mask(t, x)),
    "masked_select wide": lambda t, x: t.masked_select(x[:1], _mask(t, x)),
    "masked_select narrow": lambda t, x: x.masked_select(_mask(t, x[0])),
    "take": lambda t, x: x.take(t.tensor([[0, -1], [5, 5]])),
    "take_along_dim": lambda t, x: x.take_along_dim(t.tensor([[[2, 0, 1, 1]], [[0, 0, 2, 1]]]), 1),
    "take_along_dim wide": lambda t, x: t.take_along_dim(x[:1], t.tensor([[[2]], [[0]]]), 1),
    "take_along_dim flat": lambda t, x: t.ones_like(x).take_along_dim(_long(t, 3, 0)),
    "nonzero": lambda t, x: x.nonzero(),
    "nonzero as tuple": lambda t, x: t.nonzero(x, as_tuple=True)[1],
    "argwhere": lambda t, x: x[0].argwhere(),
    "argsort": lambda t, x: x.argsort(dim=1, stable=True),
    "index_fill": lambda t, x: x.index_fill(1, _long(t, 2, -3), 2),
    "masked_fill": lambda t, x: x.masked_fill(_mask(t, x), 1),
    "masked_fill inexact": lambda t, x: x.masked_fill(_mask(t, x), 0.7),
    "masked_fill wide": lambda t, x: x[:1].masked_fill(_mask(t, x), 2),
    "scatter a number": lambda t, x: x.scatter(2, t.tensor([[[3, 0], [1, 1]]]), 2.7 if x.dtype.is_floating_point else 2),
    "put_mask by a key": lambda t, x: x.index_put((_mask(t, x),), t.ones((), dtype=x.dtype)),
}
#: of a tensor and a source of the same shape and dtype
WRITES = {
    "scatter all": lambda t, x, s, form: form(x, "scatter")(1, t.tensor([[[2], [0], [1]]]).expand(2, 3, 4), s),
    "scatter from part of a source": lambda t, x, s, form: form(x, "scatter")(1, t.tensor([[[2, 0, 1, 1]], [[0, 1, 2, 0]]]), s),
    "scatter few": lambda t, x, s, form: form(x, "scatter")(0, t.tensor([[[1, 0], [0, 1]]]), s[:1, :2, :2]),
    "scatter_add": lambda t, x, s, form: form(x, "scatter_add")(1, t.tensor([[[2, 0, 1, 1]] * 3, [[0, 0, 2, 1]] * 3]), s),
    "index_add": lambda t, x, s, form: form(x, "index_add")(1, _long(t, 2, 0, 2), s),
    "index_add alpha": lambda t, x, s, form: form(x, "index_add")(0, _long(t, 1, 1), s, alpha=2),
    "index_copy": lambda t, x, s, form: form(x, "index_copy")(1, _long(t, 2, 0), s[:, 1:]),
    "index_put": lambda t, x, s, form: form(x, "index_put")((_long(t, 1, 0),), s),
    "index_put broadcast": lambda t, x, s, form: form(x, "index_put")((_long(t, 1, 0), _long(t, 2, 2)), s[0, 0, 0]),
    "index_put adds": lambda t, x, s, form: form(x, "index_put")((_long(t, 1, 1), _long(t, 0, 0)), s[:, 0], accumulate=True),
    "index_put mask": lambda t, x, s, form: form(x, "index_put")((_mask(t, x),), s[0, 0, 0]),
    "index_fill tensor": lambda t, x, s, form: form(x, "index_fill")(1, _long(t, 2, 0, 2), s[0, 0, 0]),
    "masked_fill tensor": lambda t, x, s, form: form(x, "masked_fill")(_mask(t, x), s[0, 0, 0]),
    "masked_scatter": lambda t, x, s, form: form(x, "masked_scatter")(_mask(t, x), s),
    "put": lambda t, x, s, form: form(x, "put")(_long(t, 3, -1), s[0, 0, :2]),
    "put adds": lambda t, x, s, form: form(x, "put")(_long(t, 3, 3, 0), s[0, 0, :3], True),
}
SORTED = {
    "sort": lambda t, x: x.sort()[0],
    "sort indices": lambda t, x: t.sort(x, stable=True, dim=0)[1],
    "sort down": lambda t, x: x.sort(1, True)[0],
    "sort stably down": lambda t, x: t.sort(x, stable=True, dim=-1, descending=True).values,
    "msort": lambda t, x: x.msort(),
    "topk": lambda t, x: x.topk(2)[0],
    "topk smallest": lambda t, x: t.topk(x, 2, 1, largest=False).values,
}


def _out_of_place(x, name):
    return getattr(x, name)


def _in_place(x, name):
    return getattr(x * 1 if x.is_floating_point() else x.clone(), name + "_")


def _layouts(dtype, seed=3):
    x = values(dtype, (2, 3, 4), seed=seed)
    return {"contiguous": x, "transposed": np.ascontiguousarray(x.transpose(1, 0, 2)).transpose(1, 0, 2)}


def _key(name):
    return lambda t, x: x[KEYS[name](t, x)]


CALLS = {f"x[{name}]": _key(name) for name in KEYS} | PICKS


@pytest.mark.parametrize("name", CALLS)
def test_picking_does_what_torch_does_for_every_dtype_and_layout(name):
    for dtype in ALL:
        for layout, x in _layouts(dtype).items():
            assert_same(CALLS[name], x, label=f"{name}, {dtype}, {layout}")


@pytest.mark.parametrize("name", SORTED)
def test_sorting_does_what_torch_does_where_no_two_are_equal(name):
    for dtype in FLOATS:
        distinct = np.random.default_rng(1).permutation(24).reshape(2, 3, 4).astype(values(dtype, ()).dtype)
        for x in (distinct, np.ascontiguousarray(distinct.transpose(1, 0, 2)).transpose(1, 0, 2)):
            assert_same(SORTED[name], x, label=f"{name}, {dtype}")


@pytest.mark.parametrize("name", [n for n in SORTED if "sort" in n])
def test_equal_elements_keep_their_order_and_nan_is_the_largest(name):
    x = np.array([[1, np.nan, 0, -0.0, np.inf, 1], [np.nan, np.nan, 2, 1, 2, -np.inf]], np.float32)
    assert_same(SORTED[name], x, label=name)


@pytest.mark.parametrize("name", CALLS | SORTED)
def test_the_gradient_has_the_derivative_and_the_node_that_torch_gives_it(name):
    for layout, x in _layouts("float32").items():
        call = (CALLS | SORTED)[name]
        expected = attempt(call, torch, to_torch(x, True))[0]
        if expected is not None and expected.requires_grad:
            assert_same_second(call, x, label=f"{name}, {layout}")


@pytest.mark.parametrize("name", WRITES)
def test_writing_by_index_does_what_torch_does(name):
    for dtype in ALL:
        for form in (_out_of_place, _in_place):
            for layout, x in _layouts(dtype).items():
                call = lambda t, x, s, form=form: WRITES[name](t, x, s, form)  # noqa: E731
                exact = lambda t, x, s: WRITES[name](t, x, s, _out_of_place)  # noqa: E731
                assert_same(call, x, values(dtype, (2, 3, 4), seed=9), label=f"{name}, {dtype}, {layout}, {form.__name__}", exact=exact)


# torch's formula for alpha multiplies by a number with a node of its own; its scatter has no gradient for a source larger than the index
@pytest.mark.parametrize("name", [n for n in WRITES if n not in ("index_add alpha", "scatter from part of a source")])
def test_the_gradient_of_a_write_has_the_derivative_and_the_node_that_torch_gives_it(name):
    call = lambda t, x, s: WRITES[name](t, x, s, _out_of_place)  # noqa: E731
    assert_same_second(call, values("float32", (2, 3, 4)), values("float32", (2, 3, 4), seed=9), label=name)


@pytest.mark.parametrize(
    "call",
    [
        lambda t, x: x[None],
        lambda t, x: x[...],
        lambda t, x: x[()],
        lambda t, x: x[True],
        lambda t, x: x[t.tensor(True)],
        lambda t, x: x[t.tensor([True])[0]],
        lambda t, x: x.gather(0, t.tensor(0)),
        lambda t, x: x.gather(0, _long(t, 0, 0)),
        lambda t, x: x.scatter(0, t.tensor(0), 5.0),
        lambda t, x: x.scatter(0, t.tensor(0), x * 2),
        lambda t, x: x.scatter_add(0, t.tensor(0), x * 2),
        lambda t, x: x.index_select(0, t.tensor(0)),
        lambda t, x: x.index_fill(0, t.tensor(0), 2.0),
        lambda t, x: x.index_copy(0, t.tensor(0), x * 2),
        lambda t, x: x.index_add(0, t.tensor(0), x * 2),
        lambda t, x: x.take(_long(t, 0)),
        lambda t, x: x.sort()[0],
        lambda t, x: x.masked_fill(t.tensor(True), 2.0),
        lambda t, x: x.masked_select(t.tensor(True)),
        lambda t, x: x.nonzero(),
        lambda t, x: x.topk(1)[0],
    ],
)
def test_a_tensor_without_dims_counts_as_one_dim(call):
    assert_same(call, values("float32", ()))


@pytest.mark.parametrize(
    "call",
    [
        lambda t, x: x[:, _long(t, 5)],
        lambda t, x: x[:, _long(t)],
        lambda t, x: x[_long(t)],
        lambda t, x: x[_long(t, 0)],
        lambda t, x: x.sort(0)[0],
        lambda t, x: x.sort(1)[0],
        lambda t, x: x.nonzero(),
        lambda t, x: x.gather(1, t.zeros(0, 2, dtype=t.int64)),
        lambda t, x: x[[0], [1]],
        lambda t, x: x.index_select(1, _long(t, 1)),
        lambda t, x: x[0],
    ],
)
def test_an_empty_tensor_is_indexed_as_torch_does(call):
    assert_same(call, np.zeros((0, 3), np.float32))


ERRORS = [
    "x[2]",
    "x[-3]",
    "x[None, 5]",
    "x[..., 7]",
    "x[0, 0, 0, 0]",
    "x[0, 0, 0][0]",
    "x[0, 0, 0][1:]",
    "x[::-1]",
    "x[::0]",
    "x[0.5]",
    "x['a']",
    "x[0.5:]",
    "x[t.tensor([5])]",
    "x[:, t.tensor([5])]",
    "x[i, 9]",
    "x[i, t.tensor([0, 9, 9])]",
    "x[i, t.tensor([0, 1])]",
    "x[t.tensor([0.5])]",
    "x[t.tensor([1], dtype=t.int16)]",
    "x[:, m]",
    "x[m, m, m, m]",
    "x[t.ones(2, 2, dtype=t.bool)]",
    "x.index_put((i,), x[:, :2])",
    "x.index_put((i,), t.tensor(1))",
    "x.index_put((i, i, i, i), x[0, 0, 0])",
    "x.index_put((i + 5,), x[0])",
    "x.gather(0, l[0])",
    "x.gather(0, t.zeros(1, 5, 4, dtype=t.int64))",
    "x.gather(0, l + 7)",
    "x.gather(0, l - 1)",
    "x.gather(0, x)",
    "x.gather(5, l)",
    "x.scatter(0, l, x.to(t.float64))",
    "x.scatter(0, t.zeros(3, 3, 4, dtype=t.int64), x)",
    "x.scatter(0, l + 7, x)",
    "x.scatter(0, l[0], x)",
    "x.scatter(0, x, x)",
    "x.scatter(0, l, x[0, 0, 0])",
    "x.scatter(0, l + 9, 1.0)",
    "x.scatter(0, t.zeros(1, 5, 4, dtype=t.int64), 5.0)",
    "x.scatter_add(0, l, x.transpose(0, 1))",
    "x.scatter_add(0, l, x.to(t.float64))",
    "x.index_select(0, i + 5)",
    "x.index_select(0, i - 1)",
    "x.index_select(0, l)",
    "x.index_select(0, x[0, 0])",
    "x.index_select(3, i)",
    "x[0, 0, 0].index_select(0, i)",
    "x.index_add(0, i, x)",
    "x.index_add(0, i[:2] + 5, x)",
    "x.index_add(0, i[:2], x.to(t.float64))",
    "x.index_add(0, i[:2], x[:, :2])",
    "x.index_add(0, l[0], x)",
    "x.index_add(0, x[0, 0, :2], x)",
    "x[0, 0].index_add(0, i, x[0, 0, 0])",
    "x.index_copy(0, i, x)",
    "x.index_copy(0, i[:2] + 5, x)",
    "x.index_copy(0, i[:2], x.to(t.float64))",
    "x.index_copy(0, i[:2], x[:, :2])",
    "x.index_copy(0, l[0], x)",
    "x.index_copy(0, i[:2].to(t.int32), x)",
    "x.index_copy(0, i[:2], x[0])",
    "x[0, 0].index_copy(0, i, x[0, 0, 0])",
    "x.index_fill(0, i + 5, 1.0)",
    "x.index_fill(0, l, 1.0)",
    "x.index_fill(0, i.to(t.int32), 1.0)",
    "x.index_fill(0, i, x[0, 0])",
    "x.masked_fill(x, 1.0)",
    "x.masked_fill(m, 1.0)",
    "x.masked_fill(x > 0, x[0, 0])",
    "x.masked_fill(x > 0, 1e300)",
    "x.to(t.int8).masked_fill(x > 0, 300)",
    "x.to(t.int8).masked_fill(x > 0, float('nan'))",
    "x.masked_select(x)",
    "x.masked_select(m)",
    "x.masked_scatter(x > -9, x[0])",
    "x.masked_scatter(x, x)",
    "x.masked_scatter(x > 0, x.to(t.float64))",
    "x.take(i + 50)",
    "x.take(i - 50)",
    "x.take(x)",
    "x.put(i, x[0, 0, :2])",
    "x.put(i + 50, x[0, 0, :3])",
    "x.put(i, x[0, 0, :3].to(t.float64))",
    "x.take_along_dim(l[0], 0)",
    "x.take_along_dim(x, 0)",
    "x.sort(5)",
    "x.topk(5)",
    "(x > 0).topk(1)",
    "x.repeat_interleave(i[:2], 1)",
]


def _names(library, make):
    x = make(values("float32", (2, 3, 4), seed=3))
    return {
        "t": library,
        "x": x,
        "i": _long(library, 0, 1, 0),
        "l": library.zeros(2, 3, 4, dtype=library.int64),
        "m": library.tensor([True, False]),
    }


@pytest.mark.parametrize("expression", ERRORS)
def test_an_error_is_torch_s_word_for_word(expression):
    theirs, ours = [attempt(eval, expression, _names(library, make))[1] for library, make in ((torch, to_torch), (refgrad, to_refgrad))]
    assert (type(ours), str(ours)) == (type(theirs), str(theirs))


ASSIGNED = {name: key for name, key in KEYS.items() if name not in ("empty mask", "nothing", "no index", "False")}
RIGHT = {"a number": lambda t, v, place: 2.5, "a 0-d tensor": lambda t, v, place: v[0], "a tensor": lambda t, v, place: place(v) * v[1]}


def _assigned(library, make, key, right, leaf):
    x, v = make(np.rint(values("float32", (2, 3, 4), seed=3)), True), make(np.array([2, 3], np.float32), True)
    y = x * 1 if leaf == "a product" else library.zeros(2, 3, 4)
    y[KEYS[key](library, y)] = RIGHT[right](library, v, lambda v: library.ones_like(y[KEYS[key](library, y)].detach()))
    state = y._version, type(y.grad_fn).__name__, y.tolist()
    grads = library.autograd.grad((y * y).sum(), [x, v], allow_unused=True) if y.requires_grad else ()
    return state, [g if g is None else (from_torch(g) if library is torch else g._data).tolist() for g in grads]


@pytest.mark.parametrize("key", ASSIGNED)
@pytest.mark.parametrize("leaf", ["a product", "zeros"])
def test_assigning_to_an_index_writes_and_records_as_torch_does(key, leaf):
    for right in RIGHT:
        assert _assigned(refgrad, to_refgrad, key, right, leaf) == _assigned(torch, to_torch, key, right, leaf), right


REFUSED = [
    "y[5] = 1.0",
    "y[i, 7] = 1.0",
    "y[i + 9] = 1.0",
    "y[0, 0, 0, 0] = 1.0",
    "y[0] = 'a'",
    "y[0] = [1, 2]",
    "y[0] = None",
    "y[0] = x[:, 0, 0]",
    "y[0] = x",
    "y[i] = x[:, :2]",
    "y[x > 0] = x",
    "y[i] = t.tensor(1)",
    "y[::-1] = 1",
    "y[0] = 1e300",
    "y[i] = y",
    "y[[0, 1]] = y",
    "y[0] = 1j",
    "x[0] = 1.0",
    "x[i] = 1.0",
    "y.index_add_(0, i[:2], y)",
    "y.expand(2, 2, 3, 4)[0:2] = x",
    "y.scatter_(0, l + 9, 1.0)",
    "y.index_copy_(0, i[:2], x[:, :2])",
    "y.masked_fill_(t.ones(2, 2, 3, 4, dtype=t.bool), 1.0)",
]


@pytest.mark.parametrize("statement", REFUSED)
def test_a_write_that_is_refused_says_so_and_changes_nothing(statement):
    seen = []
    for library, make in ((torch, to_torch), (refgrad, to_refgrad)):
        names = _names(library, make)
        names["x"].requires_grad_()
        y = names["y"] = names["x"] * 1
        raised = attempt(exec, statement, names)[1]
        seen.append((type(raised), str(raised), y._version, y.tolist(), y.grad_fn.name(), names["x"]._version))
    assert seen[0][0] is not type(None)
    assert seen[1] == seen[0]


#: what is written to between an op and its backward: torch's error says whether the op had saved it
SAVED = {
    "gather keeps its input": lambda t, y, i, k: (y.gather(0, k), y.mul_(2)),
    "take keeps its input": lambda t, y, i, k: (y.take(i), y.mul_(2)),
    "masked_select keeps its input": lambda t, y, i, k: (y.masked_select(y > 0), y.mul_(2)),
    "indexing keeps no input": lambda t, y, i, k: (y[i], y.mul_(2)),
    "indexing keeps its index": lambda t, y, i, k: (y[i], i.add_(1)),
    "index_select keeps its index": lambda t, y, i, k: (y.index_select(0, i), i.add_(1)),
    "index_select keeps no input": lambda t, y, i, k: (y.index_select(0, i), y.mul_(2)),
    "sort keeps no input": lambda t, y, i, k: (y.sort()[0], y.mul_(2)),
    "index_add keeps its source": lambda t, y, i, k: (t.zeros(2, 3, 4).index_add(0, i[:2], y), y.mul_(2)),
    "index_put keeps no values": lambda t, y, i, k: (t.zeros(2, 3, 4).index_put((i[:2],), y), y.mul_(2)),
    "scatter keeps no source": lambda t, y, i, k: (t.zeros(2, 3, 4).scatter(0, k, y), y.mul_(2)),
    "scatter keeps its index": lambda t, y, i, k: (t.zeros(2, 3, 4).scatter(0, k, y), k.add_(1)),
    "put keeps its source": lambda t, y, i, k: (t.zeros(2, 3, 4).put(i, s := y[0, 0, :3] * 1), s.mul_(2)),
    "masked_fill keeps its mask": lambda t, y, i, k: (y.masked_fill(m := y > 0, 1.0), m.logical_not_()),
}


def _saved(library, make, name):
    names = _names(library, make)
    y = names["x"].requires_grad_() * 1
    out, _ = SAVED[name](library, y, names["i"], names["l"])
    raised = attempt(lambda: out.sum().backward())[1]
    return type(raised), "modified by an inplace operation" in str(raised)


@pytest.mark.parametrize("name", SAVED)
def test_an_op_notices_writes_to_what_torch_s_op_saves(name):
    assert _saved(refgrad, to_refgrad, name) == _saved(torch, to_torch, name)


def test_a_nested_list_counts_as_a_tuple_and_warns():
    x = to_refgrad(values("float32", (2, 3, 4)))
    with pytest.warns(UserWarning, match="non-tuple sequence"):
        assert x[[[0, 1], [1, 0]]].shape == (2, 4)


@pytest.mark.parametrize("library", [torch, refgrad])
def test_the_gradient_of_one_element_put_has_no_dims(library):
    value = library.tensor(7.0, requires_grad=True)
    out = library.zeros(3, 2).index_put((library.tensor(1), library.tensor(0)), value)
    out.backward(library.arange(6.0).reshape(2, 3).t())  # strided, as only then its memory order is worked out
    assert (tuple(value.grad.shape), value.grad.item()) == ((), 1.0)


@pytest.mark.parametrize("library", [torch, refgrad])
def test_two_roots_of_one_node_both_arrive_in_grad(library):
    x = library.tensor([1.0, 2.0, 3.0], requires_grad=True)
    roots = (x * 2).unbind()
    (gradient,) = library.autograd.grad(roots, x, [library.tensor(g) for g in (1.0, 10.0, 100.0)])
    assert gradient.tolist() == [2.0, 20.0, 200.0]
