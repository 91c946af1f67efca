"""The sensor `<id>_catch_up`: makes partitions of new ranges of the journal, launches a run for them, shows the lag."""

from __future__ import annotations

import json
import re
import time
from itertools import takewhile
from typing import Any

import dagster as dg

from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.defs import names
from vectormigrate_dagster.defs.catching_up import PRUNE_SECONDS, RESTING
from vectormigrate_dagster.defs.dead_runs import report_dead_runs
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.jobs import changes_of
from vectormigrate_dagster.defs.journal import KEPT_SECONDS, open_journal
from vectormigrate_dagster.defs.live import note_live
from vectormigrate_dagster.defs.state import LiveState
from vectormigrate_dagster.errors import NotFound, PlanOutdated
from vectormigrate_dagster.live.journal import Backlog, State
from vectormigrate_dagster.live.journal.held import require_plan
from vectormigrate_dagster.model.counting import agreeing, counted

_RANGE = 100_000
_TICK_SECONDS = 10
_AFTER_FAILURE_SECONDS = 60.0
"""How long nothing is launched after a run that failed or was ended; twice as long after each further one."""

_FAILURES = 4
_DELETED_PER_TICK = 100
_KEY = re.compile(r"changes-(\d+)-(\d+)")
_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_ENDED_BADLY = (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


def catch_up_sensor(migration: Migration, job: dg.JobDefinition) -> dg.SensorDefinition:
    """Make partitions of new ranges of the journal, and launch a run for them; one at a time for each migration."""

    @dg.sensor(
        name=job.name,
        job=job,
        minimum_interval_seconds=_TICK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Carries over what the application changes while the collection moves, and shows how far that is.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        log = MigrationLog(context.instance, migration.id)
        plan = log.summary()
        log.refresh()
        if plan is None or log.rollback(plan) is not None:
            return dg.SkipReason(f"migration '{migration.id}' has no plan, or its plan was taken back")
        try:
            with open_journal(context.instance, migration) as journal:
                control = journal.control()
                require_plan(control, plan.digest)
                if control.state in RESTING:
                    if control.state is State.COMPLETED:
                        journal.prune(age=KEPT_SECONDS)  # an application may go on to tell it, for ever
                    return dg.SkipReason(f"the migration is {control.state.value}")
                journal.retire_splits()
                live, backlog = note_live(log, plan, journal, seldom=True), journal.backlog()
                tick = _Tick(context, migration, job)
                if tick.marks:
                    journal.prune(age=KEPT_SECONDS)
        except NotFound:
            return dg.SkipReason(f"the plan of '{migration.id}' was made before there were journals")
        except PlanOutdated as error:
            return dg.SkipReason(str(error))
        report_dead_runs(context.instance, migration.id)
        return tick.result(live, backlog)

    return sensor


class _Tick:
    """One look of the sensor; the cursor keeps how far ranges were made, and when how much of them was dealt with."""

    def __init__(self, context: dg.SensorEvaluationContext, migration: Migration, job: dg.JobDefinition) -> None:
        self._instance = context.instance
        self._migration = migration
        self._job = job
        known: dict[str, Any] = json.loads(context.cursor) if context.cursor else {}
        self._count = int(known.get("count", 0)) + 1
        self._marks: list[tuple[float, int]] = [(at, seq) for at, seq in known.get("marks", [])]
        self._keys = {
            key: range_of(key) for key in self._instance.get_dynamic_partitions(names.changes_name(migration.id))
        }
        self._end = max([int(known.get("end", 0)), *(last for _, last in self._keys.values())])

    @property
    def marks(self) -> bool:
        """Whether it is time again to note how much was dealt with, and to forget what is old."""
        return not self._marks or time.time() - self._marks[-1][0] >= PRUNE_SECONDS

    def result(self, live: LiveState, backlog: Backlog) -> dg.SensorResult:
        """What is to be launched and forgotten now."""
        dealt_with = backlog.first - 1 if backlog.first else max(self._end, backlog.last)
        gone = self._forget(dealt_with)
        for key in gone:
            del self._keys[key]
        requests, added, skip = self._launch(backlog)
        ranges = changes_of(self._migration)
        changes = [ranges.build_add_request(added)] if added else []
        forget = [ranges.build_delete_request(gone)] if gone else []
        lag = f"{counted(live.lag_records, 'change')} behind, the oldest for {live.lag_seconds:,.0f} s"
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=None if requests else f"{lag}; {skip}",
            dynamic_partitions_requests=[*changes, *forget],
            cursor=json.dumps({"count": self._count, "end": self._end, "marks": self._marks}),
        )

    def _launch(self, backlog: Backlog) -> tuple[list[dg.RunRequest], list[str], str]:
        """Runs to launch, new keys, and why there are none."""
        if backlog.last == 0:
            return [], [], "nothing waits"
        runs = self._instance.get_runs_count(dg.RunsFilter(job_name=self._job.name, statuses=_UNFINISHED))
        if runs:
            return [], [], f"{counted(runs, 'run')} in flight"
        if backlog.due == 0:
            return [], [], "what waits is being written, or too young to be read"
        failed, rest = self._failed()
        if rest > 0:
            last = "run" if failed == 1 else counted(failed, "run")
            return (
                [],
                [],
                f"the last {last} failed or {agreeing(failed, 'was')} ended; the next one begins in {rest:.0f} s",
            )
        if backlog.last > self._end:
            first = max(backlog.first, self._end + 1)
            self._end = min(backlog.last, first + _RANGE - 1)
            key = f"changes-{first}-{self._end}"
            return [dg.RunRequest(run_key=key, partition_key=key)], [key], ""
        # What an earlier run has left, because it was not settled or a run ended in between.
        key = max(self._keys, key=lambda one: self._keys[one], default=f"changes-{backlog.first}-{backlog.last}")
        added = [] if key in self._keys else [key]
        return [dg.RunRequest(run_key=f"{key}:{self._count}", partition_key=key)], added, ""

    def _failed(self) -> tuple[int, float]:
        """How many of the newest runs failed in a row, and for how many seconds nothing is launched because of that."""
        newest = self._instance.get_run_records(dg.RunsFilter(job_name=self._job.name), limit=_FAILURES)
        failed = list(takewhile(lambda record: record.dagster_run.status in _ENDED_BADLY, newest))
        if not failed:
            return 0, 0.0
        rest = _AFTER_FAILURE_SECONDS * 2 ** (len(failed) - 1)
        return len(failed), rest - (time.time() - (failed[0].end_time or 0.0))

    def _forget(self, dealt_with: int) -> list[str]:
        """Keys of ranges that were dealt with a day ago."""
        at = time.time()
        if self.marks:
            self._marks.append((at, dealt_with))
        old = [seq for marked, seq in self._marks if at - marked >= KEPT_SECONDS]
        self._marks = [mark for mark in self._marks if at - mark[0] < KEPT_SECONDS]
        if old:
            self._marks.insert(0, (at - KEPT_SECONDS, old[-1]))  # there may be more than one tick's worth
        return [key for key, (_, last) in self._keys.items() if old and last <= old[-1]][:_DELETED_PER_TICK]


def range_of(key: str) -> tuple[int, int]:
    """The first and the last entry that a partition key names; zeros for another key."""
    match = _KEY.fullmatch(key)
    return (0, 0) if match is None else (int(match[1]), int(match[2]))
