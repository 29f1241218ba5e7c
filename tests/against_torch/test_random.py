"""refgrad's random streams against torch's, bit for bit, torch running in a child process with its default kernels.

The child must be a process of its own: torch reads ``ATEN_CPU_CAPABILITY`` once, when it is imported.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import warnings
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from refgrad import _random

pytest.importorskip("torch")

CHILD = """
import json, sys, warnings
import torch

assert torch.backends.cpu.get_cpu_capability() == "DEFAULT"

def tensor(kind, a):
    dtype = getattr(torch, a["dtype"])
    if kind in ("rand", "randn"):
        return getattr(torch, kind)(a["shape"], dtype=dtype)
    if kind == "randint":
        return torch.randint(a["low"], a["high"], a["shape"], dtype=dtype)
    if kind == "randperm":
        return torch.randperm(a["n"], dtype=dtype)
    if kind == "bernoulli_each":
        p = torch.tensor(a["p"], dtype=getattr(torch, a["p_dtype"])).reshape(a["shape"])
        return torch.empty(a["shape"], dtype=dtype).bernoulli_(p)
    if kind == "transposed_normal":
        return torch.empty(a["shape"], dtype=dtype).t().normal_(a["mean"], a["std"]).t()
    args = {"uniform": ("low", "high"), "normal": ("mean", "std"), "bernoulli": ("p",)}[kind]
    return getattr(torch.empty(a["shape"], dtype=dtype), kind + "_")(*(a[name] for name in args))

def show(kind, arguments):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            t = tensor(kind, arguments)
            shown = [list(t.shape), t.reshape(-1).view(torch.uint8).numpy().tobytes().hex() if t.numel() else ""]
        except (RuntimeError, NotImplementedError) as error:
            shown = [type(error).__name__, str(error)]
    return shown + [str(w.message).split(" (Triggered")[0] for w in caught]

def run(program):
    torch.manual_seed(program["seed"])
    return [torch.initial_seed()] + [show(kind, arguments) for kind, arguments in program["draws"]]

torch.manual_seed(0)
torch.empty(64).bernoulli_(0.5)
after = torch.randint(2**20, (4,)).tolist()
torch.manual_seed(0)
torch.randint(2**20, (1,))
vendor_stream = after == torch.randint(2**20, (4,)).tolist()
print(json.dumps({"vendor_stream": vendor_stream, "answers": [run(program) for program in json.load(sys.stdin)]}))
"""

FLOATS = ("float16", "bfloat16", "float32", "float64")
DTYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", *FLOATS)
SHAPES: tuple[tuple[int, ...], ...] = (
    (0,), (), (1,), (2,), (3,), (7,), (15,), (16,), (17,), (31,), (32,), (33,), (47,), (100,), (1000,),
    (3, 5), (4, 4), (2, 0, 3), (2, 3, 7),
)  # fmt: skip
KINDS = ("rand", "randn", "randint", "randperm", "uniform", "normal", "transposed_normal", "bernoulli", "bernoulli_each")
Draw = tuple[str, dict[str, Any]]


def numpy_dtype(name: str) -> np.dtype[Any]:
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


def draw_here(generator: _random.Generator, kind: str, a: dict[str, Any]) -> np.ndarray:
    dtype, shape = numpy_dtype(a["dtype"]), tuple(a.get("shape", ()))
    if kind in ("rand", "randn"):
        return getattr(_random, kind)(generator, shape, dtype)
    if kind == "randint":
        return _random.randint(generator, a["low"], a["high"], shape, dtype)
    if kind == "randperm":
        return _random.randperm(generator, a["n"], dtype)
    if kind == "bernoulli":
        return _random.bernoulli(generator, a["p"], shape, dtype)
    if kind == "bernoulli_each":
        return _random.bernoulli(generator, np.array(a["p"]).astype(numpy_dtype(a["p_dtype"])).reshape(shape), shape, dtype)
    if kind == "uniform":
        return _random.uniform(generator, a["low"], a["high"], shape, dtype)
    return _random.normal(generator, a["mean"], a["std"], shape, dtype, contiguous=kind == "normal")


def show_here(generator: _random.Generator, kind: str, arguments: dict[str, Any]) -> list[Any]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            array = draw_here(generator, kind, arguments)
            shown = [list(array.shape), array.tobytes().hex()]
        except (RuntimeError, NotImplementedError) as error:
            shown = [type(error).__name__, str(error)]
    return [*shown, *(str(w.message) for w in caught)]


def run_here(program: dict[str, Any]) -> list[Any]:
    generator = _random.Generator().manual_seed(program["seed"])
    return [generator.initial_seed()] + [show_here(generator, kind, arguments) for kind, arguments in program["draws"]]


def draw_range(rng: random.Random, dtype: str) -> dict[str, int]:
    """Two ends that the dtype can hold: near zero with a range of any size, or anywhere."""
    top = {"bool": 1, "uint8": 255, "int8": 127, "int16": 2**15 - 1, "int32": 2**31 - 1, "float16": 65504}.get(dtype, 2**62)
    bottom = 0 if dtype in ("bool", "uint8") else -top
    low = min(max(rng.randint(-20, 20), bottom), top) if rng.random() < 0.6 else rng.randint(bottom, top)
    return {"low": low, "high": rng.randint(low + 1, min(top + 1, low + 2 ** rng.randrange(1, 63)))}


def draw_arguments(rng: random.Random, kind: str) -> dict[str, Any]:
    shape = rng.choice(SHAPES)
    a: dict[str, Any] = {"shape": shape, "dtype": rng.choice(DTYPES if kind in ("randint", "bernoulli", "bernoulli_each") else FLOATS)}
    if kind == "randint":
        a |= draw_range(rng, a["dtype"])
    elif kind == "randperm":
        a |= {"n": rng.choice((0, 1, 2, 3, 16, 100, 127)), "dtype": rng.choice(DTYPES[1:])}
    elif kind == "uniform":
        low = rng.choice((0.0, rng.uniform(-1000, 1000), rng.uniform(-1e-3, 1e-3)))
        a |= {"low": low, "high": low + rng.choice((0.0, 1.0, rng.uniform(0, 1000), rng.uniform(0, 1e-3)))}
    elif kind in ("normal", "transposed_normal"):
        a |= {"mean": rng.choice((0.0, rng.uniform(-10, 10))), "std": rng.choice((0.0, 1.0, rng.uniform(0, 5)))}
        a["shape"] = shape if kind == "normal" else (6, 7)
    elif kind == "bernoulli":
        a["p"] = rng.choice((0.0, 1.0, rng.random()))
    elif kind == "bernoulli_each":
        a |= {"p_dtype": rng.choice(FLOATS), "p": [rng.random() for _ in range(int(np.prod(shape)))]}
    return a


def draw_program(rng: random.Random, kinds: tuple[str, ...]) -> dict[str, Any]:
    seed = rng.choice((0, 1, 42, rng.randrange(2**32), rng.randrange(2**64), -rng.randrange(1, 2**63)))
    chosen = [rng.choice(kinds) for _ in range(8)]
    return {"seed": seed, "draws": [(kind, draw_arguments(rng, kind)) for kind in chosen]}


def ask_torch(programs: list[dict[str, Any]]) -> dict[str, Any]:
    environment = os.environ | {"ATEN_CPU_CAPABILITY": "default"}
    command = [sys.executable, "-c", CHILD]
    child = subprocess.run(command, input=json.dumps(programs), env=environment, stdout=subprocess.PIPE, text=True, check=True)
    answer: dict[str, Any] = json.loads(child.stdout)
    return answer


def programs_of(kinds: tuple[str, ...], count: int) -> list[dict[str, Any]]:
    rng = random.Random(" ".join(kinds))
    return [draw_program(rng, kinds) for _ in range(count)]


BAD_DRAWS: tuple[Draw, ...] = (
    ("randint", {"low": 5, "high": 5, "shape": [2], "dtype": "int64"}),
    ("randint", {"low": 5, "high": 4, "shape": [0], "dtype": "int64"}),
    ("randint", {"low": 0, "high": 257, "shape": [2], "dtype": "uint8"}),
    ("randint", {"low": -1, "high": 3, "shape": [2], "dtype": "uint8"}),
    ("randint", {"low": 0, "high": 3, "shape": [2], "dtype": "bool"}),
    ("randint", {"low": -129, "high": 3, "shape": [2], "dtype": "int8"}),
    ("randint", {"low": 0, "high": 2**40, "shape": [2], "dtype": "int32"}),
    ("randint", {"low": 0, "high": 2**40, "shape": [2], "dtype": "int16"}),
    ("randint", {"low": 0, "high": 2**40, "shape": [2], "dtype": "float16"}),
    ("randint", {"low": -3000, "high": 3000, "shape": [20], "dtype": "float16"}),
    ("randint", {"low": -2048, "high": 2049, "shape": [20], "dtype": "float16"}),
    ("randint", {"low": -2049, "high": 2050, "shape": [20], "dtype": "float16"}),
    ("randint", {"low": 2049, "high": 2050, "shape": [20], "dtype": "float16"}),
    ("randint", {"low": 2047, "high": 2052, "shape": [20], "dtype": "float16"}),
    ("randint", {"low": 4097, "high": 4099, "shape": [20], "dtype": "float16"}),
    ("randint", {"low": -4099, "high": -4097, "shape": [20], "dtype": "float16"}),
    ("randint", {"low": 0, "high": 2**24 + 2, "shape": [20], "dtype": "float32"}),
    ("randint", {"low": -(2**60) - 1, "high": 2**60 + 1, "shape": [20], "dtype": "float64"}),
    ("randperm", {"n": -1, "dtype": "int64"}),
    ("randperm", {"n": 300, "dtype": "uint8"}),
    ("randperm", {"n": 256, "dtype": "uint8"}),
    ("randperm", {"n": 129, "dtype": "int8"}),
    ("randperm", {"n": 128, "dtype": "int8"}),
    ("randperm", {"n": 257, "dtype": "uint8"}),
    ("randperm", {"n": 2049, "dtype": "float16"}),
    ("randperm", {"n": 2050, "dtype": "float16"}),
    ("randperm", {"n": 300, "dtype": "bfloat16"}),
    ("randperm", {"n": 2**24 + 2, "dtype": "float32"}),
    ("randperm", {"n": 3, "dtype": "bool"}),
    ("uniform", {"low": 2.0, "high": 1.0, "shape": [3], "dtype": "float32"}),
    ("uniform", {"low": 2.5, "high": 1.25, "shape": [0], "dtype": "float32"}),
    ("uniform", {"low": 1e20, "high": 1.25, "shape": [3], "dtype": "float32"}),
    ("uniform", {"low": float("nan"), "high": 1.0, "shape": [3], "dtype": "float32"}),
    ("uniform", {"low": 0.0, "high": float("inf"), "shape": [3], "dtype": "float64"}),
    ("uniform", {"low": -3e38, "high": 3e38, "shape": [3], "dtype": "float32"}),
    ("uniform", {"low": -1e308, "high": 1e308, "shape": [3], "dtype": "float64"}),
    ("uniform", {"low": -5e4, "high": 5e4, "shape": [3], "dtype": "float16"}),
    ("uniform", {"low": -1e5, "high": 1e5, "shape": [3], "dtype": "float16"}),
    ("uniform", {"low": 0.0, "high": 1.0, "shape": [3], "dtype": "int64"}),
    ("rand", {"shape": [3], "dtype": "bool"}),
    ("rand", {"shape": [2, -1], "dtype": "float32"}),
    ("randn", {"shape": [17], "dtype": "int32"}),
    ("normal", {"mean": 0.0, "std": -1.5, "shape": [3], "dtype": "float32"}),
    ("normal", {"mean": 0.0, "std": float("nan"), "shape": [3], "dtype": "float32"}),
    ("normal", {"mean": 1e6, "std": 1.0, "shape": [3], "dtype": "float16"}),
    ("normal", {"mean": 1e6, "std": 1.0, "shape": [20], "dtype": "float16"}),
    ("bernoulli_each", {"p": [0.5, 0.5, 1.5], "p_dtype": "float32", "shape": [3], "dtype": "float32"}),
    ("bernoulli_each", {"p": [0.5, float("nan")], "p_dtype": "float64", "shape": [2], "dtype": "float32"}),
    ("bernoulli_each", {"p": [1, 0], "p_dtype": "int64", "shape": [2], "dtype": "float32"}),
)
"""What torch refuses or warns about, and what lies just inside; each is followed by a draw that shows where the stream stands."""

BAD_PROBABILITIES: tuple[Draw, ...] = tuple(("bernoulli", {"p": p, "shape": [3], "dtype": "float32"}) for p in (-1.0, 1.5, float("nan")))

BATCHES: dict[str, list[dict[str, Any]]] = {
    **{kind: programs_of((kind,), 60) for kind in KINDS},
    "interleaved": programs_of(tuple(kind for kind in KINDS if kind != "bernoulli"), 400),
    "refused": [{"seed": 3, "draws": [draw, ("rand", {"shape": [2], "dtype": "float32"})]} for draw in BAD_DRAWS + BAD_PROBABILITIES],
    "large": [
        {"seed": seed, "draws": [(kind, {"shape": [5003], "dtype": dtype, "mean": 0.3, "std": 1.7})]}
        for seed, kind in ((5, "rand"), (6, "randn"), (7, "normal"))
        for dtype in FLOATS
    ],
}


@pytest.fixture(scope="module")
def torch_answers() -> dict[str, Any]:
    answer = ask_torch([program for programs in BATCHES.values() for program in programs])
    answers = iter(answer["answers"])
    return {"vendor_stream": answer["vendor_stream"], **{name: [next(answers) for _ in batch] for name, batch in BATCHES.items()}}


@pytest.mark.parametrize("batch", BATCHES)
def test_every_seed_draw_refusal_and_warning_is_torchs(torch_answers: dict[str, Any], batch: str) -> None:
    if batch == "bernoulli" and torch_answers["vendor_stream"]:
        pytest.skip("this torch draws bernoulli with a number from MKL's own stream, as it does on Intel processors")
    for program, theirs in zip(BATCHES[batch], torch_answers[batch], strict=True):
        assert run_here(program) == theirs, f"seed {program['seed']}, draws {program['draws']}"


def test_seeds_that_torch_refuses_are_refused_in_its_words() -> None:
    import torch

    for seed in (2**64, -(2**63) - 1, 10**30, "3", 1.5, True, None):
        with pytest.raises((RuntimeError, ValueError)) as theirs:
            torch.Generator().manual_seed(seed)
        with pytest.raises(theirs.type) as ours:
            _random.Generator().manual_seed(seed)  # type: ignore[arg-type]
        assert str(ours.value) == str(theirs.value)
