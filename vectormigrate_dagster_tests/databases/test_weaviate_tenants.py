"""Weaviate's tenants: one id in two of them, inactive ones made active and put back, offloaded ones (H-17, H-18)."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from vectormigrate_dagster.databases import Database, keep_open, open_source, open_target
from vectormigrate_dagster.errors import DatabaseError, NotFound, SchemaMismatch, Unavailable
from vectormigrate_dagster.model import FieldType, IdKind, ScopeKind, Split
from vectormigrate_dagster_tests.databases.waits import Waits
from vectormigrate_dagster_tests.databases.weaviate_support import (
    batch,
    divided,
    endpoint,
    everything,
    field,
    ids,
    schema,
)
from vectormigrate_dagster_tests.emulators.weaviate import WeaviateStandIn

NAMES = [f"tenant-{number}" for number in range(6)]


@pytest.fixture
def things(weaviate_stand_in: WeaviateStandIn) -> Iterator[Database]:
    """Six tenants, of which each has the same ids, and as many records as its number."""
    with open_target(endpoint(weaviate_stand_in)) as database:
        database.create(divided(fields=[field("n", FieldType.INT64)]))
        for number, name in enumerate(NAMES):
            database.upsert(batch(range(number or 1), [{"n": number}] * (number or 1), name))
        yield database


def states(things: Any) -> dict[str, str]:
    with things._client("read") as wire:
        found: dict[str, str] = things._tenants.states(wire)
    return found


def put(things: Any, state: str, *names: str) -> None:
    with things._client("write") as wire:
        body = [{"name": name, "activityStatus": state} for name in names]
        wire.rest("PUT", "schema", "Things", "tenants", body=body)
    things._tenants.forget()


########################################################################
# Records
########################################################################


def test_h17_the_same_id_in_two_tenants_is_two_records(things: Database) -> None:
    assert things.describe().scope is ScopeKind.TENANT
    assert things.scopes() == NAMES
    assert [(part.scope, len(part), part.payloads[0]) for part in everything(things)] == [
        (name, number or 1, {"n": number}) for number, name in enumerate(NAMES)
    ]
    things.delete(ids([0]), NAMES[3])
    assert [things.fetch(ids([0]), name).missing.to_pylist() for name in NAMES[2:4]] == [[], [uuid.UUID(int=0)]]


def test_h18_counts_are_those_of_one_tenant_or_of_all(things: Database) -> None:
    assert [things.count(name) for name in NAMES] == [1, 1, 2, 3, 4, 5]
    assert things.count() == 16


def test_splits_are_those_of_every_tenant_or_of_those_asked_for(things: Database) -> None:
    splits = things.plan_splits(3)
    assert [(split.scope, split.records) for split in splits] == [
        *((name, records) for name, records in zip(NAMES, (1, 1, 2, 3), strict=False)),
        (NAMES[4], 2),
        (NAMES[4], 2),
        (NAMES[5], 2),
        (NAMES[5], 3),
    ]
    assert {split.scope for split in things.plan_splits(3, NAMES[:2])} == set(NAMES[:2])


def test_a_search_stays_in_its_tenant(things: Database) -> None:
    hits = things.search(np.ones((2, 2), np.float32), 10, vector="v", scope=NAMES[2])
    assert [len(column) for column in hits.ids] == [2, 2]


def test_a_tenant_that_is_not_there_holds_nothing_and_cannot_be_scanned(things: Database) -> None:
    assert things.count("none") == 0
    assert things.fetch(ids([1]), "none").missing == ids([1])
    things.delete(ids([1]), "none")
    with pytest.raises(NotFound, match="none"):
        list(things.scan(Split(scope="none", kind=IdKind.UUID)))
    assert "none" not in things.scopes()


def test_records_and_collection_must_agree_about_tenants(things: Database, weaviate_stand_in: WeaviateStandIn) -> None:
    with pytest.raises(SchemaMismatch, match="is divided into tenants"):
        things.upsert(batch([1], [{"n": 1}]))
    with pytest.raises(SchemaMismatch, match="without tenant"):
        list(things.scan(Split(kind=IdKind.UUID)))
    with open_target(endpoint(weaviate_stand_in, "plain")) as plain:
        plain.create(schema())
        with pytest.raises(SchemaMismatch, match="has no tenants, so there is no place for 'a'"):
            plain.upsert(batch([1], scope="a"))


def test_h02_a_collection_without_a_tenant_is_empty(weaviate_stand_in: WeaviateStandIn) -> None:
    with open_target(endpoint(weaviate_stand_in, "empty")) as empty:
        empty.create(divided())
        (split,) = empty.plan_splits(10)
        assert (split.scope, split.records, empty.count(), empty.scopes()) == (None, 0, 0, [])
        assert list(empty.scan(split)) == []
        empty.upsert(batch([1], scope="a"))
        with pytest.raises(SchemaMismatch, match="without tenant"):
            list(empty.scan(split))


def test_a_name_that_no_tenant_can_have_is_refused(things: Database) -> None:
    with pytest.raises(SchemaMismatch, match="tenant name"):
        things.upsert(batch([1], [{"n": 1}], "a b"))


########################################################################
# Inactive tenants
########################################################################


def test_inactive_tenants_are_named_before_anything_is_read(things: Database) -> None:
    put(things, "INACTIVE", *NAMES[1:3])
    for ask in (things.count, lambda: things.plan_splits(10)):
        with pytest.raises(
            DatabaseError, match=r"are inactive .*'tenant-1', 'tenant-2'; activate them, name"
        ) as caught:
            ask()
        assert not isinstance(caught.value, Unavailable)
    with pytest.raises(DatabaseError, match=r"options\.activate_tenants"):
        things.upsert(batch([1], [{"n": 1}], NAMES[1]))
    assert len(things.plan_splits(10, [NAMES[0], NAMES[3]])) == 2
    assert states(things) == {name: "INACTIVE" if name in NAMES[1:3] else "ACTIVE" for name in NAMES}


def test_inactive_tenants_are_put_back_after_reading(things: Database, weaviate_stand_in: WeaviateStandIn) -> None:
    put(things, "INACTIVE", *NAMES[1:5])
    before = states(things)
    with open_source(endpoint(weaviate_stand_in, activate_tenants=True)) as source:
        assert source.count() == 16
        assert set(states(things).values()) == {"ACTIVE"}
    assert states(things) == before
    with open_source(endpoint(weaviate_stand_in, activate_tenants=True)) as source:
        for part in source.scan(Split(scope=NAMES[4], kind=IdKind.UUID)):
            assert len(part) == 4
            assert [name for name, state in states(things).items() if state != "ACTIVE"] == NAMES[1:4]
    assert states(things) == before


def test_inactive_tenants_are_put_back_after_a_failure(things: Database, weaviate_stand_in: WeaviateStandIn) -> None:
    put(things, "INACTIVE", NAMES[2])
    before = states(things)

    def work() -> None:
        with open_source(endpoint(weaviate_stand_in, activate_tenants=True)) as source:
            next(iter(source.scan(Split(scope=NAMES[2], kind=IdKind.UUID))))
            assert states(things)[NAMES[2]] == "ACTIVE"
            raise RuntimeError("the work failed")

    with pytest.raises(RuntimeError, match="the work failed"):
        work()
    assert states(things) == before


def test_a_held_collection_has_the_tenants_that_are_read_active(
    things: Database, weaviate_stand_in: WeaviateStandIn
) -> None:
    """Other objects, and processes, find them so and owe nothing."""
    put(things, "INACTIVE", *NAMES)
    asked = endpoint(weaviate_stand_in, activate_tenants=True)
    with keep_open(asked, scopes=NAMES[:2]):
        assert [name for name, state in states(things).items() if state == "ACTIVE"] == NAMES[:2]
        with open_source(asked) as source:
            assert source.count(NAMES[1]) == 1
        assert states(things)[NAMES[1]] == "ACTIVE"
    assert set(states(things).values()) == {"INACTIVE"}
    with keep_open(asked):
        assert set(states(things).values()) == {"ACTIVE"}
    with keep_open(endpoint(weaviate_stand_in)):
        assert set(states(things).values()) == {"INACTIVE"}


def test_a_collection_that_is_missing_is_no_error_of_holding_it(weaviate_stand_in: WeaviateStandIn) -> None:
    with keep_open(endpoint(weaviate_stand_in, "missing", activate_tenants=True)):
        pass


def test_a_tenant_that_somebody_makes_inactive_meanwhile_is_made_active_again(
    things: Database, weaviate_stand_in: WeaviateStandIn
) -> None:
    with open_target(endpoint(weaviate_stand_in, activate_tenants=True)) as reader:
        assert reader.count(NAMES[5]) == 5
        put(things, "INACTIVE", NAMES[5])
        with pytest.raises(Unavailable, match="tenant not active"):
            reader.count(NAMES[5])
        assert reader.count(NAMES[5]) == 5
    assert states(things)[NAMES[5]] == "INACTIVE"


def test_what_cannot_be_put_back_is_told(
    things: Database, weaviate_stand_in: WeaviateStandIn, caplog: pytest.LogCaptureFixture
) -> None:
    put(things, "INACTIVE", NAMES[1])
    with open_source(endpoint(weaviate_stand_in, activate_tenants=True)) as source:
        assert source.count(NAMES[1]) == 1
        weaviate_stand_in.fault("unavailable", "UpdateTenants")
    assert "tenants of weaviate collection 'things'" in caplog.text
    assert "make them inactive" in caplog.text


def test_a_tenant_that_was_deleted_meanwhile_does_not_keep_others_active(
    things: Database, weaviate_stand_in: WeaviateStandIn
) -> None:
    put(things, "INACTIVE", *NAMES[1:4])
    with open_source(endpoint(weaviate_stand_in, activate_tenants=True)) as source:
        assert source.count() == 16
        with things._client("write") as wire:  # type: ignore[attr-defined]
            wire.rest("DELETE", "schema", "Things", "tenants", body=[NAMES[2]])
    left = {name: "INACTIVE" if name in NAMES[1:4] else "ACTIVE" for name in NAMES if name != NAMES[2]}
    assert states(things) == left


def test_a_wait_for_a_tenant_ends_when_the_work_is_to_end(
    things: Database, monkeypatch: pytest.MonkeyPatch, weaviate_stand_in: WeaviateStandIn
) -> None:
    put(things, "INACTIVE", NAMES[1])
    waits = Waits(3)
    with open_target(endpoint(weaviate_stand_in, activate_tenants=True), sleep=waits) as reader:
        tenants: Any = reader._tenants  # type: ignore[attr-defined]
        monkeypatch.setattr(tenants, "_set", lambda *_: None)
        with pytest.raises(Exception, match="asked to end"):
            reader.count(NAMES[1])
        monkeypatch.undo()
    assert len(waits.seconds) == 4


def test_offloaded_tenants_are_named_and_left_alone(things: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    tenants: Any = things._tenants  # type: ignore[attr-defined]
    real = tenants.states
    offloaded = {NAMES[0]: "OFFLOADED", NAMES[1]: "ONLOADING"}
    monkeypatch.setattr(
        tenants, "states", lambda *args: {name: offloaded.get(name, state) for name, state in real(*args).items()}
    )
    with pytest.raises(DatabaseError, match="are OFFLOADED, ONLOADING and cannot be read: 'tenant-0', 'tenant-1'"):
        things.plan_splits(10)


def test_more_tenants_than_one_request_takes_are_activated(
    things: Database, weaviate_stand_in: WeaviateStandIn
) -> None:
    names = [f"many{number}" for number in range(120)]
    with things._client("write") as wire:  # type: ignore[attr-defined]
        body = [{"name": name, "activityStatus": "INACTIVE"} for name in names]
        wire.rest("POST", "schema", "Things", "tenants", body=body)
    with open_target(endpoint(weaviate_stand_in, activate_tenants=True)) as reader:
        assert reader.count() == 16
        assert set(states(things).values()) == {"ACTIVE"}
    assert [states(things)[name] for name in names] == ["INACTIVE"] * 120
