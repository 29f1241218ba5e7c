"""refgrad: a from-scratch reference of PyTorch's eager autograd on numpy.

``import refgrad as torch`` runs tutorial code and behaves the same: values, gradients, ``grad_fn``, accumulation, freed graphs, modes,
in-place writes, errors word for word. Two names are refgrad's own: ``op`` (declares one more op) and ``exact`` (see ``refgrad._exact``).
"""

from __future__ import annotations

import sys as _sys
from typing import Any

from refgrad import _attach, _dtypes
from refgrad import _ops as _ops
from refgrad._dtypes import (
    bfloat16,
    dtype,
    float16,
    float32,
    float64,
    get_default_dtype,
    int8,
    int16,
    int32,
    int64,
    promote_types,
    uint8,
)
from refgrad._exact import exact
from refgrad._grad_mode import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)
from refgrad._ops.creation import set_default_dtype
from refgrad._printing import set_printoptions
from refgrad._random import Generator, default_generator, initial_seed, manual_seed
from refgrad._table import op
from refgrad._tensor import Size, Tensor, device

bool = _dtypes.bool_
float, double, half, long, int, short = (_dtypes.ALIASES[n] for n in ("float", "double", "half", "long", "int", "short"))
get_rng_state, set_rng_state = default_generator.get_state, default_generator.set_state

_attach.attach_methods()
_attach.attach_functions(_sys.modules[__name__], "")

from refgrad import autograd, linalg, nn, optim, special  # noqa: E402 - they are filled from the table too
from refgrad._promotion import allclose, can_cast, finfo, iinfo, is_floating_point, is_tensor, isclose, numel, result_type  # noqa: E402


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return _attach.missing("torch.")(name)
