"""State, field by field, exactly: what a subject shows of each live tensor against what the reference shows."""

from __future__ import annotations

from typing import Any

from conformance.observation import ABSENT, FACET_OF_FIELD, Observation, TensorState

#: fields in the order in which a difference is reported: what explains the others comes first
ORDER = (
    "dtype", "shape", "requires_grad", "is_leaf", "grad_fn", "output_nr", "alias", "base", "offset", "strides", "version", "retains_grad",
    "is_inference", "identity",
)  # fmt: skip


#: how a gradient was computed is the engine's own affair: what it is the function of, which node of that function comes last, whose memory
#: it reuses
_OF_GRADIENTS = frozenset(("grad_fn", "output_nr", "base", "strides", "offset"))
#: without elements it is a function of nothing
_OF_EMPTY = frozenset(("requires_grad", "is_leaf"))


def differences(
    subject: Observation, reference: Observation, gradients: frozenset[str] = frozenset()
) -> list[tuple[str, str, str, Any, Any]]:
    """``gradients``: names of tensors that ``grad`` returned. (tensor, field, facet, expected, got) for every unequal field; a tensor that
    one side lacks differs in ``grad_identity`` or ``aliasing``.
    """
    mine, theirs = reference.states, subject.states
    if mine is None or theirs is None or mine == theirs:
        return []
    found: list[tuple[str, str, str, Any, Any]] = []
    for name in [*mine, *(n for n in theirs if n not in mine)]:
        if name not in mine or name not in theirs:
            facet = "accumulation" if name.endswith(".grad") else "error"
            found.append((name, "exists", facet, name in mine, name in theirs))
        elif mine[name] != theirs[name]:
            unsaid = _OF_GRADIENTS | (_OF_EMPTY if 0 in mine[name].shape else frozenset()) if name in gradients else frozenset()
            rows = [row for row in _fields(mine[name], theirs[name]) if row[0] not in unsaid]
            found += [(name, *row) for row in rows if not _base_of_gradient(row, gradients)]
    return sorted(found, key=lambda row: ORDER.index(row[1]) if row[1] in ORDER else -1)


def _base_of_gradient(row: tuple[str, str, Any, Any], gradients: frozenset[str]) -> bool:
    """Whether the two sides differ in whether a gradient is a view itself, which its views then show."""
    field, _, want, got = row
    return field == "base" and "unnamed" in (want, got) and (want in gradients or got in gradients)


def _fields(mine: TensorState, theirs: TensorState) -> list[tuple[str, str, Any, Any]]:
    rows = []
    for field in ORDER:
        want, got = getattr(mine, field), getattr(theirs, field)
        if want is ABSENT or got is ABSENT or want == got:
            continue
        if field == "strides" and _same_layout(want, got, mine.shape):
            continue
        if field in ("offset", "alias") and 0 in mine.shape:
            continue  # no element stands there, so no memory is shared
        rows.append((field, FACET_OF_FIELD[field], want, got))
    return rows


def _same_layout(want: Any, got: Any, shape: Any) -> bool:
    """Strides of dims with at most one element address nothing; in a tensor without elements none does."""
    if 0 in shape:
        return True
    return all(a == b for a, b, n in zip(want, got, shape, strict=True) if n > 1)
