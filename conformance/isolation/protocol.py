"""Frames between a parent and its worker: four bytes of length, big-endian, then a pickle of protocol 5.

Why pickle and not JSON: what travels are observations, whose arrays must keep every bit (NaN payloads, -0.0, bfloat16), and
programs by the thousand; JSON would need a second encoding for each and take longer than the program ran. Both ends are the same
user's processes and the worker runs whatever code the parent names, so unpickling gives nobody a power that they lacked.
Protocol 5 is read by every Python since 3.8, so the two ends may be different versions of Python.

Messages, all dicts: to the worker ``{"function": "package.module:name", "kwargs": {…}}``; from it ``{"ready": "3.12.1"}`` once,
then for each task ``{"started": True}`` when the function is imported, any number of ``{"progress": value}``, and one of
``{"ok": result}`` or ``{"error": type, "text": …, "traceback": …}``.
"""

from __future__ import annotations

import os
import pickle
from typing import Any, Final

Message = dict[str, Any]

_HEADER: Final = 4
_LONGEST: Final = 2 ** (8 * _HEADER) - 1
_CHUNK: Final = 1 << 20


class FrameTooLong(ValueError):
    """A message of more than 4 GiB. Cut the batch, or return less per program."""


def encode(message: Message) -> bytes:
    """One frame. Raises what pickle raises for a message it cannot hold, and ``FrameTooLong``."""
    body = pickle.dumps(message, protocol=5)
    if len(body) > _LONGEST:
        raise FrameTooLong(f"a message of {len(body)} bytes, {_LONGEST} at most: cut the batch, or return less per program")
    return len(body).to_bytes(_HEADER, "big") + body


class FrameBuffer:
    """Bytes as they arrive, messages as they become whole."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> None:
        self._bytes += data

    def next(self) -> Message | None:
        """The next message, taken out; None while it isn't whole. Raises what unpickling raises."""
        end = _HEADER + int.from_bytes(self._bytes[:_HEADER], "big")
        if len(self._bytes) < max(end, _HEADER):
            return None
        body = bytes(self._bytes[_HEADER:end])
        del self._bytes[:end]
        return _message(body)


def _message(body: bytes) -> Message:
    message = pickle.loads(body)
    if not isinstance(message, dict):
        raise pickle.UnpicklingError(f"a frame holds a dict, this one a {type(message).__name__}")
    return message


def write_all(descriptor: int, data: bytes) -> None:
    """Every byte, though a pipe may take fewer at a time."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest[:_CHUNK]) :]


def read_some(descriptor: int) -> bytes:
    """What is there, at least one byte; empty at the end of the stream."""
    return os.read(descriptor, _CHUNK)
