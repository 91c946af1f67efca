"""Checks `plan`: what the document says, what is stored, and that a plan that is refused leaves nothing behind."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.journal import open_journal
from vectormigrate_dagster.errors import PlanOutdated, PlanRefused
from vectormigrate_dagster.live.journal import JournalDatabase
from vectormigrate_dagster.services.context import Context
from vectormigrate_dagster.services.migrate import migrate
from vectormigrate_dagster.services.plan import plan
from vectormigrate_dagster.services.status import status
from vectormigrate_dagster_tests.emulators.qdrant import QdrantStandIn
from vectormigrate_dagster_tests.harness import COLLECTION, ID, Workplace
from vectormigrate_dagster_tests.services.conftest import context_of


def test_the_document_tells_what_will_be_done(context: Context, place: Workplace) -> None:
    document = plan(context, ID, profile="full")
    assert (document.migration_id, document.generation, document.records) == (ID, 1, 300)
    assert document.partitions >= 3
    assert (document.source.type, document.source.address) == ("qdrant", str(place.source.path))
    assert (document.target.type, document.target.address) == ("milvus", str(place.target.path))
    subjects = {row.subject for row in document.mapping}
    assert subjects >= {"id", "vector 'embedding'", "metric of 'embedding'", *(f"field '{key}'" for key in FIELDS)}
    assert document.loss.exact + document.loss.widened == len(document.mapping)
    assert document.estimate.requests is not None
    assert document.estimate.requests > 0
    assert not place.target.path.exists()  # type: ignore[union-attr]


FIELDS = ("number", "name", "even", "note", "a.b c")


def test_a_plan_is_stored_once_and_shown_again(context: Context) -> None:
    first = plan(context, ID)
    assert plan(context, ID) == first
    assert status(context, ID).status == "planned"
    with context.instance() as instance:
        stored = MigrationLog(instance, ID).require_plan()
    assert (stored.digest, len(stored.splits)) == (first.digest, first.partitions)
    second = plan(context, ID, replan=True)
    assert (second.generation, second.digest == first.digest) == (2, False)


def test_a_refused_plan_names_its_codes_and_stores_nothing(context: Context, place: Workplace) -> None:
    place.write(mapping={"types": {"vector.embedding": "cosine", "number": "text"}})
    with pytest.raises(PlanRefused) as told:
        plan(context, ID)
    assert "add 'vector.embedding.metric' to mapping.allow" in str(told.value)
    assert "field 'number'" in str(told.value)
    assert status(context, ID).status == "not_started"
    with context.instance() as instance:
        log = MigrationLog(instance, ID)
        assert log.plan() is None
        assert not instance.get_dynamic_partitions(f"{ID}_splits")
    assert not place.target.path.exists()  # type: ignore[union-attr]


def test_a_plan_is_not_replaced_over_records_unless_they_are_adopted(context: Context) -> None:
    migrate(context, ID)
    with pytest.raises(PlanOutdated, match="300 records or more of generation 1 are in the target; add --adopt"):
        plan(context, ID, replan=True)
    assert plan(context, ID, replan=True, adopt=True).generation == 2


def test_a_new_plan_waits_until_no_page_of_a_killed_load_can_arrive(
    place: Workplace, qdrant_stand_in: QdrantStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would stay as the plan before has mapped it, where the new one has loaded the record already."""
    place = replace(place, target=Endpoint(type="qdrant", url=qdrant_stand_in.url, collection=COLLECTION))
    place.write()
    context, said = context_of(place), list[str]()
    plan(context, ID)
    with context.instance() as instance:
        stored = MigrationLog(instance, ID).require_plan()
        with open_journal(instance, context.migration(ID), stored) as journal:
            journal.begin_split(stored.keys[0], seconds=60)  # by somebody who is killed then

    def over(line: str) -> None:
        said.append(line)
        clock = JournalDatabase.now
        monkeypatch.setattr(JournalDatabase, "now", lambda *arguments: clock(*arguments) + 1000)

    assert plan(context, ID, replan=True, adopt=True, tell=over).generation == 2
    assert [line.partition(" s: ")[2][:35] for line in said] == ["what was sent before may arrive at "]
    assert plan(context, ID, replan=True, adopt=True, tell=over).generation == 3
    assert len(said) == 1
