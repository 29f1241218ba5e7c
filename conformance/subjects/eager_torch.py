"""Real torch, eager, on any device it knows."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import torch

from conformance.program import Literal
from conformance.subjects.walk import shown
from refgrad._table import TABLE

_NUMPY = {
    "bool": np.bool_, "uint8": np.uint8, "int8": np.int8, "int16": np.int16, "int32": np.int32, "int64": np.int64, "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16, "float32": np.float32, "float64": np.float64,
}  # fmt: skip
_NAMES = {getattr(torch, name): name for name in _NUMPY}


class EagerTorch:
    """The subject. ``device`` as torch spells it. TF32 is off: an allowance for it would hide what float32 should show."""

    name = "torch"
    module = torch

    def __init__(self, device: str = "cpu") -> None:
        self.device = torch.device(device)
        self._functions: dict[str, Callable[..., Any]] = {}
        self._on_cpu = self.device.type == "cpu"
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        torch.zeros(1, device=self.device).cpu()  # raises here, in one place, where the device cannot be used or shows no values

    def literal(self, literal: Literal, requires_grad: bool) -> Any:
        flat = np.frombuffer(literal.data, np.int16 if literal.dtype == "bfloat16" else _NUMPY[literal.dtype])
        memory = torch.from_numpy(flat.copy())
        if literal.dtype == "bfloat16":
            memory = memory.view(torch.bfloat16)
        if not self._on_cpu:
            memory = memory.to(self.device)
        tensor = memory.as_strided(literal.shape, literal.strides, literal.offset).detach()
        return tensor.requires_grad_() if requires_grad else tensor

    def bits(self, tensor: Any) -> np.ndarray:
        tensor = tensor.detach()
        if not self._on_cpu:
            tensor = tensor.cpu()
        if tensor._is_zerotensor():  # a gradient may have no memory
            tensor = tensor.clone()
        if tensor.dtype is torch.bfloat16:
            bits: np.ndarray = tensor.view(torch.int16).numpy().copy().view(ml_dtypes.bfloat16)
        else:
            bits = tensor.numpy().copy()
        return bits

    def storage(self, tensor: Any) -> int:
        return int(tensor.untyped_storage()._cdata)

    def dtype(self, name: str) -> Any:
        return getattr(torch, name)

    def layout(self, tensor: Any) -> tuple[str, tuple[int, ...], tuple[int, ...], int]:
        dtype = tensor.dtype
        name = _NAMES.get(dtype) or str(dtype).removeprefix("torch.")
        return (name, tuple(tensor.shape), tensor.stride(), tensor.storage_offset())

    facts = staticmethod(shown)

    def function(self, op: str) -> Callable[..., Any]:
        found = self._functions.get(op)
        if found is None:
            found = torch
            for part in (TABLE[op].path if op in TABLE else op).split("."):
                found = getattr(found, part)
            self._functions[op] = found
        return found

    def synchronize(self) -> None:
        if not self._on_cpu and self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def lay_out(self, tensor: Any, strides: tuple[int, ...]) -> None:
        raise NotImplementedError("torch is followed, it does not follow")

    def describe(self) -> dict[str, str]:
        """Version and capability, for the header of reports."""
        version = str(torch.__version__)
        return {"version": version, "torch": version, "capability": torch.backends.cpu.get_cpu_capability()}
