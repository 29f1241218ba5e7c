"""Errors that several places raise: key, torch's text, and when. An op's own error stands beside the op.

``ERRORS`` maps a key to an exception type and a template; ``raise error("freed_graph")``. ``key_of(type, text)`` finds the key of a
subject's exception again, so that a shape in its text makes no new error.
"""

from __future__ import annotations

import re
import warnings
from functools import lru_cache
from typing import Any, Final

_ITS_BASE: Final = "its base or another view of its base has been modified inplace"
_VIEW: Final = (
    "A view was created in {mode} mode and {how}. Given that this use case is ambiguous and error-prone, it is forbidden. You can clarify "
    "your code by moving both the view and the inplace either both inside the {block} (if you don't want the inplace to be tracked) or "
    "both outside (if you want the inplace to be tracked)."
)
_VIEW_OF_VIEW: Final = "Output {{place}} of {{node}} is a view of a view which was created in" + _VIEW.removeprefix("A view was created in")
_SEVERAL: Final = (
    "This view is the output of a function that returns multiple views. Such functions do not allow the output views to be modified "
    "inplace. You should replace the inplace operation by an out-of-place one."
)
_MULTI: Final = "Output {{place}} of {{node}} is a view and {how}. " + _SEVERAL
_MULTI_NO_GRAD: Final = "A view was created in no_grad mode and {how} with grad mode enabled. " + _SEVERAL

ERRORS: Final[dict[str, tuple[type[Exception], str]]] = {
    # --- backward and grad
    "freed_graph": (
        RuntimeError,
        "Trying to backward through the graph a second time (or directly access saved tensors after they have already been freed). "
        "Saved intermediate values of the graph are freed when you call .backward() or autograd.grad(). Specify retain_graph=True if you "
        "need to backward through the graph a second time or if you need to access saved tensors after calling backward.",
    ),
    "leaf_in_graph": (RuntimeError, "leaf variable has been moved into the graph interior"),
    "no_derivative": (RuntimeError, "derivative for aten::{op} is not implemented"),
    "no_grad_fn": (RuntimeError, "element {place} of tensors does not require grad and does not have a grad_fn"),
    "implicit_scalar": (RuntimeError, "grad can be implicitly created only for scalar outputs"),
    "implicit_float": (RuntimeError, "grad can be implicitly created only for real scalar outputs but got {dtype}"),
    "grad_shape": (
        RuntimeError,
        "Mismatch in shape: grad_output[{place}] has a shape of {grad} and output[{place}] has a shape of {output}.",
    ),
    "unused_input": (
        RuntimeError,
        "The differentiated Tensor at index {place} appears to not have been used in the graph. Set allow_unused=True if this is the "
        "desired behavior.",
    ),
    "input_needs_grad": (RuntimeError, "One of the differentiated Tensors does not require grad"),
    "invalid_gradient": (
        RuntimeError,
        "Function {node} returned an invalid gradient at index {place} - got {got} but expected shape compatible with {shape}",
    ),
    "inputs_empty": (RuntimeError, "`inputs` argument to `backward()` cannot be empty."),
    "grad_inputs_empty": (RuntimeError, "`inputs` argument to `grad()` cannot be empty."),
    "modified_inplace": (
        RuntimeError,
        "one of the variables needed for gradient computation has been modified by an inplace operation: [{tensor_type} {size}]{which} is "
        "at version {found}; expected version {expected} instead. Hint: enable anomaly detection to find the operation that failed to "
        "compute its gradient, with torch.autograd.set_detect_anomaly(True, check_nan=False).",
    ),
    # --- leaves, views, in-place
    "leaf_inplace": (RuntimeError, "a leaf Variable that requires grad is being used in an in-place operation."),
    "view_of_leaf_inplace": (RuntimeError, "a view of a leaf Variable that requires grad is being used in an in-place operation."),
    "nograd_view_of_view_inplace": (
        RuntimeError,
        _VIEW_OF_VIEW.format(mode="no_grad", how="is being modified inplace with grad mode enabled", block="no_grad block"),
    ),
    "nograd_view_of_view_stale": (
        RuntimeError,
        _VIEW_OF_VIEW.format(mode="no_grad", how=_ITS_BASE + " with grad mode enabled", block="no_grad block"),
    ),
    "inference_view_of_view_inplace": (
        RuntimeError,
        _VIEW_OF_VIEW.format(mode="inference", how="is being modified inplace in normal mode", block="inference_mode block"),
    ),
    "inference_view_of_view_stale": (
        RuntimeError,
        _VIEW_OF_VIEW.format(mode="inference", how=_ITS_BASE + " in normal mode", block="inference_mode block"),
    ),
    "nograd_view_inplace": (
        RuntimeError,
        _VIEW.format(mode="no_grad", how="is being modified inplace with grad mode enabled", block="no_grad block"),
    ),
    "nograd_view_stale": (RuntimeError, _VIEW.format(mode="no_grad", how=_ITS_BASE + " with grad mode enabled", block="no_grad block")),
    "inference_view_inplace": (
        RuntimeError,
        _VIEW.format(mode="inference", how="is being modified inplace in normal mode", block="inference_mode block"),
    ),
    "inference_view_stale": (RuntimeError, _VIEW.format(mode="inference", how=_ITS_BASE + " in normal mode", block="inference_mode block")),
    "multi_output_nograd_inplace": (RuntimeError, _MULTI_NO_GRAD.format(how="is being modified inplace")),
    "multi_output_nograd_stale": (RuntimeError, _MULTI_NO_GRAD.format(how=_ITS_BASE)),
    "multi_output_view_inplace": (RuntimeError, _MULTI.format(how="is being modified inplace")),
    "multi_output_view_stale": (RuntimeError, _MULTI.format(how=_ITS_BASE)),
    "inference_inplace": (
        RuntimeError,
        "Inplace update to inference tensor outside InferenceMode is not allowed.You can make a clone to get a normal tensor before doing "
        "inplace update.See https://github.com/pytorch/rfcs/pull/17 for more details.",
    ),
    "inference_saved": (
        RuntimeError,
        "Inference tensors cannot be saved for backward. Please do not use Tensors created in inference mode in computation tracked by "
        "autograd. To work around this, you can make a clone to get a normal tensor and use it in autograd, or use `torch.no_grad()` "
        "instead of `torch.inference_mode()`.",
    ),
    "inference_version": (RuntimeError, "Inference tensors do not track version counter."),
    "inference_requires_grad": (RuntimeError, "Setting requires_grad=True on inference tensor outside InferenceMode is not allowed."),
    "overlap_inplace": (
        RuntimeError,
        "unsupported operation: more than one element of the written-to tensor refers to a single memory location. Please clone() the "
        "tensor before performing the operation.",
    ),
    "partial_overlap": (
        RuntimeError,
        "unsupported operation: some elements of the input tensor and the written-to tensor refer to a single memory location. Please "
        "clone() the tensor before performing the operation.",
    ),
    "inplace_broadcast": (
        RuntimeError,
        "output with shape {output} doesn't match the broadcast shape {broadcast}",
    ),
    "must_be_tensor": (TypeError, "{name}(): argument '{argument}' (position {position}) must be Tensor, not {found}"),
    "no_kernel": (NotImplementedError, "\"{kernel}\" not implemented for '{dtype}'"),
    "inplace_size": (RuntimeError, "Bad in-place call: input tensor size {input} and output tensor size {output} should match"),
    "result_cast": (RuntimeError, "result type {result} can't be cast to the desired output type {output}"),
    "requires_grad_dtype": (RuntimeError, "only Tensors of floating point dtype can require gradients"),
    "requires_grad_bool": (RuntimeError, "requires_grad must be a bool"),
    "deepcopy_nonleaf": (
        RuntimeError,
        "Only Tensors created explicitly by the user (graph leaves) support the deepcopy protocol at the moment.  If you were attempting "
        "to deepcopy a module, this may be because of a torch.nn.utils.weight_norm usage, see "
        "https://github.com/pytorch/pytorch/pull/103001",
    ),
    "no_cuda": (AssertionError, "Torch not compiled with CUDA enabled"),
    "requires_grad_nonleaf": (
        RuntimeError,
        "you can only change requires_grad flags of leaf variables. If you want to use a computed variable in a subgraph that doesn't "
        "require differentiation use var_no_grad = var.detach().",
    ),
    "hook_needs_grad": (RuntimeError, "cannot register a hook on a tensor that doesn't require gradient"),
    "retain_needs_grad": (RuntimeError, "can't retain_grad on Tensor that has requires_grad=False"),
    "zero_tensor": (  # never raised here: torch may hand out a gradient without memory
        RuntimeError,
        "ZeroTensors are immutable. Please use the materialized zero tensor obtained using .clone() if you want a mutable tensor.",
    ),
    "out_grad": (  # never raised here: torch's kernels may call others so
        RuntimeError,
        "{name}(): functions with out=... arguments don't support automatic differentiation, but one of the arguments requires grad.",
    ),
    "zero_none_grad": (AttributeError, "'NoneType' object has no attribute '{name}'"),
    "grad_wrong_shape": (
        RuntimeError,
        "attempting to assign a gradient of size '{grad}' to a tensor of size '{size}'. Please ensure that the gradient and the tensor "
        "are the same size",
    ),
    "grad_wrong_type": (
        RuntimeError,
        "attempting to assign a gradient with dtype '{grad}' to a tensor with grad_dtype '{dtype}'. The gradient must match the tensor's "
        "grad_dtype (defaults to the tensor's dtype). You can set the tensor's grad_dtype attribute with a specific dtype, or None to "
        "allow any dtype. Set grad_dtype with caution. Diverging the dtypes of a tensor and its gradient may break downstream systems "
        "that assume they match.",
    ),
    # --- shapes and dims
    "broadcast": (RuntimeError, "The size of tensor a ({a}) must match the size of tensor b ({b}) at non-singleton dimension {dim}"),
    "dim_range": (IndexError, "Dimension out of range (expected to be in range of [{low}, {high}], but got {dim})"),
    "dim_twice": (RuntimeError, "dim {dim} appears multiple times in the list of dims"),
    "dim_empty_reduce": (IndexError, "{name}(): Expected reduction dim {dim} to have non-zero size."),
    "view_stride": (
        RuntimeError,
        "view size is not compatible with input tensor's size and stride (at least one dimension spans across two contiguous subspaces). "
        "Use .reshape(...) instead.",
    ),
    "reshape_size": (RuntimeError, "shape '{shape}' is invalid for input of size {numel}"),
    "bool_ambiguous": (RuntimeError, "Boolean value of Tensor with {count} value is ambiguous"),
    "bool_empty": (RuntimeError, "Boolean value of Tensor with no values is ambiguous"),
    "python_scalar": (ValueError, "only one element tensors can be converted to Python scalars"),
    "grad_no_tensor": (TypeError, "assigned grad expected to be a Tensor or None but got grad of type {found}"),
    "item_size": (RuntimeError, "a Tensor with {numel} elements cannot be converted to Scalar"),
    "numpy_grad": (RuntimeError, "Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead."),
    "iter_0d": (TypeError, "iteration over a 0-d tensor"),
    "len_0d": (TypeError, "len() of a 0-d tensor"),
}

#: the keys above: errors of autograd itself and of shapes, no op's own
SHARED: Final = frozenset(ERRORS)
#: keys of errors that a kernel raises, after memory and shapes were checked
_IN_KERNELS: Final[set[str]] = set()


def error(key: str, **parts: Any) -> Exception:
    """The exception for ``key`` with torch's text, its ``{parts}`` filled in."""
    kind, template = ERRORS[key]
    made = kind(template.format(**parts) if parts else template)
    made.key = key  # type: ignore[attr-defined]
    return made


_WARNED: Final[set[str]] = set()


def warn_once(key: str, text: str, level: int) -> None:
    """A UserWarning that the process gives once; ``level``: as warnings.warn's stacklevel, seen from the caller."""
    if key not in _WARNED:
        _WARNED.add(key)
        warnings.warn(text, UserWarning, stacklevel=level + 1)


def declare(key: str, kind: type[Exception], template: str, *, in_kernel: bool = False) -> None:
    """Adds an error that one op raises; stands beside that op. in_kernel: torch finds it when the kernel is chosen or runs, which is after
    memory and shapes were checked (a missing kernel always is).
    """
    if key in ERRORS and ERRORS[key] != (kind, template):
        raise ValueError(f"error key {key!r} is declared twice with different texts")
    ERRORS[key] = (kind, template)
    if in_kernel or kind is NotImplementedError:
        _IN_KERNELS.add(key)
    _patterns.cache_clear()
    key_of.cache_clear()


def raised_in_kernel(raised: Exception) -> bool:
    key = getattr(raised, "key", "")
    return key == "no_kernel" or key in _IN_KERNELS


@lru_cache(maxsize=1)
def _patterns() -> list[tuple[str, str, re.Pattern[str]]]:
    rows = []
    for key, (kind, template) in ERRORS.items():
        pattern = "".join(".*?" if part.startswith("{") else re.escape(part) for part in re.split(r"(\{\w+\})", template))
        rows.append((key, kind.__name__, re.compile(pattern, re.DOTALL)))
    return sorted(rows, key=lambda row: -len(row[2].pattern))


@lru_cache(maxsize=4096)
def key_of(type_name: str, text: str) -> str:
    """The key of an exception by its type's name and its text; ``TypeName`` itself where no template fits."""
    for key, kind, pattern in _patterns():
        if kind == type_name and pattern.match(text):
            return key
    return type_name
