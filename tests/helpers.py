"""What tests share. Each section belongs to the tests that it names."""

from __future__ import annotations

import struct

from conformance.divergence import Divergence, Element, Evidence, Key
from conformance.events import DivergenceRecorder
from conformance.program import Literal, Program, Ref, Statement

# --- synthetic runs (events, report, known failures) --------------------------------------------------------------------


def synthetic_divergence(op="log_softmax", facet="grad", *, ulps=41.0, dtype="float32", seed=7, tensor="t0.grad", **changes):
    """A divergence of a four-statement program; ``changes`` replace fields of its evidence."""
    worst = Element((1,), "0.5", "0.49999976", "0.50000024", "0.5000012", ulps)
    other = Element((2,), "0.25", "0.2499999", "0.2500001", "0.2500003", 10.0)
    literal = Literal("float32", (3,), (1,), 0, struct.pack("<3f", 1.0, 2.0, 3.0))
    program = Program((
        Statement("tensor", args=(literal,), kwargs=(("requires_grad", True),), out=("t0",)),
        Statement("call", op, args=(Ref("t0"), 0), out=("t1",)),
        Statement("method", "sum", args=(Ref("t1"),), out=("t2",)),
        Statement("backward", args=(Ref("t2"),)),
    ))  # fmt: skip
    evidence = {
        "expected": "0.5",
        "got": "0.5000012",
        "reason": "exp and sum, one rounding each",
        "allowed_ulps": 4.0,
        "shape": (3,),
        "elements": (worst, other),
        "hidden": 0,
        "blame": "the subject stands alone",
    }
    key = Key(op, facet, trigger="ordinary", dtype=dtype)
    attributes = {"device": "cpu", "capability": "AVX2"}
    return Divergence(key, 3, tensor, Evidence(**(evidence | changes)), program, order=1, seed=seed, attributes=attributes)


def synthetic_start(**changes):
    return {
        "type": "start", "schema": 1, "time": "2026-11-24T16:00:00+00:00", "torch": "2.13.0+cpu", "capability": "AVX2",
        "subjects": [{"name": "torch", "device": "cpu", "version": "2.13.0+cpu", "note": ""}],
        "seed": 20261124, "planned": {"programs": 100}, "provider": "stream", "python": "3.11.9", "platform": "Linux-x86_64",
        "commit": "0123abc", "known_files": ["known/torch.toml"], "plugins": [], "argv": ["conformance", "run"],
        "ops": ["exp", "lgamma", "log_softmax", "sum"],
    } | changes  # fmt: skip


_FLOATS = ("float32", "float64")


def synthetic_batch(**changes):
    exp = {f"exp|{dtype}|{facet}|{layout}": 5 for dtype in _FLOATS for facet in ("value", "grad") for layout in ("contiguous", "strided")}
    return {
        "type": "batch", "source": "stream", "elapsed": 10.0, "seconds": 10.0, "programs": 100, "judged": 98,
        "judged_elements": 4000, "inconclusive_elements": 12, "skipped": {"unsupported": 2}, "not_compared": {"grad_fn": 3},
        "coverage": exp
        | {"log_softmax|float32|value|contiguous": 9, "log_softmax|float32|grad|contiguous": 9, "sum|float32|value|contiguous": 9},
        "pitfalls": {"exp|special points|float32": 4, "log_softmax|empty and tiny|float64": 2},
        "accuracy": {"exp|float32|value": 0.51, "exp|float64|grad": 1.0, "log_softmax|float32|grad": 41.0},
    } | changes  # fmt: skip


def synthetic_end(**changes):
    return {"type": "end", "elapsed": 12.0, "interrupted": False, "broken": False, "reason": ""} | changes


def synthetic_events(divergences=(), *, known=(), start=(), batch=(), end=()):
    """A whole run. ``divergences`` are (divergence, status) or (divergence, status, entry); ``known`` are (entry, status)."""
    recorder = DivergenceRecorder()
    found = [recorder.event(one, status, 2.0 + place, entry="".join(entry)) for place, (one, status, *entry) in enumerate(divergences)]
    replayed = [{"type": "known", "entry": entry, "status": status} for entry, status in known]
    return [synthetic_start(**dict(start)), *replayed, synthetic_batch(**dict(batch)), *found, synthetic_end(**dict(end))]


#: control, ANSI, bidi, zero width, markup of each format, and what XML forbids
HOSTILE = "<script>alert(1)</script>\x1b[2J\x00\u202eevil\u200b]]>&{{7*7}}`|@all\r\n::error::x\ud800\uffff"
