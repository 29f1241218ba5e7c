"""Children that crash, hang, print and return too much; what of it reaches the parent, and who is blamed."""

import contextlib
import faulthandler
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conformance.isolation import (
    Pool,
    RemoteError,
    Worker,
    WorkerDied,
    WorkerHung,
    WorkerLost,
    WorkerUnusable,
    cut,
    process_pool,
    run_on_executor,
)
from conformance.isolation.protocol import FrameBuffer, encode, write_all

LONG = 60.0  # seconds that no test here ever waits for
SHORT = 0.3  # seconds without progress, for children that never make any


def child(name: str) -> str:
    return f"tests.harness.children:{name}"


@pytest.fixture
def worker() -> Iterator[Worker]:
    with Worker() as worker:
        yield worker


def call(worker: Worker, name: str, timeout: float = LONG, /, **kwargs: Any) -> Any:
    return worker.call(child(name), kwargs, timeout)


def lost(worker: Worker, name: str, timeout: float = LONG, /, **kwargs: Any) -> WorkerLost:
    """How the worker was lost; checks that no process is left and that the worker serves again."""
    call(worker, "pid")
    before = worker.pid
    with pytest.raises(WorkerLost) as info:
        call(worker, name, timeout, **kwargs)
    assert worker.pid is None and before is not None
    assert_ended(before)
    assert call(worker, "add", a=1, b=2) == 3
    return info.value


def assert_ended(pid: int) -> None:
    """Neither the process nor its zombie is there, and nothing of its group lives on."""
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert_soon(lambda: pid not in groups_alive())


def groups_alive() -> set[int]:
    """The process groups that have a member other than a zombie, which is left to whoever adopted it."""
    alive = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it may end while we look
            state, _, group = stat.read_text().rpartition(")")[2].split()[:3]
            if state != "Z":
                alive.add(int(group))
    return alive


def assert_soon(condition: Callable[[], bool]) -> None:
    """A killed process ends at no known moment: polls, bounded by a generous number of turns and not by a clock's reading."""
    pause = threading.Event()
    assert any(condition() or pause.wait(0.01) for _ in range(3000))


# --- frames -----------------------------------------------------------------------------------------------------------


def test_messages_survive_any_cut_of_their_bytes() -> None:
    messages: list[dict[str, Any]] = [{"progress": 1}, {"ok": "x" * 300}, {"ok": None}]
    stream, buffer, read = b"".join(map(encode, messages)), FrameBuffer(), []
    for i in range(len(stream)):
        buffer.feed(stream[i : i + 1])
        while message := buffer.next():
            read.append(message)
    assert read == messages


def test_a_frame_is_written_whole_though_the_pipe_takes_little_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = bytearray()

    def take_three(descriptor: int, data: memoryview) -> int:
        taken.extend(data[:3])
        return len(data[:3])

    monkeypatch.setattr(os, "write", take_three)
    write_all(1, b"0123456789")
    assert taken == b"0123456789"


# --- one worker ---------------------------------------------------------------------------------------------------------


def test_a_call_returns_what_the_function_returns(worker: Worker) -> None:
    assert call(worker, "add", a=2, b=3) == 5


def test_calls_share_one_child_which_is_not_us(worker: Worker) -> None:
    assert call(worker, "pid") == call(worker, "pid") == worker.pid != os.getpid()


def test_every_bit_of_an_array_survives(worker: Worker) -> None:
    bits = np.array([0x7FF0000000000001, 0x8000000000000000, 0xFFF8000000000123], np.uint64)
    assert call(worker, "echo", value=bits.view(np.float64)).view(np.uint64).tolist() == bits.tolist()


def test_a_result_of_many_megabytes_arrives_whole(worker: Worker) -> None:
    assert int(call(worker, "ones", count=50_000_000).sum()) == 50_000_000


def test_an_argument_of_many_megabytes_arrives_whole(worker: Worker) -> None:
    assert len(call(worker, "echo", value=b"x" * 20_000_000)) == 20_000_000


def test_prints_of_native_code_corrupt_no_frame(worker: Worker) -> None:
    assert [call(worker, "print_from_native_code"), call(worker, "add", a=1, b=1)] == ["printed", 2]


def test_a_task_finds_its_standard_input_empty(worker: Worker) -> None:
    assert call(worker, "standard_input") == b""


def test_the_environment_is_ours_with_what_was_added() -> None:
    with Worker(env={"CONFORMANCE_TEST_VARIABLE": "7"}) as worker:
        found = [call(worker, "environment", name=name) for name in ("CONFORMANCE_TEST_VARIABLE", "PATH")]
    assert found == ["7", os.environ["PATH"]]


def test_reports_arrive_in_order_before_the_result(worker: Worker) -> None:
    seen: list[int] = []
    assert worker.call(child("count_to"), {"end": 1000}, LONG, seen.append) == 1000
    assert seen == list(range(1000))


def test_an_interrupt_does_not_reach_the_child(worker: Worker) -> None:
    assert call(worker, "interrupt_self") == "alive"


@pytest.mark.parametrize(
    ("name", "kwargs", "type", "text"),
    [
        ("fail", {"text": "what went wrong"}, "LookupError", "what went wrong"),
        ("exit_politely", {}, "SystemExit", "3"),
        ("no_such_function", {}, "AttributeError", "no_such_function"),
        ("BEHAVIOURS", {}, "ValueError", "no function"),
        ("add", {"a": 1}, "TypeError", "missing"),
        ("unpicklable", {}, "", "lambda"),
    ],
)
def test_an_exception_comes_back_and_the_child_lives_on(worker: Worker, name: str, kwargs: dict[str, Any], type: str, text: str) -> None:
    before = call(worker, "pid")
    with pytest.raises(RemoteError) as info:
        call(worker, name, **kwargs)
    assert type in info.value.type and text in info.value.text and "Traceback" in info.value.traceback
    assert call(worker, "pid") == before


@pytest.mark.parametrize("name", ["children", "children:", ":add", "no_such_module_anywhere:add"])
def test_what_names_no_function_is_refused_in_words(worker: Worker, name: str) -> None:
    with pytest.raises(RemoteError, match=r"names no function|No module named"):
        worker.call(name, {}, LONG)


@pytest.mark.parametrize(("name", "reason"), [("abort", "SIGABRT"), ("segfault", "SIGSEGV")])
def test_a_crash_names_its_signal_and_where_it_happened(worker: Worker, name: str, reason: str) -> None:
    death = lost(worker, name)
    assert isinstance(death, WorkerDied) and death.reason == f"killed by {reason}" and f"in {name}" in death.stderr


def test_an_exit_names_its_code(worker: Worker) -> None:
    assert lost(worker, "leave", code=7).reason == "exit code 7"


def test_a_crash_tells_what_was_last_reported(worker: Worker) -> None:
    assert lost(worker, "run_programs", programs=range(10), guilty={6: "abort"}).last_progress == 6


def test_a_crash_before_any_report_tells_of_no_earlier_task(worker: Worker) -> None:
    call(worker, "count_to", end=3)
    assert lost(worker, "abort").last_progress is None


@pytest.mark.parametrize("name", ["loop_for_ever", "stall"])
def test_a_hang_is_ended_and_tells_where_it_stood(worker: Worker, name: str) -> None:
    death = lost(worker, name, SHORT)
    assert isinstance(death, WorkerHung) and death.reason == "no progress for 0.3 s" and f"in {name}" in death.stderr


def test_a_crash_is_no_hang_though_a_grandchild_holds_the_pipes(worker: Worker) -> None:
    assert lost(worker, "fork_and_abort", SHORT).reason == "killed by SIGABRT"


def test_only_the_end_of_standard_error_is_kept(worker: Worker) -> None:
    call(worker, "fill_standard_error", size=1_000_000)
    with pytest.raises(WorkerDied) as info:
        call(worker, "leave", code=1)
    assert len(info.value.stderr) <= 4096 and info.value.stderr.endswith("last") and "first" not in info.value.stderr


def test_an_exception_in_the_callback_ends_the_child(worker: Worker) -> None:
    def refuse(value: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        worker.call(child("count_to"), {"end": 10}, LONG, refuse)
    assert worker.pid is None and call(worker, "add", a=1, b=2) == 3


def test_closing_from_another_thread_ends_a_call() -> None:
    worker = Worker()
    call(worker, "pid")
    before = worker.pid
    thread = threading.Thread(target=worker.close)
    with pytest.raises(WorkerUnusable, match="closed while it ran"):
        worker.call(child("run_programs"), {"programs": [1], "guilty": {1: "stall"}}, LONG, lambda program: thread.start())
    thread.join()
    assert before is not None
    assert_ended(before)


def test_a_closed_worker_refuses_in_words() -> None:
    worker = Worker()
    worker.close()
    with pytest.raises(WorkerUnusable, match="make a new one"):
        call(worker, "pid")


def test_a_worker_ends_when_its_parent_does() -> None:
    script = f"""
import os, signal
from conformance.isolation import Worker
worker = Worker()
worker.start()
print(worker.pid, flush=True)
worker.call({child("run_programs")!r}, {{"programs": [1], "guilty": {{1: "stall"}}}}, 60, lambda _: os.kill(os.getpid(), signal.SIGKILL))
"""
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    output, errors = parent.communicate()  # returns only when nobody holds the pipes: the worker's own are others
    assert parent.returncode == -signal.SIGKILL, errors
    assert_soon(lambda: int(output) not in groups_alive())


# --- other interpreters ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A virtual environment with nothing in it but a module called torch."""
    folder = tmp_path_factory.mktemp("foreign")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "torch.py").write_text("def answer():\n    return 42\n")
    return str(folder / "bin" / "python")


def test_a_foreign_interpreter_runs_its_own_torch(foreign: str) -> None:
    with Worker(foreign) as worker:
        assert worker.call("torch:answer", {}, LONG) == 42


def test_a_foreign_interpreter_gets_our_packages_but_not_our_path(foreign: str) -> None:
    with Worker(foreign) as worker:
        with pytest.raises(RemoteError, match="No module named 'numpy'"):
            worker.call("numpy:zeros", {}, LONG)
        assert worker.call("conformance.program:contiguous_strides", {"shape": (2, 3)}, LONG) == (3, 1)


def test_an_interpreter_that_is_not_there_is_refused_in_words() -> None:
    with (
        pytest.raises(WorkerUnusable, match="no interpreter '/nowhere/python': give the path of a Python"),
        Worker("/nowhere/python") as worker,
    ):
        worker.start()


def test_what_is_no_interpreter_is_refused_in_words() -> None:
    with pytest.raises(WorkerUnusable, match=r"false cannot run a worker \(exit code 1\)"):
        Worker("false").start()


# --- batches: one contract for pools and executors ------------------------------------------------------------------------

Runner = Callable[..., None]


def on_pool(function: str, batches: Iterable[dict[str, Any]], timeout: float, **callbacks: Any) -> None:
    with Pool(2) as pool:
        pool.map_batches(function, batches, timeout, **callbacks)


def on_processes(function: str, batches: Iterable[dict[str, Any]], timeout: float, **callbacks: Any) -> None:
    run_on_executor(lambda: process_pool(2), function, batches, timeout, in_flight=2, **callbacks)


RUNNERS = pytest.mark.parametrize("run", [on_pool, on_processes])


def outcome(
    run: Runner, function: str, batches: Iterable[dict[str, Any]], timeout: float = LONG
) -> tuple[list[int], list[tuple[int, str]]]:
    """The programs that returned, and who was blamed for what."""
    done: list[int] = []
    deaths: list[tuple[int, str]] = []
    run(function, batches, timeout, on_result=done.extend, on_death=lambda program, *, kind, detail: deaths.append((program, kind)))
    return sorted(done), sorted(deaths)


def batches_of(size: int, count: int, **constants: Any) -> Iterator[dict[str, Any]]:
    return ({"programs": range(start, min(start + size, count)), **constants} for start in range(0, count, size))


@RUNNERS
@pytest.mark.parametrize("tell", [True, False])
def test_exactly_the_guilty_programs_are_isolated(run: Runner, tell: bool) -> None:
    guilty = {3: "abort", 13: "segfault", 14: "abort"}
    innocent = [i for i in range(24) if i not in guilty]
    assert outcome(run, child("run_programs"), batches_of(8, 24, guilty=guilty, tell=tell)) == (innocent, [(i, "crash") for i in guilty])


@RUNNERS
def test_a_hang_is_isolated_as_a_crash_is(run: Runner) -> None:
    batches = batches_of(4, 8, guilty={5: "stall", 6: "abort"})
    assert outcome(run, child("run_programs"), batches, 1.0) == ([0, 1, 2, 3, 4, 7], [(5, "hang"), (6, "crash")])


@pytest.mark.parametrize(("run", "named"), [(on_pool, 5), (on_processes, 0)])  # an executor does not know who it was
def test_a_program_that_survives_alone_is_flaky_and_its_result_counts(run: Runner, named: int, tmp_path: Any) -> None:
    batches = batches_of(8, 8, guilty=5, marker=str(tmp_path / "met"))
    assert outcome(run, child("abort_once"), batches) == (list(range(8)), [(named, "flaky")])


def test_a_lone_program_that_survives_the_second_time_is_flaky(tmp_path: Any) -> None:
    batches = batches_of(1, 3, guilty=1, marker=str(tmp_path / "met"))
    assert outcome(on_pool, child("abort_once"), batches) == ([0, 1, 2], [(1, "flaky")])


def test_a_program_that_trips_over_its_neighbour_is_not_blamed_alone() -> None:
    assert outcome(on_pool, child("abort_after"), batches_of(8, 8, first=2, then=5)) == (list(range(8)), [(5, "flaky")])


def test_batches_may_hold_lists_and_one_program() -> None:
    batches = [{"programs": [7], "guilty": {7: "abort"}}, {"programs": [9, 8], "guilty": {}}]
    assert outcome(on_pool, child("run_programs"), batches) == ([8, 9], [(7, "crash")])


def test_the_detail_of_a_death_says_how_and_where() -> None:
    details: list[WorkerLost] = []
    with Pool(1) as pool:
        pool.map_batches(
            child("run_programs"),
            batches_of(4, 4, guilty={2: "segfault"}),
            LONG,
            on_result=lambda result: None,
            on_death=lambda program, *, kind, detail: details.append(detail),
        )
    assert [(d.reason, d.last_progress, "in segfault" in d.stderr) for d in details] == [("killed by SIGSEGV", 2, True)]


@RUNNERS
def test_an_exception_of_the_function_is_raised_here(run: Runner) -> None:
    with pytest.raises((RemoteError, LookupError), match="program 5"):
        outcome(run, child("fail_at"), batches_of(4, 400, at=5))


@RUNNERS
def test_a_batch_without_programs_is_refused_in_words(run: Runner) -> None:
    with pytest.raises(ValueError, match="has no programs"):
        outcome(run, child("run_programs"), [{"programs": []}])


def test_batches_are_taken_only_as_results_are_handed_over(worker: Worker) -> None:
    """The first result is handled slowly: a bystander answers 100 calls meanwhile."""
    taken: list[int] = []
    ahead: list[int] = []

    def source() -> Iterator[dict[str, Any]]:
        for i in range(200):
            taken.append(i)
            yield {"programs": [i], "guilty": {}}

    def handle(result: list[int]) -> None:
        if not ahead:
            assert [call(worker, "add", a=i, b=0) for i in range(100)] == list(range(100))
        ahead.append(len(taken) - len(ahead))

    with Pool(2) as pool:
        pool.map_batches(child("run_programs"), source(), LONG, on_result=handle, on_death=unexpected)
    assert len(ahead) == 200 and max(ahead) <= 7  # one is being handled, four wait, each of the two threads holds another


def unexpected(program: Any, *, kind: str, detail: WorkerLost) -> None:
    raise AssertionError(f"{program}: {kind}: {detail}")


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C as at a terminal; the workers of pytest-xdist ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_keeps_what_was_found_and_ends_every_worker() -> None:
    """The interrupt comes with the first result, when three more wait: two workers that ask for a sixth batch have put down four."""
    done: list[int] = []
    sixth_was_asked_for = threading.Event()

    def source() -> Iterator[dict[str, Any]]:
        for place, batch in enumerate(batches_of(4, 10**9, guilty={})):
            if place == 5:
                sixth_was_asked_for.set()
            yield batch

    def keep(result: list[int]) -> None:
        done.extend(result)
        if len(done) == 4:
            sixth_was_asked_for.wait()
            signal.raise_signal(signal.SIGINT)

    with Pool(2) as pool, pytest.raises(KeyboardInterrupt):
        pool.map_batches(child("run_programs"), source(), LONG, on_result=keep, on_death=unexpected)
    assert len(done) == len(set(done)) >= 16 and all(worker.pid is None for worker in pool._workers)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_reaches_a_parent_whose_workers_all_hang() -> None:
    """A process of its own, interrupted from outside while it waits."""
    script = f"""
from conformance.isolation import Pool
def batches():
    yield {{"programs": [1], "guilty": {{}}}}
    print("waiting", flush=True)
    yield {{"programs": [2], "guilty": {{2: "stall"}}}}
pool = Pool(1)
done = []
try:
    pool.map_batches({child("run_programs")!r}, batches(), 60, on_result=done.extend, on_death=print)
except KeyboardInterrupt:
    print("kept", done, [worker.pid for worker in pool._workers])
"""
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None and parent.stdout.readline() == "waiting\n"
    parent.send_signal(signal.SIGINT)
    assert parent.communicate()[0] == "kept [1] [None]\n"


def test_an_executor_whose_workers_cannot_start_blames_no_program() -> None:
    with pytest.raises(WorkerUnusable, match="before they were given a program"):
        run_on_executor(
            lambda: ProcessPoolExecutor(1, initializer=os._exit, initargs=(1,)),
            child("run_programs"),
            batches_of(4, 8, guilty={}),
            LONG,
            on_result=print,
            on_death=unexpected,
        )


def test_threads_of_this_process_serve_as_an_executor_and_are_never_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    watched: list[float] = []
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda timeout, exit: watched.append(timeout))

    def on_threads(function: str, batches: Iterable[dict[str, Any]], timeout: float, **callbacks: Any) -> None:
        run_on_executor(lambda: ThreadPoolExecutor(2), function, batches, timeout, **callbacks)

    assert outcome(on_threads, child("run_programs"), batches_of(3, 10, guilty={})) == (list(range(10)), [])
    assert watched == []


@pytest.mark.parametrize(
    ("programs", "suspect", "pieces"),
    [
        (range(8), None, [range(4), range(4, 8)]),
        (range(8), 0, [range(1), range(1, 8)]),
        (range(8), 5, [range(5), range(5, 6), range(6, 8)]),
        ([3, 1, 2], 2, [[3, 1], [2]]),
        ([3, 1, 2], 99, [[3], [1, 2]]),
        (range(2), None, [range(1), range(1, 2)]),
    ],
)
def test_a_batch_is_cut_at_the_program_last_reported(programs: Any, suspect: Any, pieces: list[Any]) -> None:
    assert cut(programs, suspect) == pieces
