"""Batches on any ``concurrent.futures.Executor``: a process pool, or the one of a Dask cluster's client.

An executor says only that a worker was lost, not whose program did it, and a process pool takes every batch in flight with it. So
each of those is run again, by itself, and cut as in a pool of ours. Where all survive that, somebody was flaky and nobody knows who:
the first program in flight is named, and the detail says so.
"""

from __future__ import annotations

import contextlib
import faulthandler
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Final

from conformance.isolation.batches import Batch, OnDeath, OnResult, check_batch, run_batch
from conformance.isolation.losses import WorkerDied, WorkerHung, WorkerLost, WorkerUnusable
from conformance.isolation.worker import resolve, takes_report


def process_pool(jobs: int) -> ProcessPoolExecutor:
    """Local processes, freshly started ones (a forked torch is not), which leave Ctrl-C to the parent."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(jobs, mp_context=context, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN))


#: name -> where the function is that makes the executor from a number of jobs
BUILT_IN: Final = {"processes": "conformance.isolation.executors:process_pool"}


class ExecutorError(ValueError):
    """An executor that cannot be used. The message is one line: what, why, what to do."""


def executor(name: str) -> tuple[Callable[[int], Executor], tuple[type[BaseException], ...]]:
    """What makes the executor of that name (``processes``, an entry point of the group ``conformance.executors``, or MODULE:NAME) from a
    number of jobs, and the exceptions by which it says that a worker was lost: the function's attribute ``deaths``. Raises ExecutorError.
    """
    known = dict(BUILT_IN)
    if not os.environ.get("CONFORMANCE_NO_PLUGINS"):
        known.update({p.name: p.value for p in entry_points(group="conformance.executors")})
    place = known.get(name) or (name if ":" in name else None)
    if place is None:
        raise ExecutorError(f"unknown executor {name!r}; known: {', '.join(known)} (or MODULE:NAME of a function of your own)")
    module, _, attribute = place.partition(":")
    try:
        make = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ExecutorError(f"executor {name!r} cannot be loaded: {error}") from None
    return make, tuple(getattr(make, "deaths", (BrokenExecutor,)))


def run_on_executor(
    make_executor: Callable[[], Executor],
    function: str,
    batches: Iterable[Batch],
    timeout: float,
    on_result: OnResult,
    on_death: OnDeath,
    *,
    in_flight: int = 4,
    deaths: tuple[type[BaseException], ...] = (BrokenExecutor,),
) -> None:
    """As ``Pool.map_batches``, on executors that ``make_executor`` makes: one, and another whenever one is broken.

    ``in_flight`` batches are submitted at a time; ``deaths`` are the exceptions by which this kind of executor says that a worker was
    lost (for Dask: ``distributed.KilledWorker``). A worker without progress for ``timeout`` seconds ends itself, so each should run one
    batch at a time; threads of this process are not ended. Other exceptions, KeyboardInterrupt too, cancel what waits and are raised;
    ``WorkerUnusable`` where a new executor loses its worker before it was given a program.
    """
    run = _ExecutorRun(make_executor, function, timeout, deaths)
    try:
        for broken in run.map(iter(batches), in_flight, on_result):
            reported = [run_batch(run.attempt, batch, on_result, on_death) for batch in broken]
            if not any(reported):
                reason = f"a worker was lost with {len(broken)} batches in flight, and each survived when run by itself"
                on_death(broken[0]["programs"][0], kind="flaky", detail=WorkerDied(reason))
    finally:
        run.executor.shutdown(wait=sys.exc_info()[0] is None, cancel_futures=True)


class _ExecutorRun:
    """The executor in use and what is submitted to it."""

    def __init__(self, make: Callable[[], Executor], function: str, timeout: float, deaths: tuple[type[BaseException], ...]) -> None:
        self._make, self._function, self._timeout, self._deaths = make, function, timeout, deaths
        self._running: dict[Future[Any], Batch] = {}
        self.executor = self._fresh()

    def map(self, source: Iterator[Batch], in_flight: int, on_result: OnResult) -> Iterator[list[Batch]]:
        """Runs every batch; yields those that were in flight together when a worker was lost, once nothing else runs."""
        while True:
            broken = list(self._fill(source, in_flight))
            if not self._running and not broken:
                return
            broken += self._finished(on_result)
            while broken and self._running:
                broken += self._finished(on_result)
            if broken:
                self._renew()
                yield broken

    def attempt(self, batch: Batch) -> Any:
        """One batch by itself. Raises ``WorkerLost``."""
        started = time.monotonic()
        try:
            return self._submit(batch).result()
        except self._deaths as error:
            self._renew()
            raise self._lost(error, time.monotonic() - started) from error

    def _fill(self, source: Iterator[Batch], in_flight: int) -> Iterator[Batch]:
        """Submits up to ``in_flight``; yields the batch that a broken executor would not take."""
        while len(self._running) < in_flight and (batch := next(source, None)) is not None:
            try:
                self._running[self._submit(check_batch(batch))] = batch
            except self._deaths:
                yield batch
                return

    def _finished(self, on_result: OnResult) -> list[Batch]:
        """Waits for some batch, hands over what finished, returns what was lost."""
        broken = []
        for future in wait(self._running, return_when=FIRST_COMPLETED).done:
            batch = self._running.pop(future)
            try:
                result = future.result()
            except self._deaths:
                broken.append(batch)
            else:
                on_result(result)
        return broken

    def _submit(self, batch: Batch) -> Future[Any]:
        return self.executor.submit(call_watched, self._function, dict(batch), self._timeout, os.getpid())

    def _renew(self) -> None:
        self.executor.shutdown(wait=True, cancel_futures=True)
        self.executor = self._fresh()

    def _fresh(self) -> Executor:
        """A new executor that has shown it can run something: one that cannot is no program's fault."""
        executor = self._make()
        try:
            executor.submit(os.getpid).result()
        except self._deaths as error:
            raise WorkerUnusable(f"the executor loses its workers before they were given a program: {error}") from error
        return executor

    def _lost(self, error: BaseException, seconds: float) -> WorkerLost:
        """A worker ends itself only when it made no progress for that long: whatever ended sooner was a crash."""
        if seconds < self._timeout:
            return WorkerDied(f"the worker was lost ({type(error).__name__})", str(error))
        return WorkerHung(f"no progress for {self._timeout:g} s", str(error))


def call_watched(function: str, batch: Batch, timeout: float, parent: int) -> Any:
    """What an executor's worker runs: the function, under a watchdog that each report sets anew.

    The watchdog is faulthandler's thread, which needs no interpreter lock, so that it ends loops in native code too.
    """
    found, kwargs = resolve(function), dict(batch)
    watch = contextlib.nullcontext(_ignore) if os.getpid() == parent else _watchdog(timeout)
    with watch as report:
        if takes_report(found):
            kwargs["report"] = report
        return found(**kwargs)


def _ignore(value: Any) -> None:
    """A report that nobody hears."""


@contextlib.contextmanager
def _watchdog(timeout: float) -> Iterator[Callable[[Any], None]]:
    def report(value: Any) -> None:
        faulthandler.dump_traceback_later(timeout, exit=True)

    report(None)
    try:
        yield report
    finally:
        faulthandler.cancel_dump_traceback_later()
