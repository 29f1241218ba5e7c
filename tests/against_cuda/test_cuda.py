"""Real torch on a CUDA device: programs are judged there as on the CPU, and the device's own manners are kept.

Skips aloud where there is no CUDA device. Nothing here imports torch when it is loaded.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from conformance.batch import about, run_and_judge
from conformance.divergence import Divergence
from conformance.generate.programs import Mix
from conformance.isolation.client import Worker
from conformance.subjects.walk import walk
from tests.harness.writing import do, leaf, tensor, write

DEVICE = "cuda"
PROGRAMS = 300


@pytest.fixture(scope="module")
def torch() -> Any:
    """torch, where it has a CUDA device."""
    torch = pytest.importorskip("torch", reason="no torch here: python -m pip install torch (a build for CUDA)", exc_type=ImportError)
    if not torch.cuda.is_available():
        pytest.skip(
            f"no CUDA device: torch {torch.__version__} finds none (torch.cuda.is_available() is False); nothing was tested on CUDA"
        )
    return torch


@pytest.fixture(scope="module")
def engine(torch: Any) -> Any:
    from conformance.subjects import subject

    return subject("torch", DEVICE)


@pytest.fixture(scope="module")
def batch(engine: Any) -> dict[str, Any]:
    """Programs drawn and judged in a worker, as a run does it: one that crashed would end the worker, and raise here."""
    arguments = {"programs": list(range(PROGRAMS)), "mix": asdict(Mix()), "subject_name": "torch", "device": DEVICE}
    with Worker(env={"OMP_NUM_THREADS": "1"}) as worker:
        found: dict[str, Any] = worker.call("conformance.batch:judge_batch", arguments, 300.0)
    return found


def test_programs_run_on_the_device_without_a_crash_and_the_harness_survives_them(batch: dict[str, Any]) -> None:
    assert (batch["programs"], batch["failures"]) == (PROGRAMS, []) and batch["judged"] > PROGRAMS * 9 // 10


def test_both_values_and_gradients_were_judged_in_every_float_dtype(batch: dict[str, Any]) -> None:
    seen = {tuple(key.split("|")[1:3]) for key in batch["coverage"]}
    assert {(dtype, facet) for dtype in ("float16", "bfloat16", "float32", "float64") for facet in ("value", "grad")} <= seen


def test_no_drawn_program_raises_what_only_a_broken_device_raises(batch: dict[str, Any]) -> None:
    found = [Divergence.from_json(data) for data in batch["divergences"]]
    assert not [d.title() for d in found if "CUDA error" in d.evidence.got or "device-side assert" in d.evidence.got]


def test_every_record_of_a_run_names_the_device(engine: Any, tmp_path: Any) -> None:
    from conformance.events import read
    from conformance.known_failures import KnownFailures
    from conformance.run import Settings, execute

    execute(Settings(device=DEVICE, programs=50, jobs=1, out=tmp_path), KnownFailures(), lambda event: None)
    start, *others = read(tmp_path)
    full = [event["divergence"] for event in others if event["type"] == "divergence" and "divergence" in event]
    assert [s["device"] for s in start["subjects"]] == [DEVICE] and {d["attributes"]["device"] for d in full} <= {DEVICE}


def test_tensors_live_on_the_device(engine: Any) -> None:
    made = engine.literal(leaf("t0", [1.0, 2.0]).args[0], True)
    assert made.device.type == DEVICE and made.requires_grad and engine.bits(made).tolist() == [1.0, 2.0]


def test_tf32_is_off(engine: Any, torch: Any) -> None:
    """1 + 2**-12 has 13 bits: a product rounded to TF32's 11 loses the last."""
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == (False, False)
    size = 64
    value = np.full((size, size), 1 + 2.0**-12)
    program = write(tensor("t0", value), tensor("t1", np.eye(size)), do("operator", "matmul", "@t0", "@t1", out="t2"))
    assert (walk(program, engine)[-1].values["t2"] == value).all() and run_and_judge(program, engine).divergences == []


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_late_error_is_attributed_to_the_statement_that_caused_it(engine: Any, torch: Any, at: int) -> None:
    """What a kernel reports when it is synchronized comes after its own statement, and not after a later one."""
    synchronized: list[int] = []

    class Late:
        """The engine, whose device reports an error at its n-th synchronization, as it does for an error on the device."""

        def __getattr__(self, name: str) -> Any:
            return getattr(engine, name)

        def synchronize(self) -> None:
            engine.synchronize()
            synchronized.append(len(synchronized))
            if len(synchronized) == at + 1:
                raise RuntimeError("CUDA error: reported late")

    program = write(
        leaf("t0", [1.0]), do("call", "exp", "@t0", out="t1"), do("call", "sin", "@t0", out="t2"), do("call", "cos", "@t0", out="t3")
    )
    seen = walk(program, Late())  # type: ignore[arg-type]
    assert [o.index for o in seen if o.raised] == [at] and len(synchronized) == len(program)


def test_an_index_out_of_range_on_the_device_is_a_finding_of_its_own_statement(torch: Any) -> None:
    """It ends the context for good, so it runs in a worker of its own, which may be lost; the next worker works."""
    from conformance.run import replay

    index = tensor("t1", [7], dtype="int64")
    program = write(
        leaf("t0", [1.0, 2.0]), index, do("call", "index_select", "@t0", 0, "@t1", out="t2"), do("call", "exp", "@t0", out="t3")
    )
    found = replay(program, "torch", DEVICE)
    assert found is not None and (found.key.op, found.statement) == ("index_select", 2)
    assert replay(write(leaf("t0", [1.0]), do("call", "neg", "@t0", out="t1")), "torch", DEVICE) is None


def test_the_device_says_what_it_is(engine: Any) -> None:
    assert about("torch", DEVICE)["version"] == engine.describe()["version"]
