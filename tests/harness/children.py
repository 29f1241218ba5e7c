"""What the isolation tests run in children: functions that crash, hang, print, and return too much."""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def add(a: int, b: int) -> int:
    return a + b


def echo(value: Any) -> Any:
    return value


def pid() -> int:
    return os.getpid()


def environment(name: str) -> str | None:
    return os.environ.get(name)


def standard_input() -> bytes:
    return os.read(0, 10)


def search_path() -> list[str]:
    return sys.path


def loaded_from(module: str) -> str:
    return str(sys.modules[module].__file__)


def abort() -> None:
    print("about to abort", file=sys.stderr, flush=True)
    os.abort()


def segfault() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def leave(code: int) -> None:
    os._exit(code)


def loop_for_ever() -> None:
    while True:
        pass


def stall() -> None:
    threading.Event().wait()


def fork_and_abort() -> None:
    """Its child outlives it, and holds every descriptor that it had."""
    if os.fork() == 0:
        threading.Event().wait()
    os.abort()


def fail(text: str) -> None:
    raise LookupError(text)


def exit_politely() -> None:
    sys.exit(3)


def print_from_native_code() -> str:
    print("from Python", flush=True)
    os.write(1, b"\x00\x00\x00\x05from a descriptor\n")
    ctypes.CDLL(None).puts(b"from C")
    ctypes.CDLL(None).fflush(None)
    return "printed"


def fill_standard_error(size: int) -> None:
    os.write(2, b"first")
    for _ in range(size // 1000):
        os.write(2, b"." * 1000)
    os.write(2, b"last")


def ones(count: int) -> np.ndarray:
    return np.ones(count, np.uint8)


def unpicklable() -> Any:
    return lambda: None


def count_to(end: int, report: Callable[[Any], None]) -> int:
    for i in range(end):
        report(i)
    return end


def interrupt_self() -> str:
    os.kill(os.getpid(), signal.SIGINT)
    return "alive"


#: what the function of a batch does for each program; those without a behaviour return their own number
BEHAVIOURS = {"abort": os.abort, "segfault": segfault, "stall": stall}


def run_programs(programs: Sequence[int], guilty: dict[int, str], report: Callable[[Any], None], tell: bool = True) -> list[int]:
    """Does what ``guilty`` says for its programs. ``tell``: whether each is reported before it runs."""
    done = []
    for program in programs:
        if tell:
            report(program)
        BEHAVIOURS.get(guilty.get(program, ""), int)()
        done.append(program)
    return done


def abort_once(programs: Sequence[int], guilty: int, marker: str, report: Callable[[Any], None]) -> list[int]:
    """Aborts the first time it meets ``guilty``, and leaves a file by which it knows the second time."""
    for program in programs:
        report(program)
        if program == guilty and not os.path.exists(marker):
            open(marker, "x").close()
            os.abort()
    return list(programs)


def abort_after(programs: Sequence[int], first: int, then: int, report: Callable[[Any], None]) -> list[int]:
    """``first`` breaks something which only ``then`` trips over."""
    broken = False
    for program in programs:
        report(program)
        broken |= program == first
        if broken and program == then:
            os.abort()
    return list(programs)


def fail_at(programs: Sequence[int], at: int) -> list[int]:
    if at in programs:
        raise LookupError(f"program {at}")
    return list(programs)
