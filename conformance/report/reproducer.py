"""A divergence as a script that needs only torch: it exits 1 and says why on a torch that shows it, and 0 on a right one.

The script runs the program up to the wrong statement with the harness's own hooks and reads (observing changes what is observed), takes the
thing that was wrong, and compares it itself:

=====================  ================================================================================================================
value, grad,           each element of ``Evidence.elements`` against its interval; where there are none, whether anything is there at all:
accumulation           ``expected`` or ``got`` is "nothing" (so is every other facet whose evidence has elements)
error                  what the statement raised, as "RuntimeError: its text", or "nothing", against ``expected`` and ``got``
warning                the texts of the warnings, joined by " | ", or "nothing"
crash, hang            runs itself in another process
flaky                  runs the program a hundred times, and compares the bits
all others             ``expected`` is "field=value", a field of TensorState
=====================  ================================================================================================================

A program's statement that rightly raises is guarded. Which ones do, is asked of refgrad.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import jinja2

from conformance import codegen
from conformance.divergence import Divergence, Element
from conformance.program import Program, Ref, Statement
from conformance.report.text import visible

#: tells which statements of a program rightly raise; None: asks refgrad
Raising = Callable[[Program], Iterable[int]] | None

#: what an error, a warning or an arrival is when there is none
NOTHING: Final = "nothing"
_NUMERIC: Final = frozenset({"value", "grad", "accumulation"})
_PROCESS: Final = frozenset({"crash", "hang"})
#: kinds whose names are no tensors
_NO_TENSOR: Final = frozenset({"hook", "optimizer"})
_ARRIVAL: Final = re.compile(r"(\w+)@(\d+)$")

#: field of TensorState -> how the script reads it of ``t`` (``live`` holds the tensors by name)
_STATE: Final = {
    "dtype": 'str(t.dtype).removeprefix("torch.")',
    "shape": "tuple(t.shape)",
    "strides": "t.stride()",
    "offset": "t.storage_offset()",
    "alias": "next(name for name, other in live.items() if other.untyped_storage()._cdata == t.untyped_storage()._cdata)",
    "base": 'next((name for name, other in live.items() if other is t._base), "unnamed") if t._base is not None else None',
    "requires_grad": "t.requires_grad",
    "is_leaf": "t.is_leaf",
    "grad_fn": 'type(t.grad_fn).__name__ if t.grad_fn is not None else ""',
    "output_nr": "t.output_nr",
    "retains_grad": "t.retains_grad",
    "is_inference": "t.is_inference()",
    "version": "t._version",
    "identity": "len(objects[name_of_t])",
}


def script(divergence: Divergence, torch: str, path: codegen.Path = codegen.own_name, raising: Raising = None) -> str:
    """The script. ``torch`` is the version that showed the divergence, ``path`` gives an op's attribute path, ``raising`` the statements
    of a program that rightly raise. Raises ProgramError for a program that has no spelling."""
    program = divergence.program.slice_before(divergence.statement + 1)
    guarded = frozenset((raising or raising_statements)(program))
    field, _, expected = divergence.evidence.expected.partition("=")
    numeric = divergence.key.facet in _NUMERIC or bool(divergence.evidence.elements)
    whole = numeric or divergence.key.facet in _WHOLE_TEXT
    return _template().render(
        comment=[visible(line) for line in _comment(divergence, torch)],
        body=list(_body(divergence, program, guarded, path)),
        facet=divergence.key.facet,
        numeric=numeric,
        process=divergence.key.facet in _PROCESS,
        hooked=program.hooked,
        field=field,
        reads="" if whole else _STATE[field],
        counts_objects=field == "identity" and divergence.key.facet == "grad_identity",
        device=divergence.attributes.get("device", "cpu"),
        elements=[_Check.of(element) for element in divergence.evidence.elements],
        expected=divergence.evidence.expected if whole else expected,
        got=divergence.evidence.got,
        what=_what(divergence, field),
        cause=divergence.key.id,
    )


_WHOLE_TEXT: Final = _NUMERIC | _PROCESS | {"error", "warning", "flaky"}


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("conformance.report"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Python, not HTML: every text goes in through `ascii`
    )
    environment.filters["ascii"] = ascii
    return environment.get_template("reproducer.py.jinja")


def raising_statements(program: Program) -> list[int]:
    """The statements that raise where everything is right, as refgrad does it; those that read a name then unbound are among them."""
    from conformance.subjects.reference import Reference
    from conformance.subjects.walk import walk

    with warnings.catch_warnings():  # of what the program is warned, its reader is not concerned
        warnings.simplefilter("ignore")
        return [seen.index for seen in walk(program, Reference()) if seen.raised]


def _comment(divergence: Divergence, torch: str) -> Iterator[str]:
    evidence = divergence.evidence
    yield divergence.title()
    yield ""
    yield f"cause:    {divergence.key.id} ({', '.join(f'{name} {value}' for name, value in divergence.key.to_json().items() if value)})"
    yield f"right:    {evidence.expected}"
    yield f"observed: {evidence.got}"
    if evidence.reason:
        yield f"why:      {evidence.reason}"
    yield f"on:       torch {torch}{''.join(f', {name} {value}' for name, value in divergence.attributes.items())}"
    yield ""
    yield "Exits 1 and says why on a torch that shows this, 0 on one that does not."
    yield "The calls of look() and watch() are part of it: they read what was read when it was found."


def _what(divergence: Divergence, field: str) -> str:
    """What the verdict line calls the thing that is compared."""
    facet = divergence.key.facet
    if facet in ("error", "warning"):
        return f"the {facet} of statement {divergence.statement}"
    if facet in _PROCESS:
        return f"statement {divergence.statement}"
    return f"{field} of {divergence.tensor}" if facet not in _WHOLE_TEXT else divergence.tensor


# --- the program ---------------------------------------------------------------------------------------------------------


def _body(divergence: Divergence, program: Program, guarded: frozenset[int], path: codegen.Path) -> Iterator[str]:
    """The lines of ``program()``: the statements with the harness's looks, and what it returns."""
    judges_error = divergence.key.facet in ("error", "warning")
    expect = {place: "" for place in guarded if not (judges_error and place == divergence.statement)}
    printed = codegen.lines(program, path=path, expect=expect)
    live: list[str] = []
    depth = 0
    for place, statement in enumerate(program):
        own = [text for at, text in printed if at == place]
        last = place == len(program) - 1
        if last and _ARRIVAL.match(divergence.tensor):
            yield codegen.INDENT * depth + "arrived.clear()"
        yield from _judged(own, divergence.key.facet, depth) if last and judges_error else own
        depth += (statement.kind == "enter") - (statement.kind == "exit")
        live = _live(live, statement, place in guarded)
        yield from _looks(program, statement, live, depth)
    yield f"return {_returned(divergence, live)}"


def _judged(lines: list[str], facet: str, depth: int) -> Iterator[str]:
    """The last statement, with what it raised or warned kept in ``found``."""
    indent = codegen.INDENT * depth
    if facet == "error":
        yield indent + f'found = "{NOTHING}"'
        yield indent + "try:"
        yield from (codegen.INDENT + line for line in lines)
        yield indent + "except Exception as error:"
        yield indent + codegen.INDENT + 'found = f"{type(error).__name__}: {error}"'
        return
    yield indent + "with warnings.catch_warnings(record=True) as caught:"
    yield indent + codegen.INDENT + 'warnings.simplefilter("always")'
    yield from (codegen.INDENT + line for line in lines)
    yield indent + f'found = " | ".join(str(one.message) for one in caught) or "{NOTHING}"'


def _live(live: list[str], statement: Statement, raised: bool) -> list[str]:
    """The names of tensors after this statement."""
    if raised:
        return live
    if statement.kind == "delete":
        return [name for name in live if Ref(name) not in statement.args]
    return live if statement.kind in _NO_TENSOR else [*live, *(name for name in statement.out if name not in live)]


def _looks(program: Program, statement: Statement, live: list[str], depth: int) -> Iterator[str]:
    arguments = ", ".join(f"{name}={name}" for name in live)
    if live and (statement.observe or program.hooked):
        yield codegen.INDENT * depth + f"{'look' if statement.observe else 'watch'}({arguments})"
    elif statement.kind == "enter":
        yield codegen.INDENT * depth + "pass"


def _returned(divergence: Divergence, live: list[str]) -> str:
    facet = divergence.key.facet
    if facet in ("error", "warning"):
        return "found"
    if facet in _PROCESS:
        return "None"
    if arrival := _ARRIVAL.match(divergence.tensor):
        return f"arrived.get(({arrival[1]!r}, {arrival[2]}, {max(divergence.order, 1)}), [])"
    if facet in _NUMERIC | {"flaky"} or divergence.evidence.elements:
        return f"[{divergence.tensor}]" if divergence.tensor else "[]"
    return f"state({', '.join([repr(divergence.tensor), *(f'{name}={name}' for name in live)])})"


# --- the comparison ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Check:
    """One element: where, and the interval as Python source. ``sign`` is the text a zero must have, where only its sign was wrong."""

    index: str
    low: str
    high: str
    sign: str

    @staticmethod
    def of(element: Element) -> _Check:
        return _Check(str(element.index), _number(element.low), _number(element.high), _sign(element))


def _number(text: str) -> str:
    """A number's text as Python source; anything else as a string."""
    if text in ("True", "False") or re.fullmatch(r"-?\d+", text):
        return text
    try:
        return text if math.isfinite(float(text)) else f'float("{float(text)}")'
    except ValueError:
        return ascii(text)


def _sign(element: Element) -> str:
    try:
        exact, got = float(element.exact), float(element.got)
    except ValueError:
        return ""
    return str(exact) if exact == got == 0 and str(exact) != str(got) else ""
