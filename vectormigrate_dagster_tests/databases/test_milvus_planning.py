"""Planning a real Milvus server: text ids of every character are cut exactly, and reads wait for its clock once."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from vectormigrate_dagster.databases import Endpoint, Source, open_source, open_target
from vectormigrate_dagster.databases.milvus.database import Milvus
from vectormigrate_dagster.databases.milvus.wire import Wire
from vectormigrate_dagster.errors import Unavailable
from vectormigrate_dagster.mapping.profile import profile_source
from vectormigrate_dagster.model import (
    Batch,
    CollectionSchema,
    Dense,
    IdColumn,
    IdKind,
    IdSchema,
    IndexSpec,
    Metric,
    VectorSchema,
)
from vectormigrate_dagster.transfer import Retry, Throttle
from vectormigrate_dagster.transfer.patient import PatientSource
from vectormigrate_dagster_tests.servers.milvus import Address

_CHARACTERS = ["a", "z", "0", "%", '"', "'", "\\", "\n", "\t", "\x7f", "é", "\uffff", "\U0001f600"]
_VECTOR = VectorSchema(name="v", dim=4, metric=Metric.EUCLIDEAN, index=IndexSpec(type="FLAT"))


def texts() -> list[str]:
    chance = random.Random(3)
    made = {"".join(chance.choices(_CHARACTERS, k=chance.randint(1, 8))) for _ in range(2000)}
    return sorted(made, key=str.encode)


@pytest.fixture(scope="module")
def named(milvus_server: Address) -> Iterator[Endpoint]:
    """A collection of two thousand records with texts for ids."""
    endpoint = milvus_server.endpoint("named")
    ids = texts()
    random.Random(4).shuffle(ids)
    with open_target(endpoint) as database:
        schema = IdSchema(kinds=(IdKind.TEXT,), field="key")
        database.create(CollectionSchema(name="named", ids=schema, vectors=(_VECTOR,)))
        vectors = {"v": Dense(np.ones((len(ids), 4), np.float32))}
        assert database.upsert(Batch(IdColumn.of(IdKind.TEXT, ids), None, vectors, [{}] * len(ids))) == []
        yield endpoint
        database.drop()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """What servers were asked, by the names of requests."""
    calls: Counter[str] = Counter()
    call = Wire._call

    def counted(wire: Wire, method: Any, request: Any, timeout: float | None = None) -> Any:
        calls[type(request).__name__] += 1
        return call(wire, method, request, timeout)

    monkeypatch.setattr(Wire, "_call", counted)
    return calls


def test_texts_of_every_character_are_cut_where_they_should_be(
    named: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = texts()
    with Milvus(named) as database:
        small = database.probe().but(max_page_records=10)
        monkeypatch.setattr(database, "capabilities", small)
        splits = database.plan_splits(100)
    parts = -(-len(ids) // 100)
    assert [split.last for split in splits[:-1]] == [ids[len(ids) * i // parts - 1] for i in range(1, parts)]
    with open_source(named) as source:
        read = [value for split in splits for batch in source.scan(split) for value in batch.ids.to_pylist()]
    assert read == ids


def test_a_plan_asks_the_server_for_its_time_once(named: Endpoint, asked: Counter[str]) -> None:
    """Each time that is new costs a read a tick of the server's clock (0.2 s)."""
    with open_source(named) as source:
        with source.as_of_now():
            splits = source.plan_splits(100)
            found = profile_source(source, splits, full=False, sample=500)
        assert found.records > 300
        assert asked["AllocTimestampRequest"] == 1
        source.count()
        list(source.scan(splits[0]))
        assert asked["AllocTimestampRequest"] == 2  # later reads see later writes


def test_h28_of_a_plan_only_the_request_that_failed_is_repeated(
    named: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, ask = 0, Milvus._column_once
    every = 10**6

    def failing(database: Milvus, *args: Any, **params: Any) -> list[Any]:
        nonlocal asked
        asked += 1
        if asked % every == 0:
            raise Unavailable("503")
        return ask(database, *args, **params)

    monkeypatch.setattr(Milvus, "_column_once", failing)
    with open_source(named) as source:
        patient = PatientSource(source, Throttle(source=Retry(first_seconds=0, max_retries=2)))
        splits, needed = patient.plan_splits(100), asked
        asked, every = 0, 5
        assert patient.plan_splits(100) == splits
    assert needed > 10
    assert asked == needed + asked // every


def test_h26_reads_as_of_now_see_what_others_wrote_before(named: Endpoint) -> None:
    with open_source(named) as source, open_target(named) as writer:
        assert isinstance(source, Source)
        before = source.count()
        for number in range(1, 6):
            row = Batch(
                IdColumn.of(IdKind.TEXT, [f"later {number}"]), None, {"v": Dense(np.ones((1, 4), np.float32))}, [{}]
            )
            assert writer.upsert(row) == []
            with source.as_of_now():
                assert source.count() == before + number
                assert len(source.fetch(row.ids).batch) == 1
        writer.delete(IdColumn.of(IdKind.TEXT, [f"later {number}" for number in range(1, 6)]))
