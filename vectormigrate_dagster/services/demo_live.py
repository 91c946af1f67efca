"""`demo --live`: the packages move from an embedded Qdrant to a Milvus Lite while an application goes on writing them.

All of it happens in threads of this process, because an embedded database serves one process at a time. Its engine is
not safe for threads, so the calls of writers, of the load and of catching up take turns at each folder.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from vectormigrate_dagster import databases
from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.defs.catching_up import catch_up_migration
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.journal import open_journal
from vectormigrate_dagster.defs.validating import validate_migration
from vectormigrate_dagster.errors import NotSo, PlanOutdated
from vectormigrate_dagster.live.journal import Journal
from vectormigrate_dagster.model import Metric
from vectormigrate_dagster.services.context import Context, endpoints
from vectormigrate_dagster.services.cutover import cutover, reverse
from vectormigrate_dagster.services.demo import live_migration, live_packages, make_source, numbered
from vectormigrate_dagster.services.demo_application import Application, Following
from vectormigrate_dagster.services.migrate import migrate
from vectormigrate_dagster.services.models import CutoverDocument, DemoDocument, DemoLive, DemoValidation
from vectormigrate_dagster.services.plan import plan

_AHEAD_SECONDS = 3.0

_LOOK_SECONDS = 1.0
_TRIES = 3


@dataclass(frozen=True, kw_only=True)
class Moment:
    """How the demo stands.

    Args:
        doing: what it is at.
        seconds: since its beginning.
        primary: the side that the application writes to.
        writes: acknowledged writes.
        lag_records, lag_seconds: how far the other side is behind.
    """

    doing: str
    seconds: float = 0.0
    primary: str = "source"
    writes: int = 0
    lag_records: int = 0
    lag_seconds: float = 0.0


Tell = Callable[[Moment], None]


def demo_live(
    context: Context,
    *,
    tell: Tell = lambda moment: None,  # noqa: ARG005  # nobody looks
    ahead_seconds: float = _AHEAD_SECONDS,
) -> DemoDocument:
    """Move the packaged data while four writers change it, switch over, go back, and prove that nothing was lost.

    Args:
        context: the home; the migration file is written into its folder of migrations.
        tell: is told how it stands about once a second, and when something new begins.
        ahead_seconds: how long the application writes between two steps, so that there is something to see.

    Raises:
        NotSo: a step was blocked; the message says by what.
    """
    migration = live_migration(context)
    source, target = endpoints(migration)
    tell(Moment(doing="making the source"))
    with ExitStack() as stack:
        for side in (source, target):
            stack.enter_context(databases.keep_open(side))
        make_source(source, table := live_packages(), Metric.COSINE)
        plan(context, migration.id)
        instance = stack.enter_context(context.instance())
        log = MigrationLog(instance, migration.id)
        log.refresh()
        planned = log.require_plan()
        journal = stack.enter_context(open_journal(instance, migration, planned))
        url = journal.database.url.render_as_string(hide_password=False)
        application = stack.enter_context(Application(source, target, planned, url, numbered(table)))
        stack.enter_context(_catching_up(context, migration))
        stage = stack.enter_context(_watching(journal, application, tell))
        return _Story(context, migration, application, stage, ahead_seconds).told()


class _Story:
    """The steps of the demo."""

    def __init__(
        self,
        context: Context,
        migration: Migration,
        application: Application,
        stage: Callable[[str], None],
        ahead_seconds: float,
    ) -> None:
        self._context = context
        self._migration = migration
        self._application = application
        self._stage = stage
        self._ahead_seconds = ahead_seconds
        self._source, self._target = endpoints(migration)

    def told(self) -> DemoDocument:
        """Go through all of them."""
        self._stage("moving")
        began = time.monotonic()
        moved = migrate(self._context, self._migration.id)
        seconds = time.monotonic() - began
        self._stage("comparing")
        self._validated()
        there = self._switch("cutting over", cutover)
        self._stage("writing to the new side")
        before = self._application.writes
        time.sleep(self._ahead_seconds)
        on_target = self._application.writes - before
        back = self._switch("going back", reverse)
        self._stage("writing to the old side")
        time.sleep(self._ahead_seconds)
        self._application.stop()
        self._stage("proving it")
        with self._context.instance() as instance:
            catch_up_migration(instance, self._migration, self._source, self._target, until="level")
        validation = self._validated()
        with databases.open_source(self._target) as written, databases.open_source(self._source) as read:
            left, arrived = read.count(), written.count()
            lost = self._application.lost(read)
        return DemoDocument(
            migration_id=self._migration.id,
            source=self._migration.source.type,
            target=self._migration.target.type,
            records_source=left,
            records_target=arrived,
            validation=validation,
            seconds=round(seconds, 3),
            records_per_second=round(moved.progress.migrated_records / seconds, 1),
            home=str(self._context.home.absolute()),
            live=DemoLive(
                writes=self._application.writes,
                writes_after_cutover=on_target,
                cutover_pause_seconds=round(there, 3),
                reverse_pause_seconds=round(back, 3),
                lost=lost,
            ),
        )

    def _validated(self) -> DemoValidation:
        with self._context.instance() as instance:
            report = validate_migration(instance, self._migration, self._source, self._target, full=True)
        return DemoValidation(passed=report.passed, tiers={tier.tier: tier.passed for tier in report.tiers})

    def _switch(self, doing: str, verb: Callable[..., CutoverDocument]) -> float:
        """Change the primary; return how long the slowest write took meanwhile."""
        self._stage(doing)
        self._application.forget_slowest()
        for _ in range(_TRIES):
            done = verb(self._context, self._migration.id, reason="the demo")
            if done.done:
                time.sleep(0.5)  # whoever waited for the end of the freeze has written by then
                return self._application.slowest
        raise NotSo(f"{doing} did not come to its end: {'; '.join(done.blocked_by)}")


@contextmanager
def _catching_up(context: Context, migration: Migration) -> Iterator[None]:
    """Carry changes over, in a thread, from when something was moved."""
    source, target = endpoints(migration)

    def work() -> None:
        with suppress(PlanOutdated):  # nothing was moved yet
            catch_up_migration(instance, migration, source, target, until="stopped", seconds=_LOOK_SECONDS)

    with context.instance() as instance, Following(work):
        yield


@contextmanager
def _watching(journal: Journal, application: Application, tell: Tell) -> Iterator[Callable[[str], None]]:
    """Tell how it stands; what is entered takes the name of what begins."""
    began, doing, told = time.monotonic(), "", 0.0

    def look() -> None:
        nonlocal told
        if doing and time.monotonic() - told >= _LOOK_SECONDS:
            told = time.monotonic()
            lag = journal.lag()
            tell(
                Moment(
                    doing=doing,
                    seconds=told - began,
                    primary=journal.control().primary,
                    writes=application.writes,
                    lag_records=lag.records,
                    lag_seconds=lag.seconds,
                )
            )

    def stage(name: str) -> None:
        nonlocal doing, told
        doing, told = name, 0.0

    with Following(look):
        yield stage
