"""How a worker was lost, and what else a call in one can raise."""

from __future__ import annotations

from typing import Any, Literal


class WorkerLost(Exception):
    """The child is gone and its task with it. ``reason`` is one line, ``stderr`` the last 4 KB, ``last_progress`` what it reported last."""

    kind: Literal["crash", "hang"]

    def __init__(self, reason: str, stderr: str = "", last_progress: Any = None) -> None:
        super().__init__(reason, stderr, last_progress)
        self.reason, self.stderr, self.last_progress = reason, stderr, last_progress

    def __str__(self) -> str:
        return f"{self.reason}\n{self.stderr}".rstrip()


class WorkerDied(WorkerLost):
    """The child ended by itself. ``returncode`` is negative for a signal; None where only an executor knows."""

    kind = "crash"

    def __init__(self, reason: str, stderr: str = "", last_progress: Any = None, returncode: int | None = None) -> None:
        super().__init__(reason, stderr, last_progress)
        self.returncode = returncode


class WorkerHung(WorkerLost):
    """The child showed no progress for the seconds allowed and was ended; ``stderr`` tells where each of its threads stood."""

    kind = "hang"


class RemoteError(Exception):
    """The function raised. ``type`` is the exception's name, ``text`` its message, ``traceback`` as the child printed it."""

    def __init__(self, type: str, text: str, traceback: str = "") -> None:
        super().__init__(type, text, traceback)
        self.type, self.text, self.traceback = type, text, traceback

    def __str__(self) -> str:
        return f"{self.type}: {self.text}"


class WorkerUnusable(Exception):
    """No child can be started, or it was closed meanwhile. One line: what is wrong, what to do."""
