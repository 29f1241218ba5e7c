"""Errors: raises or not, type and key; the words may differ."""

from __future__ import annotations

from conformance.observation import Observation, Raised
from refgrad._errors import key_of


#: keys of errors that depend on what a graph saved
OF_SAVED = frozenset(("none", "freed_graph", "modified_inplace"))


def error_key(raised: Raised | None) -> str:
    return "none" if raised is None else key_of(raised.type, raised.message)


def differs(subject: Observation, reference: Observation) -> tuple[str, str] | None:
    """(expected, got) as keys, where the two do not raise alike."""
    want, got = error_key(reference.raised), error_key(subject.raised)
    return None if want == got else (want, got)


def describe(raised: Raised | None) -> str:
    """One line: the type and the text's beginning."""
    if raised is None:
        return "nothing"
    text = " ".join(raised.message.split())
    return f"{raised.type}: {text[:300]}"
