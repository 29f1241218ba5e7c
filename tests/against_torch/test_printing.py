"""Text of random tensors, refgrad's against torch's, character by character."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from refgrad import _printing

torch = pytest.importorskip("torch")

FLOATS = ("float16", "bfloat16", "float32", "float64")
DTYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", *FLOATS)
SPECIAL = (0.0, -0.0, float("inf"), float("-inf"), float("nan"), 1e-4, 9.9e-5, 1e8, 1.00001e8, 1000.0, 1001.0, 0.99999, 5e-324, 1e308)


@pytest.fixture(autouse=True)
def options_as_they_were() -> Iterator[None]:
    yield
    for module in (torch, _printing):
        module.set_printoptions(profile="default")


def numpy_dtype(name: str) -> np.dtype[Any]:
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


def draw_shape(rng: random.Random) -> tuple[int, ...]:
    dims = (0, 1, 2, 3, 4, 5, 7, 12, 30, 100)
    shape = tuple(rng.choice(dims) if rng.random() < 0.3 else rng.randint(1, 6) for _ in range(rng.randint(0, 4)))
    return shape if np.prod(shape) <= 5000 else draw_shape(rng)


def draw_floats(rng: random.Random, shape: tuple[int, ...]) -> np.ndarray:
    """Normals, whole numbers, wide magnitudes, or one value everywhere; at times with special values strewn in."""
    stream = np.random.default_rng(rng.randrange(2**32))
    kind, scale = rng.randrange(5), 10.0 ** rng.randint(-9, 9)
    values = [
        stream.standard_normal(shape) * scale,
        np.rint(stream.standard_normal(shape) * scale),
        stream.standard_normal(shape) * 10.0 ** stream.uniform(-40, 40, shape),
        np.full(shape, rng.choice(SPECIAL)),
        stream.integers(-2000, 2000, shape) / rng.choice((1, 2, 4, 100)),
    ][kind]
    strewn = stream.random(shape) < rng.choice((0.0, 0.0, 0.1, 0.9))
    return np.where(strewn, stream.choice(SPECIAL, shape), values)


def draw_array(rng: random.Random, dtype: str) -> np.ndarray:
    shape = draw_shape(rng)
    if dtype in FLOATS:
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(draw_floats(rng, shape).astype(numpy_dtype(dtype)))
    stream = np.random.default_rng(rng.randrange(2**32))
    if dtype == "bool":
        return np.asarray(stream.integers(0, 2, shape).astype(bool))
    info = np.iinfo(dtype)
    top = min(info.max, 10 ** rng.randint(0, 18))
    return np.asarray(stream.integers(max(info.min, -top), top, shape, dtype=np.int64, endpoint=True).astype(dtype))


def draw_options(rng: random.Random) -> dict[str, Any]:
    choices: dict[str, tuple[Any, ...]] = {
        "precision": (0, 1, 2, 4, 8, 12),
        "threshold": (0, 1, 10, 1000, float("inf")),
        "edgeitems": (0, 1, 2, 3, 5),
        "linewidth": (0, 10, 40, 79, 80, 81, 120),
        "profile": ("default", "short", "full", "SHORT", "other"),
        "sci_mode": (True, False, None),
    }
    return {name: rng.choice(values) for name, values in choices.items() if rng.random() < 0.4}


def as_torch(array: np.ndarray) -> Any:
    bits = array.view(np.int16) if array.dtype == ml_dtypes.bfloat16 else array
    tensor = torch.from_numpy(np.ascontiguousarray(bits).reshape(array.shape))
    return tensor.view(torch.bfloat16) if array.dtype == ml_dtypes.bfloat16 else tensor


def texts(rng: random.Random, dtype: str) -> tuple[str, str]:
    """The same tensor by refgrad and by torch, as a constant, as a leaf or as a result."""
    array = draw_array(rng, dtype)
    tensor, role = as_torch(array), rng.choice(("constant", "leaf", "result")) if dtype in FLOATS else "constant"
    if role == "constant":
        return _printing.tensor_repr(array), repr(tensor)
    tensor.requires_grad_()
    if role == "leaf":
        return _printing.tensor_repr(array, requires_grad=True), repr(tensor)
    viewed = tensor.view_as(tensor)
    return _printing.tensor_repr(array, requires_grad=True, grad_fn_name=type(viewed.grad_fn).__name__), repr(viewed)


@pytest.mark.parametrize("dtype", DTYPES)
def test_random_tensors_print_as_torch_prints_them(dtype: str) -> None:
    rng = random.Random(dtype)
    for _ in range(400):
        ours, theirs = texts(rng, dtype)
        assert ours == theirs


@pytest.mark.parametrize("dtype", DTYPES)
def test_random_tensors_under_random_options_print_as_torch_prints_them(dtype: str) -> None:
    rng = random.Random("options " + dtype)
    for _ in range(300):
        options = draw_options(rng)
        for module in (torch, _printing):
            module.set_printoptions(**options)
        ours, theirs = texts(rng, dtype)
        assert ours == theirs, options


@pytest.mark.parametrize("default", FLOATS)
def test_the_default_dtype_decides_which_suffix_shows(default: str) -> None:
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, default))
    try:
        for dtype in DTYPES:
            for shape in ((2,), (), (0,), (0, 3)):
                array = np.ones(shape, dtype=numpy_dtype(dtype))
                assert _printing.tensor_repr(array, default_dtype_name=default) == repr(as_torch(array))
    finally:
        torch.set_default_dtype(before)


def test_suffixes_break_at_the_same_column_for_rows_and_names_of_every_length() -> None:
    for count in range(1, 30):
        tensor = torch.ones(count, dtype=torch.float16, requires_grad=True)
        for result in (tensor + 0, tensor.t(), torch.nn.functional.logsigmoid(tensor), tensor.expand(1, count)):
            name = type(result.grad_fn).__name__
            array = result.detach().numpy()
            assert _printing.tensor_repr(array, requires_grad=True, grad_fn_name=name) == repr(result)


def test_a_tangent_prints_as_torch_prints_it() -> None:
    from torch.autograd import forward_ad

    with forward_ad.dual_level():
        for count in (1, 3, 12, 30):
            ones = np.ones(count, dtype=np.float32)
            dual = forward_ad.make_dual(torch.ones(count), torch.ones(count) * 2.5)
            assert _printing.tensor_repr(ones, tangent=_printing.tensor_repr(ones * np.float32(2.5))) == repr(dual)


@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (0, 4, 1)])
def test_a_size_prints_as_torch_prints_it(shape: tuple[int, ...]) -> None:
    assert _printing.size_repr(shape) == repr(torch.Size(shape)) == str(torch.Size(shape))


@pytest.mark.parametrize("spec", ["", ".3f", "5d", "e", "g", ">12", "+.1%"])
@pytest.mark.parametrize("value", [3, -2.5, True, float("nan")])
def test_a_number_formats_as_torch_formats_it(value: Any, spec: str) -> None:
    def outcome(call: Any, held: Any) -> str:
        try:
            return str(call(held, spec))
        except ValueError as error:
            return str(error)

    assert outcome(_printing.format_value, value) == outcome(format, torch.tensor(value))
