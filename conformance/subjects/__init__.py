"""Systems under test, by name: ``torch`` (eager, on any device), ``refgrad`` (the reference itself), and what entry points add."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Final


class SubjectError(ValueError):
    """A subject or device that cannot be used. The message is one line: what, why, what to do."""


#: name -> where its engine is made from a device
BUILT_IN: Final = {"torch": "conformance.subjects.eager_torch:EagerTorch", "refgrad": "conformance.subjects.reference:make_reference"}


def known_subjects() -> dict[str, str]:
    """Name -> ``module:attribute``; entry points of the group ``conformance.subjects`` are added unless CONFORMANCE_NO_PLUGINS is set."""
    found = dict(BUILT_IN)
    if not os.environ.get("CONFORMANCE_NO_PLUGINS"):
        found.update({p.name: p.value for p in entry_points(group="conformance.subjects")})
    return found


def split(text: str) -> tuple[str, str]:
    """``NAME@INTERPRETER`` → the subject's name and the Python that runs it; without ``@`` this one."""
    name, _, interpreter = text.partition("@")
    return name, interpreter or sys.executable


@lru_cache(maxsize=8)
def subject(name: str, device: str = "cpu") -> Any:
    """The engine of that name on that device. Raises SubjectError."""
    known = known_subjects()
    place = known.get(name) or (name if ":" in name else None)
    if place is None:
        raise SubjectError(f"unknown subject {name!r}; known: {', '.join(known)} (or MODULE:NAME of your own engine)")
    module, _, attribute = place.partition(":")
    try:
        make: Callable[[str], Any] = getattr(import_module(module), attribute)
        return make(device)
    except ImportError as error:
        missing = error.name or str(error)
        if ":" in name and missing in (module, module.partition(".")[0]):
            raise SubjectError(f"subject {name!r}: no module {missing!r} here; write MODULE:NAME of one that Python can import") from None
        raise SubjectError(f"subject {name!r} needs {missing}, which is not installed: python -m pip install torch==2.13.0") from None
    except AttributeError:
        raise SubjectError(f"subject {name!r}: {module} has no {attribute}") from None
    except (RuntimeError, AssertionError, ValueError, NotImplementedError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SubjectError(f"device {device!r} cannot be used by subject {name!r}: {first}") from None
