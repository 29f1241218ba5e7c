"""The parent's side of one worker: start it, call a function in it, and say exactly how it was lost when it was."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, Final

from conformance.isolation.losses import RemoteError, WorkerDied, WorkerHung, WorkerLost, WorkerUnusable
from conformance.isolation.protocol import FrameBuffer, Message, encode, read_some, write_all

PACKAGES: Final = ("conformance", "refgrad")

#: seconds for a fresh interpreter, and then for importing the function's module: torch takes many seconds from a cold disk
START_SECONDS: Final = 120.0

_TAIL_BYTES: Final = 4096
_LAST_WORDS_SECONDS: Final = 2.0


class Worker:
    """One child process, started on the first call and again after it was lost.

    ``interpreter`` is a path or a command; ``env`` is added to our environment; ``path`` goes before the child's ``sys.path``.
    Our own interpreter gets our whole ``sys.path``, as with multiprocessing; a foreign one gets this project's packages and ``path`` only.
    ``close`` may come from another thread; everything else is one thread's. POSIX only.
    """

    def __init__(self, interpreter: str = sys.executable, env: Mapping[str, str] | None = None, path: Sequence[str] = ()) -> None:
        self.interpreter = interpreter
        self._env = {**os.environ, **(env or {})}
        self._path = list(path)
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False
        self._changing = threading.Lock()  # held while _process is replaced or signalled
        self._in_use = threading.RLock()  # held through a call: only its thread closes the pipes it reads

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """The child's process id; None while there is none."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Starts the child if there is none. Raises ``WorkerUnusable``."""
        with self._in_use:
            if self._process is None:
                self._launch()
                self._greet()

    def _launch(self) -> None:
        command = [_executable(self.interpreter), str(Path(__file__).with_name("launch.py")), self._setup()]
        with self._changing:
            if self._closed:
                raise WorkerUnusable("the worker was closed: make a new one")
            # a session of its own: ending it can end what it started too, and a Ctrl-C at the terminal does not reach it
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self._env, start_new_session=True
            )
            self._buffer, self._progress, self._tail = FrameBuffer(), None, _Tail(_pipe(self._process.stderr))

    def _greet(self) -> None:
        try:
            self._receive(START_SECONDS)
        except WorkerLost as lost:
            self._refuse_if_closed()
            raise WorkerUnusable(f"{self.interpreter} cannot run a worker ({lost.reason}): {_last_line(lost.stderr)}") from lost

    def call(self, function: str, kwargs: Mapping[str, Any], timeout: float, on_progress: Callable[[Any], object] | None = None) -> Any:
        """What ``function`` (``package.module:name``) returns in the child.

        ``timeout`` is in seconds without progress, not for the whole call. Raises ``RemoteError``, ``WorkerDied``, ``WorkerHung``,
        ``WorkerUnusable``. After an exception of ``on_progress``, or a KeyboardInterrupt, the child is ended.
        """
        task = encode({"function": function, "kwargs": dict(kwargs)})
        with self._in_use:
            self.start()
            try:
                return self._converse(task, timeout, on_progress)
            except RemoteError:
                raise
            except BaseException:
                self._end()  # its reply to this task must never be taken for the reply to the next
                raise

    def close(self) -> None:
        """Ends the child, whatever it is doing, and leaves no zombie. The worker cannot be used again."""
        with self._changing:
            self._closed = True
            if self._process is not None:
                _kill(self._process)  # makes a call in another thread return
        with self._in_use:
            self._end()

    # --- the conversation ---------------------------------------------------------------------------------------------

    def _converse(self, task: bytes, timeout: float, on_progress: Callable[[Any], object] | None) -> Any:
        self._progress = None
        self._send(task)
        message = self._receive(max(timeout, START_SECONDS))  # the import of the function counts as a start
        while True:
            if "ok" in message:
                return message["ok"]
            if "error" in message:
                raise RemoteError(message["error"], message["text"], message["traceback"])
            if "progress" in message:
                self._progress = message["progress"]
                if on_progress:
                    on_progress(self._progress)
            message = self._receive(timeout)

    def _send(self, frame: bytes) -> None:
        try:
            write_all(self._require().stdin.fileno(), frame)  # type: ignore[union-attr]  # always a pipe
        except OSError:
            raise self._lost(timeout=None) from None

    def _receive(self, timeout: float) -> Message:
        output = _pipe(self._require().stdout)
        while True:
            try:
                message = self._buffer.next()
            except Exception as error:  # unpickling runs other people's code
                raise RemoteError(type(error).__name__, f"the worker's message cannot be read here: {error}") from error
            if message is not None:
                return message
            if not _readable(output.fileno(), timeout):
                raise self._lost(timeout)
            data = read_some(output.fileno())
            if not data:
                raise self._lost(timeout=None)
            self._buffer.feed(data)

    # --- endings ------------------------------------------------------------------------------------------------------

    def _require(self) -> subprocess.Popen[bytes]:
        process = self._process
        if process is None:
            self._refuse_if_closed()
            raise WorkerUnusable("the worker has not been started")
        return process

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise WorkerUnusable("the worker was closed while it ran")

    def _lost(self, timeout: float | None) -> WorkerLost:
        """Ends what is left and says how it was lost. ``timeout`` is given where it did not show progress in that time.

        A child that died while a process it had forked keeps the pipe open looks like one that hangs; its exit status tells them apart.
        """
        process = self._require()
        hung = timeout is not None and process.poll() is None
        if hung:
            _ask_where(process)
        self._end()
        self._refuse_if_closed()
        if hung:
            return WorkerHung(f"no progress for {timeout:g} s", self._tail.text(), self._progress)
        return WorkerDied(_ending(process.returncode), self._tail.text(), self._progress, process.returncode)

    def _end(self) -> None:
        with self._changing:
            process, self._process = self._process, None
        if process is None:
            return
        _kill(process)
        process.wait()
        self._tail.finish()
        for stream in (process.stdin, process.stdout, process.stderr):
            with contextlib.suppress(OSError):
                _pipe(stream).close()

    def _setup(self) -> str:
        own = os.path.abspath(self.interpreter) == os.path.abspath(sys.executable)
        path = [os.path.abspath(entry) for entry in (*self._path, *(sys.path if own else ()))]
        return json.dumps({"path": path, "packages": _package_folders()})


class _Tail:
    """The last bytes of a stream, which a thread keeps empty so that the child never waits for us."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._bytes = bytearray()
        self._thread = threading.Thread(target=self._drain, args=(stream.fileno(),), daemon=True)
        self._thread.start()

    def _drain(self, descriptor: int) -> None:
        with contextlib.suppress(OSError):
            while data := read_some(descriptor):
                self._bytes = (self._bytes + data)[-_TAIL_BYTES:]

    def finish(self) -> None:
        self._thread.join(_LAST_WORDS_SECONDS)  # bounded: a process that left the group may keep the pipe open

    def text(self) -> str:
        return self._bytes.decode("utf-8", "replace").strip()


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Ends the child and what it started: the group is its own, and nobody else's."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _ask_where(process: subprocess.Popen[bytes]) -> None:
    """SIGABRT makes faulthandler write where every thread stands, which is the evidence of a hang."""
    process.send_signal(signal.SIGABRT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_LAST_WORDS_SECONDS)


def _readable(descriptor: int, timeout: float) -> bool:
    """Whether bytes (or the end) come within ``timeout`` seconds. poll, since select fails beyond descriptor 1023."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(timeout * 1000))


def _executable(interpreter: str) -> str:
    found = shutil.which(os.path.expanduser(interpreter))
    if found is None:
        raise WorkerUnusable(f"no interpreter {interpreter!r}: give the path of a Python, such as a virtual environment's bin/python")
    return found


def _package_folders() -> dict[str, str]:
    folders = {}
    for name in PACKAGES:
        spec = find_spec(name)
        if spec is not None and spec.submodule_search_locations:
            folders[name] = str(Path(next(iter(spec.submodule_search_locations))).parent)
    return folders


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise ValueError("a worker's three streams are pipes")
    return stream


def _ending(returncode: int) -> str:
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return f"killed by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"killed by signal {-returncode}"


def _last_line(text: str) -> str:
    return text.splitlines()[-1] if text else "it said nothing"
