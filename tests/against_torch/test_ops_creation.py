"""Tensors from nothing against torch: dtypes inferred, layouts kept, errors, leaves, and the random streams bit for bit."""

import warnings

import numpy as np
import pytest
import torch

import refgrad
from tests.against_torch.comparing import BF16, attempt, from_torch, to_refgrad, to_torch, values

INF, NAN = float("inf"), float("nan")


def assert_same_leaf(call, *arrays, label=""):
    """Asserts that ``call(library, *tensors)`` makes the same leaf in both, bit for bit, or raises the same."""
    __tracebackhide__ = True
    expected, raised = attempt(call, torch, *map(to_torch, arrays))
    got, ours = attempt(call, refgrad, *map(to_refgrad, arrays))
    if raised is not None:
        assert (type(ours), _first_line(ours)) == (type(raised), _first_line(raised)), label
        return
    assert ours is None, f"{label}: torch gives {expected}, refgrad raises {ours!r}"
    state = (str(expected.dtype), tuple(expected.shape), expected.requires_grad, expected.is_leaf, _strides(expected))
    assert (repr(got.dtype), tuple(got.shape), got.requires_grad, got.is_leaf, _strides(got)) == state, label
    np.testing.assert_array_equal(_bits(got._data), _bits(from_torch(expected)), err_msg=label)


def _first_line(error):
    text = str(error).split("\n")[0]
    return text.split("invalid combination of arguments")[0]


def _strides(tensor):
    return [s for s, n in zip(tensor.stride(), tensor.shape, strict=True) if n > 1] if tensor.numel() else []


def _bits(array):
    return array.view(np.int16) if array.dtype == BF16 else array


DATA = [
    [1, 2.0],
    [True, 1],
    [True, False],
    [True, 1.5],
    [],
    [[], []],
    [[1, 2], [3]],
    [1, [2]],
    [[1], 2],
    [[1, 2], 3.0],
    "a",
    ["a"],
    None,
    [None],
    2**63,
    [2**63],
    -(2**63),
    np.float32(1.5),
    np.int32(3),
    [np.float32(1.5)],
    [np.float64(1.5)],
    [np.int32(3)],
    [np.bool_(True)],
    [np.float64(1), 2.0],
    np.array([1, 2], np.int16),
    np.array(["a"]),
    np.array(5),
    [np.array([1.0, 2.0]), np.array([1.0, 2.0])],
    [np.array([1, 2], np.int8)],
    (1, 2),
    range(3),
    {1},
    [1, 2.0, NAN],
    [[1], [2.5]],
    [[[1]], [[2, 3]]],
    1e300,
    [1e300],
    [[1.0], [[2.0]]],
    [1.0, [2.0]],
    [True, [2]],
    (1, []),
    [[], 1],
    np.arange(6.0).reshape(2, 3).T,
]
CONVERTED = [
    ([1.5, 2], "int64"),
    ([300], "uint8"),
    ([-1], "uint8"),
    ([1.5], "bool"),
    ([1e300], "float32"),
    ([70000.0], "float16"),
    (300.7, "int8"),
    ([NAN], "int64"),
    (1e20, "int64"),
    ([2**62], "float32"),
    (NAN, "bool"),
    ([True], "float32"),
    (4.5e38, "bfloat16"),
    (-129, "int8"),
    (256, "uint8"),
    (2**31, "int32"),
    ([-1.5], "uint8"),
    (-256, "uint8"),
    (-255, "uint8"),
    (1.9, "uint8"),
    (-0.5, "uint8"),
    (127.9, "int8"),
    ([None], "float32"),
    (None, "float32"),
    (np.array([1.7, -2.2]), "int32"),
    (np.array([1, 2]), "bfloat16"),
]


@pytest.mark.parametrize("place", range(len(DATA)))
def test_tensor_infers_shape_and_dtype(place):
    assert_same_leaf(lambda t: t.tensor(DATA[place]), label=repr(DATA[place]))
    assert_same_leaf(lambda t: t.tensor(DATA[place], requires_grad=True), label=repr(DATA[place]))
    assert_same_leaf(lambda t: t.as_tensor(DATA[place]), label=repr(DATA[place]))


@pytest.mark.parametrize("place", range(len(CONVERTED)))
def test_tensor_converts_to_a_dtype(place):
    data, dtype = CONVERTED[place]
    assert_same_leaf(lambda t: t.tensor(data, dtype=getattr(t, dtype)), label=f"{data} {dtype}")


def test_tensor_takes_scalars_that_are_tensors():
    for call in (
        lambda t: t.tensor([t.tensor(1.0), 2]),
        lambda t: t.tensor([t.tensor([1.0, 2.0])]),
        lambda t: t.tensor([t.tensor(1, dtype=t.int16)]),
    ):
        assert_same_leaf(call)


FILLED = {
    "zeros": lambda t: t.zeros(2, 3),
    "zeros tuple": lambda t: t.zeros((2, 3), dtype=t.float64),
    "zeros 0-d": lambda t: t.zeros(()),
    "zeros size=": lambda t: t.zeros(size=(2,), requires_grad=True),
    "zeros nothing": lambda t: t.zeros(),
    "zeros negative": lambda t: t.zeros(2, -3),
    "zeros float": lambda t: t.zeros(2.0),
    "zeros float inside": lambda t: t.zeros((2, 2.5)),
    "zeros too many": lambda t: t.zeros((2, 3), 4),
    "zeros of integers with grad": lambda t: t.zeros(2, dtype=t.int32, requires_grad=True),
    "zeros float dtype": lambda t: t.zeros(2, dtype=float),
    "zeros bad dtype": lambda t: t.zeros(2, dtype="float32"),
    "ones": lambda t: t.ones([2], dtype=t.bool),
    "ones negative": lambda t: t.ones(-1),
    "full int": lambda t: t.full((2,), 1),
    "full bool": lambda t: t.full((2,), True),
    "full float": lambda t: t.full((2,), fill_value=1.5, requires_grad=True),
    "full tensor": lambda t: t.full((2,), t.tensor(1.5)),
    "full size": lambda t: t.full(2, 1),
    "full overflow": lambda t: t.full((2,), 300, dtype=t.uint8),
    "full wraps": lambda t: t.full((2,), -255, dtype=t.uint8),
    "full float overflow": lambda t: t.full((2,), 1e300, dtype=t.float32),
    "full half": lambda t: t.full((2,), 1e300, dtype=t.float16),
    "full nan": lambda t: t.full((2,), NAN, dtype=t.int64),
    "full inf": lambda t: t.full((2,), INF, dtype=t.int8),
    "full truncates": lambda t: t.full((2,), 1.7, dtype=t.int64),
    "eye": lambda t: t.eye(2, 3, requires_grad=True),
    "eye bool": lambda t: t.eye(2, dtype=t.bool),
    "eye negative": lambda t: t.eye(2, -1),
    "eye float": lambda t: t.eye(2.0),
    "scalar_tensor": lambda t: t.scalar_tensor(3),
}
COUNTED = {
    "arange 3": lambda t: t.arange(3),
    "arange 3.0": lambda t: t.arange(3.0, requires_grad=True),
    "arange 1 4 2": lambda t: t.arange(1, 4, 2),
    "arange quarters": lambda t: t.arange(0, 1, 0.25),
    "arange down": lambda t: t.arange(3, 0, -1),
    "arange sign": lambda t: t.arange(3, 0),
    "arange zero": lambda t: t.arange(0, 3, 0),
    "arange nan": lambda t: t.arange(NAN),
    "arange inf": lambda t: t.arange(INF),
    "arange keywords": lambda t: t.arange(start=1, end=4),
    "arange end": lambda t: t.arange(end=4),
    "arange int of float": lambda t: t.arange(0, 2.5, dtype=t.int64),
    "arange int32 of float": lambda t: t.arange(0.5, 4.2, dtype=t.int32),
    "arange bool": lambda t: t.arange(3, dtype=t.bool),
    "arange bool end": lambda t: t.arange(True),
    "arange half": lambda t: t.arange(0, 1, 0.1, dtype=t.float16),
    "arange bfloat16": lambda t: t.arange(0, 1, 0.3, dtype=t.bfloat16),
    "arange wraps": lambda t: t.arange(300, dtype=t.uint8),
    "arange with grad": lambda t: t.arange(5, requires_grad=True),
    "linspace": lambda t: t.linspace(0, 1, 5, requires_grad=True),
    "linspace 1": lambda t: t.linspace(0, 1, 1),
    "linspace 0": lambda t: t.linspace(0, 1, 0),
    "linspace -1": lambda t: t.linspace(0, 1, -1),
    "linspace ints": lambda t: t.linspace(0, 10, 5, dtype=t.int64),
    "linspace negative ints": lambda t: t.linspace(-3, 3, 7, dtype=t.int32),
    "linspace bool": lambda t: t.linspace(0, 1, 3, dtype=t.bool),
    "linspace overflow": lambda t: t.linspace(0, 300, 4, dtype=t.uint8),
    "linspace tensors": lambda t: t.linspace(t.tensor(0.0), t.tensor(1.0), 3),
    "linspace vectors": lambda t: t.linspace(t.tensor([0.0]), t.tensor(1.0), 3),
}


@pytest.mark.parametrize("name", {**FILLED, **COUNTED})
def test_filled_and_counted_tensors_agree(name):
    assert_same_leaf({**FILLED, **COUNTED}[name], label=name)


def _layouts():
    a = values("float32", (2, 3, 4), 1)
    return [
        a,
        a.transpose(2, 0, 1),
        a[:, ::2],
        a.transpose(2, 0, 1)[:, ::2],
        a[0].T[:0],
    ]


LIKES = {
    "zeros_like": lambda t, x: t.zeros_like(x),
    "ones_like": lambda t, x: t.ones_like(x, dtype=t.int64),
    "full_like": lambda t, x: t.full_like(x, 1.5, requires_grad=True),
    "full_like int": lambda t, x: t.full_like(x, 2.7, dtype=t.int32),
    "new_zeros": lambda t, x: x.new_zeros(2, 3),
    "new_ones": lambda t, x: x.new_ones((2,), dtype=t.bool),
    "new_full": lambda t, x: x.new_full((2,), 3),
    "new_full size": lambda t, x: x.new_full(2, 3),
    "new_tensor": lambda t, x: x.new_tensor([1, 2]),
    "new_zeros negative": lambda t, x: x.new_zeros(-1),
    "rand_like": lambda t, x: (t.manual_seed(5), t.rand_like(x))[1],
    "randint_like": lambda t, x: (t.manual_seed(5), t.randint_like(x, 2, 9))[1],
}


@pytest.mark.parametrize("name", LIKES)
def test_what_is_made_like_another_tensor_keeps_its_layout(name):
    for array in _layouts():
        assert_same_leaf(LIKES[name], array, label=f"{name} {array.shape} {array.strides}")
    for shape, size in (((2, 3), (4, 2, 3)), ((2, 1, 3), (2, 4, 3)), ((3,), (2, 3))):
        assert_same_leaf(lambda t, x, size=size: LIKES[name](t, x.expand(size)), values("float32", shape), label=f"{name} {shape} expanded")
        assert_same_leaf(
            lambda t, x, size=size: LIKES[name](t, x.expand(size).transpose(0, -1)), values("float32", shape), label=f"{name} {shape}"
        )


RANDOM = {
    "rand": lambda t: t.rand(3, 50),
    "rand float64": lambda t: t.rand((7,), dtype=t.float64, requires_grad=True),
    "rand half": lambda t: t.rand(9, dtype=t.float16),
    "rand ints": lambda t: t.rand(2, dtype=t.int64),
    "rand negative": lambda t: t.rand(-1),
    "randn": lambda t: t.randn(3, 5),
    "randn ints": lambda t: t.randn(2, dtype=t.int64),
    "randint": lambda t: t.randint(3, (20,)),
    "randint bounds": lambda t: t.randint(-5, 5, (4, 3)),
    "randint keywords": lambda t: t.randint(high=9, size=(5,), low=2),
    "randint high": lambda t: t.randint(high=9, size=(5,)),
    "randint float": lambda t: t.randint(9, (5,), dtype=t.float32, requires_grad=True),
    "randint size": lambda t: t.randint(3, 2),
    "randint empty": lambda t: t.randint(3, 1, (2,)),
    "randperm": lambda t: t.randperm(20),
    "randperm float": lambda t: t.randperm(5, dtype=t.float32),
    "randperm negative": lambda t: t.randperm(-1),
    "uniform_": lambda t: t.zeros(3, 4).uniform_(1, 2),
    "uniform_ bounds": lambda t: t.zeros(3).uniform_(2, 1),
    "normal_": lambda t: t.zeros(3, 4).normal_(1.0, 2.0),
    "normal_ std": lambda t: t.zeros(3).normal_(0, -1),
    "generator": lambda t: t.rand(4, generator=t.Generator().manual_seed(9)),
}


@pytest.mark.parametrize("name", RANDOM)
def test_random_tensors_are_torchs_bit_for_bit(name):
    assert_same_leaf(lambda t: (t.manual_seed(11), RANDOM[name](t))[1], label=name)


def test_a_random_write_to_a_strided_view_visits_memory_in_torchs_order():
    for view in (lambda x: x[:, ::2], lambda x: x.t(), lambda x: x[::2].t()):
        assert_same_leaf(lambda t, view=view: (t.manual_seed(3), view(t.zeros(4, 6)).uniform_())[1].clone().detach())


@pytest.mark.parametrize("write", ("uniform_", "normal_", "bernoulli_"))
def test_a_random_write_has_a_zero_gradient(write):
    for library in (torch, refgrad):
        x = library.ones(3, requires_grad=True)
        y = getattr(x * 2, write)()
        y.sum().backward()
        assert (y.grad_fn.name(), x.grad.tolist()) == (f"{write[:-1].capitalize()}Backward{2 if write == 'bernoulli_' else 0}", [0, 0, 0])


def test_from_numpy_shares_memory_and_refuses_what_torch_refuses():
    array = np.arange(6.0).reshape(2, 3).T
    shared = refgrad.from_numpy(array)
    shared.mul_(2)
    assert array[2, 1] == 10 and shared.stride() == (1, 3)
    for wrong in ([1], np.array(["a"]), np.array([1.0])[::-1], np.float32(2)):
        assert_same_leaf(lambda t, wrong=wrong: t.from_numpy(wrong), label=repr(wrong))


def test_as_tensor_returns_the_tensor_itself_unless_the_dtype_differs():
    for library in (torch, refgrad):
        x = library.ones(2, requires_grad=True)
        assert library.as_tensor(x) is x
        assert library.as_tensor(x, dtype=library.float64).grad_fn.name() == "ToCopyBackward0"


def test_copying_a_tensor_with_tensor_warns_as_torch_does():
    texts = []
    for library in (torch, refgrad):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            library.tensor(library.ones(2))
        texts.append([str(w.message) for w in caught])
    assert texts[0] == texts[1]


def test_the_default_dtype_changes_what_floats_become():
    try:
        for library in (torch, refgrad):
            library.set_default_dtype(library.float64)
        for call in (
            lambda t: t.tensor(1.5),
            lambda t: t.zeros(2),
            lambda t: t.arange(2.0),
            lambda t: t.rand(0),
            lambda t: t.tensor([1, 2.0]),
        ):
            assert_same_leaf(call)
        assert_same_leaf(lambda t: t.set_default_dtype(t.int32))
    finally:
        for library in (torch, refgrad):
            library.set_default_dtype(library.float32)


def test_bernoulli_of_probabilities_agrees():
    for array in (values("float32", (3, 4), 1, 0.0, 1.0), values("float64", (4, 3), 1, 0.0, 1.0).T, np.array([0.5, 2.0]), np.array([1])):
        assert_same_leaf(lambda t, p: (t.manual_seed(3), t.bernoulli(p))[1], array, label=f"{array.dtype} {array.shape}")
