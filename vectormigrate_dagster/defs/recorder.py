"""Turn the checkpoints of a transfer into state events, and notice when somebody wants it to end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.refusals import RefusalList, refusals_path, vanished_path
from vectormigrate_dagster.defs.signals import stop_requested
from vectormigrate_dagster.defs.state import PartitionState, Phase, now
from vectormigrate_dagster.errors import Stopped, VectorMigrateError
from vectormigrate_dagster.transfer.pipeline import Checkpoint
from vectormigrate_dagster.transfer.throttle import Throttle

_LOOK_SECONDS = 2.0
"""How often a wish of somebody else is looked for, however seldom there is a checkpoint."""

_ENDING = (dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.FAILURE)


class Recorder:
    """Records one partition's progress: after the first checkpoint, then every few seconds, and at the end.

    Args:
        log: where state goes.
        key: the partition.
        state: the state to go on from.
        every: seconds between two state events.
        throttle: told when the rate limit was changed, and when waits are to end.
    """

    def __init__(
        self,
        log: MigrationLog,
        key: str,
        state: PartitionState,
        *,
        every: float = 5.0,
        throttle: Throttle | None = None,
    ) -> None:
        self._log = log
        self._key = key
        self._before = state
        self.state = state
        self._every = every
        self._throttle = throttle
        self._began = time.monotonic()
        self._began_at = now()
        self._written: float | None = None
        self._stop = False
        self._looked = self._began
        self._refusals = RefusalList(refusals_path(log, key), keep=state.refused)
        self._vanished = RefusalList(vanished_path(log, key), keep=state.vanished)
        self._obey()

    def should_stop(self) -> bool:
        """Whether somebody asked this work to end: a signal, or a request that is at most two seconds old.

        Sets a changed rate limit as well.
        """
        if time.monotonic() - self._looked >= _LOOK_SECONDS:
            self._log.refresh()
            self._obey()
        return self._stop or stop_requested()

    @property
    def is_due(self) -> bool:
        """Whether it is time for a state event."""
        return self._written is None or time.monotonic() - self._written >= self._every

    def take(self, checkpoint: Checkpoint) -> None:
        """Note a checkpoint; write a state event if it is time for one."""
        if checkpoint.refused:
            self._refusals.append(checkpoint.refused)
        if checkpoint.gone:
            self._vanished.append(checkpoint.gone)
        before, seconds = self._before, time.monotonic() - self._began
        self.state = self.state.model_copy(
            update={
                "after": checkpoint.after,
                "acknowledged": before.acknowledged + checkpoint.acknowledged,
                "batches": before.batches + checkpoint.batches,
                "bytes": before.bytes + checkpoint.bytes,
                "skipped": before.skipped + checkpoint.skipped,
                "refused": self.state.refused + len(checkpoint.refused),
                "vanished": before.vanished + checkpoint.vanished,
                "seconds": before.seconds + seconds,
                "rate": checkpoint.acknowledged / seconds if seconds > 0 else 0.0,
            }
        )
        if self.is_due:
            self.write("loading")

    def reached_end(self) -> None:
        """Note that the whole split was read and is acknowledged."""
        self.state = self.state.model_copy(update={"loaded": True})
        self.write("loading")

    def write(self, phase: Phase, error: VectorMigrateError | None = None) -> None:
        """Write a state event now, and look whether the work should end."""
        self.state = self.state.model_copy(
            update={
                "state": phase,
                "at": now(),
                "error": None if error is None else str(error),
                "exit_code": None if error is None else error.exit_code,
            }
        )
        self._log.record(self._key, self.state)
        self._written = time.monotonic()
        if phase in ("loading", "rolling_back"):
            self._refusals.trim()
            self._vanished.trim()
            self._log.refresh()
            self._obey()

    @contextmanager
    def outcome(self) -> Iterator[None]:
        """Record how a block of work ends if it does not end well."""
        try:
            yield
        except Stopped as error:
            self.write("stopped", error)
            raise
        except VectorMigrateError as error:
            self.write("failed", error)
            raise
        except BaseException as error:
            # Dagster ends a step by raising in it; anything else is a fault of ours. Both can be resumed.
            interrupted = isinstance(error, KeyboardInterrupt | dg.DagsterExecutionInterruptedError)
            known = Stopped("the run was terminated") if interrupted else VectorMigrateError(f"unexpected: {error!r}")
            self.write("stopped" if interrupted else "failed", known)
            raise

    def _obey(self) -> None:
        control = self._log.control()
        run = self._log.instance.get_run_record_by_id(self.state.run_id)
        # A run has several ops, each with a recorder of its own: what counts is when the run was made.
        began = self._began_at if run is None else run.create_timestamp
        if control.stop_requested_at is not None and control.stop_requested_at > began:
            self._stop = True
        if run is not None and run.dagster_run.status in _ENDING:
            self._stop = True
        if self._stop and self._throttle is not None:
            self._throttle.interrupt.set()
        self._looked = time.monotonic()
        if self._throttle is not None and control.rate_limit_set:
            self._throttle.rate.set_rate(control.rate_limit)
