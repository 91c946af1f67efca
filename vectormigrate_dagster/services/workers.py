"""Processes that work on partitions: spawned, kept from one partition to the next, replaced when they die.

A worker takes orders from its pipe only. It ends after the calls that are under way when it is sent SIGTERM, and when
the process that began it is gone.
"""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from queue import LifoQueue
from types import TracebackType
from typing import Any, Literal, Self

import dagster as dg

from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.defs.home import open_home
from vectormigrate_dagster.defs.jobs import load_job, validate_job
from vectormigrate_dagster.defs.signals import graceful, request_stop
from vectormigrate_dagster.errors import Stopped, VectorMigrateError, WorkerLost
from vectormigrate_dagster.services.runs import run_job

_LIVES = 3
"""Workers that one partition may cost before it is taken for the cause."""

_POLL_SECONDS = 0.2
_END_SECONDS = 30.0
_STOP_SECONDS = 10.0
"""What calls that are under way have left when work is to end; a server that hangs is not waited for."""

_SPAWN = multiprocessing.get_context("spawn")
"""A forked process would share database connections and the locks of other threads."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What all workers of a pool do.

    Args:
        home: folder of Dagster's storage.
        migration: whose partitions are worked on.
        job: what is done with them.
        ops: configuration of the job's ops.
    """

    home: Path
    migration: Migration
    job: Literal["load", "validate"] = "load"
    ops: Mapping[str, Any] | None = None

    def make_job(self) -> dg.JobDefinition:
        """The job whose partitions are run."""
        return {"load": load_job, "validate": validate_job}[self.job](self.migration)


class ThisProcess:
    """Loads partitions in this process, one at a time: where an embedded folder is open, or there is but one."""

    def __init__(self, order: Order, instance: dg.DagsterInstance) -> None:
        self._order = order
        self._instance = instance
        self._job = order.make_job()

    def load(self, key: str) -> None:
        """Load a partition.

        Raises:
            VectorMigrateError: what the run failed with.
        """
        run_job(self._job, self._instance, self._order.migration.id, partition=key, ops=self._order.ops)

    def stop(self) -> None:
        """End the run, wherever it waits."""
        request_stop()


class WorkerPool:
    """Up to `size` workers; each is started when it is first needed. Its methods are safe to call from any thread."""

    def __init__(self, order: Order, size: int) -> None:
        self._order = order
        self._stopped = threading.Event()
        self._places: LifoQueue[_Worker | None] = LifoQueue()  # who has worked before is warm
        for _ in range(size):
            self._places.put(None)
        self._size = size

    def warm(self, count: int) -> None:
        """Start `count` workers, or all, before there is anything to load: a process takes seconds to begin."""
        places = [self._places.get() for _ in range(min(count, self._size))]
        for worker in places:
            self._places.put(worker or _Worker(self._order))

    def load(self, key: str) -> None:
        """Load a partition in one of the workers, waiting for one that is free.

        Raises:
            Stopped: `stop` was called.
            WorkerLost: the workers that were given this partition died.
            VectorMigrateError: what the worker's run failed with.
        """
        died = ""
        for _ in range(_LIVES):
            worker = self._places.get()
            try:
                if self._stopped.is_set():
                    raise Stopped("the other workers were asked to stop; everything acknowledged is recorded")
                if worker is None or not worker.alive:
                    worker = _Worker(self._order)
                error = worker.load(key, self._stopped)
            except WorkerLost as lost:
                worker, died = None, str(lost)
                continue
            finally:
                self._places.put(worker)
            if error is not None:
                raise error
            return
        raise WorkerLost(
            f"{_LIVES} worker processes died at work on partition '{key}', the last one by {died}; "
            "look for the cause (memory?), then run the same command again: it goes on with what is recorded"
        )

    def stop(self) -> None:
        """Let every worker end after the calls that are under way, and begin nothing new."""
        self._stopped.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the workers; nobody may be loading any more."""
        workers = [self._places.get() for _ in range(self._size)]
        for worker in workers:
            if worker is not None:
                worker.end()


class _Worker:
    """One process and our end of its pipe."""

    def __init__(self, order: Order) -> None:
        self._pipe, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_work, args=(theirs, order), name="vectormigrate-worker", daemon=True)
        self._process.start()
        theirs.close()  # or the pipe would not break when the process dies

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    def load(self, key: str, stopped: threading.Event) -> VectorMigrateError | None:
        """Load one partition; return what it failed with.

        Args:
            stopped: set to end the work.

        Raises:
            WorkerLost: the process is gone; the text says how it ended.
        """
        try:
            self._pipe.send(key)
            while not self._pipe.poll(_POLL_SECONDS):
                if stopped.is_set():
                    self._stop()
                    break
            answer: VectorMigrateError | None = self._pipe.recv()
        except (EOFError, ConnectionError) as error:
            raise WorkerLost(self._death()) from error
        return answer

    def end(self) -> None:
        """End the process, which is not loading."""
        self._pipe.close()
        self._process.join(_END_SECONDS)
        self._kill()

    def _stop(self) -> None:
        """Ask the process to end its work; kill it if it does not answer."""
        self._process.terminate()
        if not self._pipe.poll(_STOP_SECONDS):
            self._kill()

    def _kill(self) -> None:
        """Kill the process if it is alive; nobody is left behind."""
        if self._process.is_alive():
            self._process.kill()
        self._process.join()

    def _death(self) -> str:
        """How the process ended."""
        self._pipe.close()
        self._process.join(_END_SECONDS)
        code = self._process.exitcode
        if code is None:
            self._kill()
            return "closing its pipe"
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _work(pipe: Connection, order: Order) -> None:
    """Load the partitions whose keys come through `pipe`, until it is closed: the life of a worker process."""
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    # Runs are made in another thread: Dagster would turn a signal into a failed run.
    with graceful(), ThreadPoolExecutor(1, thread_name_prefix="load") as runs, open_home(order.home) as instance:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal's whole group; our parent decides what it means
        job = order.make_job()
        while True:
            try:
                key = pipe.recv()
            except EOFError:
                return
            run = runs.submit(run_job, job, instance, order.migration.id, partition=key, ops=order.ops)
            pipe.send(_known(run.exception()))


def _known(error: BaseException | None) -> VectorMigrateError | None:
    """The error of a run as one of ours; of a bug, Dagster's run has the traceback."""
    if error is None or isinstance(error, VectorMigrateError):
        return error
    return VectorMigrateError(f"unexpected: {error!r}; the run's events in 'vectormigrate ui' have the traceback")


def _stop_with_parent() -> None:
    """Let a run end after the calls that are under way once the parent is gone: nobody would hear of its end."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        request_stop()
