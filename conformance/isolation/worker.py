"""The child: reads tasks from its standard input, runs one at a time, answers on its standard output.

``python -m conformance.isolation.worker`` serves until its input closes. A task's function may have a parameter ``report``: it
is then handed a callable that sends a value to the parent at once. Report the program that is about to run: it is what the parent
knows after a crash, and each report starts the parent's no-progress clock anew.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import inspect
import os
import platform
import queue
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from typing import Any

from conformance.isolation.protocol import FrameBuffer, Message, encode, read_some, write_all


class Channel:
    """The way to the parent. Reports may come from any thread, frames must not mix."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()

    def send(self, frame: bytes) -> None:
        with self._lock:
            write_all(self._descriptor, frame)

    def report(self, value: Any) -> None:
        self.send(encode({"progress": value}))


def serve() -> None:
    """Answers tasks until the parent closes our input. Never returns normally: the process ends with its input."""
    inward, outward = _take_streams()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; the parent decides what it means
    faulthandler.enable()
    warnings.simplefilter("ignore")  # what programs are warned of is nobody's concern: they are drawn to be odd
    _forbid_core_files()
    tasks: queue.SimpleQueue[Message] = queue.SimpleQueue()
    threading.Thread(target=_read_tasks, args=(inward, tasks), daemon=True).start()
    channel = Channel(outward)
    channel.send(encode({"ready": platform.python_version()}))
    while True:
        channel.send(answer(tasks.get(), channel))


def answer(task: Message, channel: Channel) -> bytes:
    """Runs one task. Whatever the function raises is the reply, also SystemExit, also a result that cannot be pickled."""
    try:
        function, kwargs = resolve(task["function"]), dict(task["kwargs"])
        channel.send(encode({"started": True}))
        if takes_report(function):
            kwargs["report"] = channel.report
        return encode({"ok": function(**kwargs)})
    except BaseException as error:
        text = "".join(traceback.format_exception(error))
        return encode({"error": type(error).__name__, "text": _text(error), "traceback": text})


def resolve(name: str) -> Callable[..., Any]:
    """The function that ``package.module:name`` names. Raises ValueError for another form, ImportError, AttributeError."""
    module, colon, path = name.partition(":")
    if not (module and colon and path):
        raise ValueError(f"{name!r} names no function: write package.module:name")
    found: Any = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    if not callable(found):
        raise ValueError(f"{name!r} is a {type(found).__name__}, no function")
    return found  # type: ignore[no-any-return]  # callable() does not narrow Any


def takes_report(function: Callable[..., Any]) -> bool:
    return "report" in inspect.signature(function).parameters


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # a subject's own exception may fail to print; its type still tells
        return "(its text cannot be read)"


def _take_streams() -> tuple[int, int]:
    """Our own copies of standard input and output; the originals are re-pointed.

    Native code may print to descriptor 1 whenever it likes: that goes to standard error, or it would corrupt the frames. Whatever reads
    descriptor 0 finds it empty.
    """
    inward, outward = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return inward, outward


def _read_tasks(inward: int, tasks: queue.SimpleQueue[Message]) -> None:
    """Runs beside the tasks, so that a worker whose parent is gone ends at once, whatever its task is doing."""
    buffer = FrameBuffer()
    while data := read_some(inward):
        buffer.feed(data)
        while task := buffer.next():
            tasks.put(task)
    sys.stderr.flush()
    os._exit(0)


def _forbid_core_files() -> None:
    """A crash is an ordinary result here, and leaves no file in the folder of whoever runs us."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


if __name__ == "__main__":
    serve()
