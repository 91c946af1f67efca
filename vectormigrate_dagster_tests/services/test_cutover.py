"""Checks `cutover`, `reverse` and `complete` end to end: an application that writes while a collection moves."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import dagster as dg
import numpy as np
import pytest

from vectormigrate_dagster import databases
from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.defs import names
from vectormigrate_dagster.defs.cutting_over import cutover_job
from vectormigrate_dagster.defs.home import open_home
from vectormigrate_dagster.defs.state import LiveState
from vectormigrate_dagster.errors import Stopped
from vectormigrate_dagster.live.dual_writer import DualWriter
from vectormigrate_dagster.live.journal import Journal, JournalDatabase, Key
from vectormigrate_dagster.model import Batch, Dense, IdColumn, IdKind
from vectormigrate_dagster.services.context import Context
from vectormigrate_dagster.services.control import stop
from vectormigrate_dagster.services.cutover import complete, cutover
from vectormigrate_dagster.services.lookup import lookup
from vectormigrate_dagster.services.migrate import migrate
from vectormigrate_dagster.services.status import status
from vectormigrate_dagster.services.validate import validate
from vectormigrate_dagster_tests.harness import DIM, ID, Records, Workplace
from vectormigrate_dagster_tests.services.conftest import context_of


@pytest.fixture
def moved(tmp_path: Path, small_source: Endpoint) -> Workplace:
    """A migration of 300 records that is loaded and validated, of a source of its own."""
    assert small_source.path is not None
    source = replace(small_source, path=Path(shutil.copytree(small_source.path, tmp_path / "source")))
    place = Workplace.make(tmp_path, source, "milvus")
    place.write(transfer={"partition_records": 100}, validation={"search": {"queries": 0}})
    assert migrate(context_of(place), ID).status == "completed"
    assert validate(context_of(place), ID, full=True).passed
    return place


@contextmanager
def application(place: Workplace) -> Iterator[DualWriter]:
    """The application's writer."""
    writer = DualWriter(f"sqlite:///{place.home / 'journal.db'}", ID)
    try:
        yield writer
    finally:
        writer.close()


def put(endpoint: Endpoint, number: int, value: float, *, like: IdKind) -> None:
    """Write a record as the application does."""
    with databases.open_target(endpoint) as database:
        vectors = {"embedding": Dense(np.full((1, DIM), value, np.float32))}
        database.upsert(Batch(IdColumn.of(like, [number]), None, vectors, [Records.payload(number)]))


def drop(endpoint: Endpoint, number: int, *, like: IdKind) -> None:
    """Delete a record as the application does."""
    with databases.open_target(endpoint) as database:
        database.delete(IdColumn.of(like, [number]))


def write(place: Workplace, writer: DualWriter, number: int, value: float | None) -> None:
    """Write or delete a record through the journal."""
    source, target = IdKind.U64, IdKind.I64
    if value is None:
        writer.delete(
            [number],
            source=lambda: drop(place.source, number, like=source),
            target=lambda: drop(place.target, number, like=target),
        )
        return
    writer.upsert(
        [number],
        source=lambda: put(place.source, number, value, like=source),
        target=lambda: put(place.target, number, value, like=target),
    )


def assert_equal(context: Context) -> None:
    assert validate(context, ID, full=True, again=True).passed


def test_a_live_migration_there_and_back_and_there(moved: Workplace) -> None:
    context = context_of(moved)
    with application(moved) as writer:
        write(moved, writer, 5, 0.5)
        write(moved, writer, 6, None)
        write(moved, writer, 1001, 0.25)
        ahead = cutover(context, ID, dry_run=True)
        assert (ahead.done, ahead.blocked_by, len(ahead.steps)) == (False, (), 7)

        done = cutover(context, ID, by="a person", reason="it is time")

        assert (done.done, done.blocked_by, done.live.primary) == (True, (), "target")
        assert status(context, ID).live.primary == "target"
        assert writer.read_target() == "target"
        assert_equal(context)
        write(moved, writer, 7, 0.75)
        write(moved, writer, 8, None)
        write(moved, writer, 1002, 0.125)
        assert not lookup(context, ID, "1002").source.found

        run_job(context, "reverse", by="a program")

        live = status(context, ID).live
        assert (live.primary, live.state, live.changed_by) == ("source", "reversed", "a program")
        assert lookup(context, ID, "1002").source.found
        assert_equal(context)
        again = moved.call("cutover", ID, "--reason", "once more", "--json")
        assert (again.returncode, json.loads(again.stdout)["live"]["reason"]) == (0, "once more")
        ended = complete(context, ID)
        assert "no side follows the other" in moved.call("status", ID).stdout
        assert (ended.done, ended.live.state, ended.live.lag_records) == (True, "completed", 0)
        refused = moved.call("reverse", ID)
        assert (refused.returncode, "it is completed" in refused.stdout) == (1, True)
        write(moved, writer, 9, 1.5)
    told = history(moved)
    there, reason = ["verifying", "ready", "frozen"], "it is time"
    assert told[("a person", reason)] == [*there, "switched"]
    assert told[("a program", "it is time")] == ["catching_up", *there, "reversed"]


def run_job(context: Context, action: str, *, by: str) -> None:
    """Run the job as its launchpad does, after a look at what it would do."""
    job = cutover_job(context.migration(ID))
    with context.instance() as instance:
        for dry_run in (True, False):
            ops = {"switch_primary": {"config": {"action": action, "dry_run": dry_run, "reason": "it is time"}}}
            tags = {names.PRINCIPAL_TAG: by}
            assert job.execute_in_process(run_config={"ops": ops}, instance=instance, tags=tags).success


def history(place: Workplace) -> dict[tuple[str, str], list[str]]:
    """The states that the event log tells of, by who entered them and why."""
    with open_home(place.home) as instance:
        chosen = dg.AssetRecordsFilter(asset_key=names.state_asset(ID), asset_partitions=["live"])
        records = instance.fetch_observations(chosen, limit=100, ascending=True).records
    told: dict[tuple[str, str], list[str]] = {}
    for record in records:
        assert record.asset_observation is not None
        state = LiveState.model_validate(record.asset_observation.metadata["state"].value)
        states = told.setdefault((state.changed_by, state.reason), [])
        if state.state not in states:
            states.append(state.state)
    return told


def test_a_cutover_that_waits_ends_when_somebody_says_stop(moved: Workplace) -> None:
    context, ended = context_of(moved), list[BaseException]()

    def cut_over() -> None:
        try:
            cutover(context, ID)
        except Stopped as error:
            ended.append(error)

    database = JournalDatabase(f"sqlite:///{moved.home / 'journal.db'}")
    journal = Journal(database, ID)
    journal.admit([Key(None, IdKind.U64, "5")])  # a write whose outcome nobody knows for minutes
    coordinator = threading.Thread(target=cut_over)
    coordinator.start()
    while coordinator.is_alive():
        stop(context, ID)
        coordinator.join(0.5)

    assert "stopped on request" in str(ended[0])
    assert journal.control().primary == "source"
    journal.admit([Key(None, IdKind.U64, "6")], patience=0.0)
    database.close()


def test_the_command_says_what_is_in_the_way(place: Workplace) -> None:
    assert place.call("plan", ID).returncode == 0

    ahead = place.call("cutover", ID, "--dry-run", "--json")
    blocked = place.call("cutover", ID)

    assert (ahead.returncode, blocked.returncode) == (1, 1)
    document = json.loads(ahead.stdout)
    assert "partitions are not moved" in document["blocked_by"][0]
    assert document["steps"][0]["blocked_by"] == document["blocked_by"]
    assert "it was not validated" in blocked.stdout
    assert "vectormigrate status" in blocked.stdout
