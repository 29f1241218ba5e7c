"""A divergence: one difference between a subject and what is right, under a key that names its cause."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from conformance.program import Program

FACETS: Final = (
    "value", "grad", "accumulation", "dtype", "shape", "strides", "aliasing", "requires_grad", "is_leaf", "grad_fn", "version",
    "grad_identity", "error", "warning", "crash", "hang", "flaky",
)  # fmt: skip


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """The cause. Minimizing, known failures, grouping and the report all speak of this one key."""

    op: str  # the table's name; in-place forms and overloads count as their op; "backward", "SGD" … for statements without one
    facet: str
    mode: str = "reverse"  # reverse, forward …
    trigger: str = "ordinary"  # the pitfall that the minimized program still holds
    dtype: str = "float32"  # the class of the judged output: float16, bfloat16, float32, float64, int, bool, none
    subject: str = "torch"
    error: str = ""  # for the facet error: the key of the error the subject raised, or "none" where it should have raised

    @property
    def id(self) -> str:
        """Six hex digits, the same in every run: the anchor in reports and the name of the reproducer."""
        return hashlib.sha256("\x1f".join(asdict(self).values()).encode()).hexdigest()[:6]

    def to_json(self) -> dict[str, str]:
        return asdict(self)

    @staticmethod
    def from_json(data: dict[str, str]) -> Key:
        return Key(**{name: str(data[name]) for name in Key.__dataclass_fields__ if name in data})


@dataclass(frozen=True, slots=True)
class Element:
    """One differing element: where, what is right, what the subject gave. Numbers are text, so that every precision survives."""

    index: tuple[int, ...]
    exact: str  # the exact value, up to 20 digits
    low: str  # the allowed interval
    high: str
    got: str
    ulps: float  # distance from exact, in ulps of the result's dtype at the exact value; inf where one side is not finite


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the verdict rests on. ``expected`` and ``got`` are one line each; ``elements`` the worst first, ``hidden`` how many more."""

    expected: str
    got: str
    reason: str = ""  # why the allowance is what it is, or which rule of torch was broken
    allowed_ulps: float = 0.0
    shape: tuple[int, ...] = ()
    elements: tuple[Element, ...] = ()
    hidden: int = 0
    blame: str = ""  # "the subject stands alone", "suspect us: …"


@dataclass(frozen=True, slots=True)
class Divergence:
    """One key, seen in one program at one statement. ``order`` is the order of derivative (0: a value)."""

    key: Key
    statement: int
    tensor: str
    evidence: Evidence
    program: Program
    order: int = 0
    seed: int | None = None
    original: Program | None = None
    attributes: dict[str, str] = field(default_factory=dict, hash=False)  # device, capability, pitfalls drawn

    def with_program(self, program: Program) -> Divergence:
        return replace(self, program=program)

    def title(self) -> str:
        """A sentence a person would say: ``log_softmax backward in torch: gradient off by 41 ulp, 4 allowed``."""
        where = f"{self.key.op}{' backward' if self.key.facet in ('grad', 'accumulation') else ''} in {self.key.subject}"
        if self.key.facet in ("value", "grad", "accumulation") and self.evidence.elements:
            worst = self.evidence.elements[0].ulps
            allowed = _ulps(self.evidence.allowed_ulps).removesuffix(" ulp")
            what = {"value": "value", "grad": "gradient", "accumulation": "accumulated gradient"}[self.key.facet]
            return f"{where}: {what} off by {_ulps(worst)}, {allowed} allowed"
        if self.key.facet == "error":
            return f"{where}: raises {self.evidence.got[:120]}, right is {self.evidence.expected[:120]}"
        return f"{where}: {self.evidence.got}, right is {self.evidence.expected}"

    def to_json(self) -> dict[str, Any]:
        return {
            "key": self.key.to_json(),
            "statement": self.statement,
            "tensor": self.tensor,
            "evidence": asdict(self.evidence),
            "program": self.program.to_json(),
            "order": self.order,
            "seed": self.seed,
            "original": self.original.to_json() if self.original else None,
            "attributes": dict(self.attributes),
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> Divergence:
        evidence = dict(data["evidence"])
        evidence["elements"] = tuple(Element(**{**e, "index": tuple(e["index"])}) for e in evidence["elements"])
        evidence["shape"] = tuple(evidence["shape"])
        return Divergence(
            Key.from_json(data["key"]),
            data["statement"],
            data["tensor"],
            Evidence(**evidence),
            Program.from_json(data["program"]),
            data["order"],
            data["seed"],
            Program.from_json(data["original"]) if data.get("original") else None,
            dict(data.get("attributes", {})),
        )


def _ulps(count: float) -> str:
    if count == float("inf"):
        return "infinitely many ulp"
    return f"{count:.0f} ulp" if count >= 10 or count == int(count) else f"{count:.1f} ulp"
