"""Small engines to judge: the reference with something planted. Named on the command line as ``tests.harness.subjects:Wrong``."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from conformance.program import Literal
from conformance.subjects.reference import Reference


class _Planted(Reference):
    """The reference, but what its function of ``op`` does. Only the function: methods and operators are right."""

    op = "exp"

    def __init__(self, device: str = "cpu") -> None:
        self.device = device

    def function(self, op: str) -> Callable[..., Any]:
        right = super().function(op)
        return self.planted(right) if op == self.op else right

    def planted(self, right: Callable[..., Any]) -> Callable[..., Any]:
        raise NotImplementedError


class Wrong(_Planted):
    """Its exp is off by a thousandth; all else about it is right."""

    name = "wrong"

    def planted(self, right: Callable[..., Any]) -> Callable[..., Any]:
        def wrong(*args: Any, **kwargs: Any) -> Any:
            out = right(*args, **kwargs)
            out._data *= out.dtype.np.type(1.001)
            return out

        return wrong


class Crashing(_Planted):
    """Its exp ends the process."""

    name = "crashing"

    def planted(self, right: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **kwargs: os.abort()


class Hanging(_Planted):
    """Its exp never returns."""

    name = "hanging"

    def planted(self, right: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **kwargs: threading.Event().wait()


class Interrupting(Wrong):
    """Wrong, and once ./reports holds what it was caught at, it sends to the process that started its worker what Ctrl-C sends."""

    name = "interrupting"
    sent = False

    def literal(self, literal: Literal, requires_grad: bool) -> Any:
        events = Path("reports", "events.jsonl")
        if not self.sent and events.exists() and b'"type":"divergence"' in events.read_bytes():
            self.sent = True
            os.kill(os.getppid(), signal.SIGINT)
        return super().literal(literal, requires_grad)


class Broken(Reference):
    """Not a subject's but a harness's failure: what it says about itself cannot be walked."""

    name = "broken"

    def __init__(self, device: str = "cpu") -> None:
        self.device = device

    def bits(self, tensor: Any) -> Any:
        raise LookupError("no bits today")


class Mute(Reference):
    """Cannot do anything."""

    name = "mute"

    def __init__(self, device: str = "cpu") -> None:
        self.device = device

    def literal(self, literal: Literal, requires_grad: bool) -> Any:
        raise NotImplementedError("nothing is implemented here")


def refusing(device: str) -> Any:
    """A subject that cannot be made."""
    raise RuntimeError("no such hardware\nand a second line")


def dying(device: str) -> Any:
    """A subject whose making ends the process."""
    os.abort()
