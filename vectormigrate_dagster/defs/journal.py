"""A migration's journal: where its file puts it, what its plan notes there, and how a rollback ends it."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import dagster as dg
import sqlalchemy as sa

from vectormigrate_dagster import databases
from vectormigrate_dagster.config import EndpointConfig, Migration
from vectormigrate_dagster.defs.home import home_of
from vectormigrate_dagster.errors import ConfigurationError, MissingSecret, NotFound, NotSo, PlanOutdated
from vectormigrate_dagster.live.journal import Bounds, Journal, JournalDatabase, State
from vectormigrate_dagster.live.journal.database import parsed_url
from vectormigrate_dagster.live.journal.held import require_plan
from vectormigrate_dagster.mapping.plan import Plan

_FILE = "journal.db"

KEPT_SECONDS = 86_400.0
"""Entries, and keys of partitions, are kept so long after they were dealt with: a validation may look back as far."""


def principal() -> str:
    """Who does what this process does."""
    return getpass.getuser()


def bounds_of(migration: Migration) -> Bounds:
    """What the live protocol may rely on."""
    journal = migration.journal

    def stale(side: EndpointConfig, given: float | None) -> float:
        known = databases.capabilities_of(side.type, embedded=side.embedded).stale_seconds
        return known if given is None else given

    return Bounds(
        start=journal.start_seconds,
        request=journal.request_seconds,
        margin=journal.margin_seconds,
        stale={
            "source": stale(migration.source, journal.stale_seconds.source),
            "target": stale(migration.target, journal.stale_seconds.target),
        },
    )


def journal_url(home: Path, migration: Migration) -> sa.URL:
    """Where a migration's journal is: as its file says, otherwise in a file in the home.

    Raises:
        MissingSecret: the variable that the file names is not set.
        ConfigurationError: the address is none, or would lead to another file from each working directory.
    """
    given = migration.journal
    address = given.url
    if given.url_env is not None:
        if given.url_env not in os.environ:
            raise MissingSecret(
                f"environment variable '{given.url_env}' is not set; set it to the address of the journal of "
                f"'{migration.id}'"
            )
        address = os.environ[given.url_env]
    if address is None:
        return sa.URL.create("sqlite", database=str(home.absolute() / _FILE))
    url = parsed_url(address)
    if url.get_backend_name() == "sqlite" and url.database and not Path(url.database).is_absolute():
        raise ConfigurationError(
            f"the journal of '{migration.id}' is at the relative path '{url.database}', another file for each working "
            "directory; write it whole, such as sqlite:////data/journal.db"
        )
    return url


@contextmanager
def _opened(instance: dg.DagsterInstance, migration: Migration) -> Iterator[JournalDatabase]:
    database = JournalDatabase(journal_url(home_of(instance), migration))
    try:
        yield database
    finally:
        database.close()


def _told(migration: Migration, plan: Plan) -> dict[str, Any]:
    """What a plan tells the journal."""
    return {
        "id_kinds": plan.mapping.source_schema.ids.kinds,
        "id_mapping": plan.mapping.ids.model_dump(mode="json"),
        "bounds": bounds_of(migration),
        "plan": plan.digest,
        "by": principal(),
    }


@contextmanager
def open_journal(instance: dg.DagsterInstance, migration: Migration, plan: Plan | None = None) -> Iterator[Journal]:
    """The migration's journal.

    Args:
        instance: Dagster's storage.
        migration: the migration file.
        plan: all is done by it, and nothing once it was replaced, here or in another home; it makes the journal if it
            is older than that. Without one, for who only looks, the journal may go by any.

    Raises:
        MissingSecret, ConfigurationError: see `journal_url`.
        StorageFailed: it cannot be opened.
        NotFound: there is none, and no `plan`.
        PlanOutdated: it goes by another plan.
    """
    with _opened(instance, migration) as database:
        if plan is None:
            yield Journal(database, migration.id)
        else:
            yield Journal.register(database, migration.id, **_told(migration, plan))


@contextmanager
def known_journal(instance: dg.DagsterInstance, migration: Migration) -> Iterator[Journal | None]:
    """The migration's journal; None for a plan that was made before there were journals."""
    with ExitStack() as stack:
        try:
            journal = stack.enter_context(open_journal(instance, migration))
        except NotFound:
            journal = None
        yield journal


@contextmanager
def open_for_application(instance: dg.DagsterInstance, migration: Migration, plan: Plan) -> Iterator[Journal]:
    """The migration's journal for what an application tells, which counts whichever plan it goes by.

    Args:
        instance: Dagster's storage.
        migration: the migration file.
        plan: makes the journal if there is none.

    Raises:
        MissingSecret, ConfigurationError, StorageFailed: as of `open_journal`.
    """
    with _opened(instance, migration) as database:
        yield _made(database, migration, plan)


def _made(database: JournalDatabase, migration: Migration, plan: Plan) -> Journal:
    """The journal, made by a plan if there is none, and fenced by none."""
    with suppress(PlanOutdated):  # it goes by another one
        Journal.register(database, migration.id, **_told(migration, plan))
    return Journal(database, migration.id)


@contextmanager
def new_generation(
    instance: dg.DagsterInstance, migration: Migration, plan: Plan, *, before: Plan | None
) -> Iterator[None]:
    """Let the journal go by a new plan, which the block stores; what was journalled stays.

    Args:
        instance: Dagster's storage.
        migration: the migration file.
        plan: about to be stored.
        before: the stored plan.

    Raises:
        NotSo: the application writes to the target.
    """
    with _opened(instance, migration) as database:
        journal = _made(database, migration, plan)
        control = journal.control()
        if plan.generation > 1 or control.epoch > 1 or control.plan != plan.digest:
            digest, reason = None if before is None else before.digest, f"generation {plan.generation} was planned"
            journal.replan(**_told(migration, plan), before=digest, reason=reason)
        yield
        Journal(database, migration.id, plan.digest).plan_stored()


def resume_generation(instance: dg.DagsterInstance, migration: Migration, plan: Plan) -> None:
    """Let the journal go by the stored plan again if whoever replaced it was killed before the new one was stored.

    Raises:
        PlanOutdated: it goes by a plan of another home.
    """
    with known_journal(instance, migration) as journal:
        if journal is None:
            return
        control = journal.control()
        if control.plan_before == plan.digest:
            reason = f"the plan that should have replaced generation {plan.generation} was never stored"
            journal.replan(**_told(migration, plan), reason=reason)
        require_plan(journal.control(), plan.digest)
        if control.plan_before is not None:
            journal.plan_stored()


def is_replaced(instance: dg.DagsterInstance, migration: Migration, plan: Plan) -> bool:
    """Whether the journal goes by another plan: nothing can be done by this one any more, nor taken back."""
    with known_journal(instance, migration) as journal:
        return journal is not None and not journal.control().goes_by(plan.digest)


def require_not_switched(instance: dg.DagsterInstance, migration: Migration) -> None:
    """Refuse to plan once the source is the copy.

    Raises:
        PlanOutdated: the application writes to the target.
    """
    with known_journal(instance, migration) as journal:
        if journal is not None:
            require_source_is_primary(journal)


def withdraw(journal: Journal) -> None:
    """End catching up, because what it writes is to be taken back; see `begin_rollback`.

    It ends the epoch in any case, so that nobody goes on by what the state was before.

    Raises:
        PlanOutdated: the application writes to the target.
    """
    while True:
        control = journal.control()
        require_source_is_primary(journal)
        with suppress(NotSo):  # somebody else has changed it
            journal.enter(State.PLANNED, since=control, by=principal(), reason="a rollback has begun")
            return


def require_source_is_primary(journal: Journal) -> None:
    """Refuse to move the source once it is the copy.

    Raises:
        PlanOutdated: the application writes to the target.
    """
    control = journal.control()
    if control.primary == "target":
        raise PlanOutdated(
            f"'{control.migration}' was switched to its target by {control.changed_by}, so nothing is moved from the "
            f"source any more; go back with 'vectormigrate reverse {control.migration}' first"
        )
