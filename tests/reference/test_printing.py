"""A tensor's text without torch: texts that torch 2.13 printed, chosen to show one rule each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from refgrad import _printing
from refgrad._printing import format_value, set_printoptions, size_repr, tensor_repr

INF, NAN = float("inf"), float("nan")


@pytest.fixture(autouse=True)
def options_as_they_were() -> Iterator[None]:
    yield
    set_printoptions(profile="default")


def shown(values: Any, dtype: Any = np.float32, **facts: Any) -> str:
    return tensor_repr(np.asarray(values).astype(dtype), **facts)


# --- one format for all elements


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (3, "tensor(3.)"),
        ([1, -2], "tensor([ 1., -2.])"),
        ([1.5, 2], "tensor([1.5000, 2.0000])"),
        ([-0.0, 0], "tensor([-0., 0.])"),
        ([-0.0, 10], "tensor([-0., 10.])"),
        ([NAN, 1], "tensor([nan, 1.])"),
        ([-INF, INF, 12.5], "tensor([   -inf,     inf, 12.5000])"),
        ([1, 1000], "tensor([   1., 1000.])"),
        ([1, 1001], "tensor([1.0000e+00, 1.0010e+03])"),
        ([1e8], "tensor([100000000.])"),
        ([1e8 + 8], "tensor([1.0000e+08])"),
        ([0.5, 500.5], "tensor([5.0000e-01, 5.0050e+02])"),
        ([9e-5], "tensor([9.0000e-05])"),
        ([1.0001e-4], "tensor([0.0001])"),
        ([1e-30, NAN, 0], "tensor([1.0000e-30,        nan, 0.0000e+00])"),
    ],
)
def test_the_finite_nonzero_elements_choose_one_format(values: Any, text: str) -> None:
    assert shown(values) == text


@pytest.mark.parametrize(
    ("values", "dtype", "text"),
    [
        ([True, False], bool, "tensor([ True, False])"),
        ([1, 200], np.uint8, "tensor([  1, 200], dtype=torch.uint8)"),
        ([-7, 12], np.int64, "tensor([-7, 12])"),
        ([-7, 12], np.int32, "tensor([-7, 12], dtype=torch.int32)"),
        (-7, np.int16, "tensor(-7, dtype=torch.int16)"),
        ([0.1], np.float16, "tensor([0.1000], dtype=torch.float16)"),
        ([0.1, 3], ml_dtypes.bfloat16, "tensor([0.1001, 3.0000], dtype=torch.bfloat16)"),
        ([1 / 3], np.float64, "tensor([0.3333], dtype=torch.float64)"),
    ],
)
def test_a_dtype_shows_unless_it_is_the_default_one_or_int64_or_bool(values: Any, dtype: Any, text: str) -> None:
    assert shown(values, dtype) == text


def test_another_default_dtype_is_the_one_left_out() -> None:
    assert shown([0.5], np.float64, default_dtype_name="float64") == "tensor([0.5000])"
    assert shown([0.5], np.float32, default_dtype_name="float64") == "tensor([0.5000], dtype=torch.float32)"


@pytest.mark.parametrize(
    ("shape", "dtype", "text"),
    [
        ((0,), np.float32, "tensor([])"),
        ((0,), np.int64, "tensor([], dtype=torch.int64)"),
        ((0,), bool, "tensor([], dtype=torch.bool)"),
        ((2, 0), np.float32, "tensor([], size=(2, 0))"),
        ((2, 0), np.float16, "tensor([], size=(2, 0), dtype=torch.float16)"),
    ],
)
def test_an_empty_tensor_shows_its_size_and_any_dtype_but_the_default(shape: tuple[int, ...], dtype: Any, text: str) -> None:
    assert tensor_repr(np.empty(shape, dtype)) == text


# --- brackets, rows, summaries


def test_each_further_dimension_adds_a_blank_line() -> None:
    assert shown(np.arange(8).reshape(2, 2, 2)) == (
        "tensor([[[0., 1.],\n         [2., 3.]],\n\n        [[4., 5.],\n         [6., 7.]]])"
    )  # fmt: skip


def test_a_row_breaks_before_the_line_is_full() -> None:
    first_line = "tensor([" + ", ".join(f"{i:2d}" for i in range(18)) + ",\n"
    assert shown(np.arange(20), np.int64) == first_line + "        18, 19])"


def test_a_thousand_elements_print_in_full_and_one_more_is_a_summary() -> None:
    assert "..." not in shown(np.arange(1000), np.int64)
    assert shown(np.arange(1001), np.int64) == "tensor([   0,    1,    2,  ...,  998,  999, 1000])"


def test_a_summary_keeps_three_at_each_end_of_each_long_dimension() -> None:
    row = "        [1., 1., 1.,  ..., 1., 1., 1.]"
    assert shown(np.ones((7, 200))) == "tensor([" + ",\n".join([row[8:], row, row, "        ...", row, row, row]) + "])"


def test_a_summary_asks_only_what_shows_for_the_format() -> None:
    values = np.ones(2000)
    values[1000] = 0.123
    assert shown(values) == "tensor([1., 1., 1.,  ..., 1., 1., 1.])"


# --- suffixes


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        ({"requires_grad": True}, "tensor([1., 1.], requires_grad=True)"),
        ({"requires_grad": True, "grad_fn_name": "AddBackward0"}, "tensor([1., 1.], grad_fn=<AddBackward0>)"),
        ({"tangent": "tensor([2., 2.])"}, "tensor([1., 1.], tangent=tensor([2., 2.]))"),
        ({"dtype_name": "float8"}, "tensor([1., 1.], dtype=torch.float8)"),
    ],
)
def test_suffixes_follow_the_values(facts: dict[str, Any], text: str) -> None:
    assert shown([1, 1], **facts) == text


def test_a_suffix_that_does_not_fit_goes_to_the_next_line() -> None:
    six, seven = (shown([1] * n, np.float16, grad_fn_name="MulBackward0") for n in (6, 7))
    assert six == "tensor([1., 1., 1., 1., 1., 1.], dtype=torch.float16, grad_fn=<MulBackward0>)"
    assert seven == "tensor([1., 1., 1., 1., 1., 1., 1.], dtype=torch.float16,\n       grad_fn=<MulBackward0>)"


# --- options


@pytest.mark.parametrize(
    ("options", "values", "text"),
    [
        ({"precision": 2}, [1 / 3], "tensor([0.33])"),
        ({"profile": "short"}, [1 / 3], "tensor([0.33])"),
        ({"profile": "short", "precision": 6}, [1 / 3], "tensor([0.333333])"),
        ({"profile": "SHORT"}, [1 / 3], "tensor([0.3333])"),
        ({"sci_mode": True}, [1, -20], "tensor([ 1.0000e+00, -2.0000e+01])"),
        ({"sci_mode": True}, [0, INF], "tensor([0., inf])"),
        ({"sci_mode": False}, [1, 3e9], "tensor([         1., 3000000000.])"),
        ({"sci_mode": False}, [1e-9, 1], "tensor([0.0000, 1.0000])"),
        ({"linewidth": 20}, [1, 2, 3, 4], "tensor([1., 2., 3.,\n        4.])"),
        ({"threshold": 3, "edgeitems": 1}, [1, 2, 3, 4], "tensor([1.,  ..., 4.])"),
        ({"threshold": 3, "edgeitems": 0}, [1, 2, 3, 4], "tensor([...], size=(4,))"),
        ({"edgeitems": 0}, 3, "tensor(3., size=())"),
    ],
)
def test_an_option_changes_the_text(options: dict[str, Any], values: Any, text: str) -> None:
    set_printoptions(**options)
    assert shown(values) == text


def test_the_full_profile_never_summarizes() -> None:
    set_printoptions(profile="full")
    assert "..." not in shown(np.arange(2000))


def test_options_stay_until_changed_but_sci_mode_is_given_back_by_any_call() -> None:
    set_printoptions(precision=1, sci_mode=True)
    set_printoptions(linewidth=70)
    assert _printing.get_printoptions() == _printing.PrintOptions(precision=1, linewidth=70, sci_mode=None)


# --- numbers and sizes


@pytest.mark.parametrize(
    ("value", "spec", "text"), [(1.5, ".3f", "1.500"), (3, "5d", "    3"), (True, "", "True"), (2.0, "", "2.0"), (NAN, "6", "   nan")]
)
def test_a_tensor_of_one_number_formats_as_the_number(value: Any, spec: str, text: str) -> None:
    assert format_value(value, spec) == text


def test_a_size_prints_as_a_list_in_its_name() -> None:
    assert [size_repr(shape) for shape in ((), (1,), (2, 3))] == ["torch.Size([])", "torch.Size([1])", "torch.Size([2, 3])"]
