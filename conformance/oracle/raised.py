"""Errors: raises or not, type and key; the words may differ."""

from __future__ import annotations

from conformance.observation import Observation, Raised
from refgrad._errors import key_of

#: keys of errors that depend on what a graph saved
OF_SAVED = frozenset(("none", "freed_graph", "modified_inplace", "multi_output_view_stale"))


#: keys that mean one thing, said differently by different paths through an engine
SAME = {
    "select_bounds": "index_bounds", "index_bounds_runtime": "index_bounds", "copy_bounds": "index_bounds",
    "select_bounds_fast": "index_bounds",
    # which is met first is not promised
    "freed_graph": "saved_gone", "modified_inplace": "saved_gone", "multi_output_view_stale": "saved_gone",
    "inplace_size": "inplace_broadcast",
    "nograd_view_of_view_inplace": "nograd_view_inplace", "inference_view_of_view_inplace": "inference_view_inplace",
}  # fmt: skip


def error_key(raised: Raised | None) -> str:
    if raised is None:
        return "none"
    return key_of(raised.type, raised.message)


def same(want: str, got: str) -> bool:
    """Whether two keys mean one thing."""
    return want == got or SAME.get(want, want) == SAME.get(got, got)


def differs(subject: Observation, reference: Observation) -> tuple[str, str] | None:
    """(expected, got) as keys, where the two do not raise alike."""
    want, got = error_key(reference.raised), error_key(subject.raised)
    return None if same(want, got) else (want, got)


def describe(raised: Raised | None) -> str:
    """One line: the type and the text's beginning."""
    if raised is None:
        return "nothing"
    text = " ".join(raised.message.split())
    return f"{raised.type}: {text[:300]}"
