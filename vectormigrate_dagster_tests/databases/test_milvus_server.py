"""What only a Milvus server has: load state, repeated ids, its clock, aliases."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pymilvus import MilvusClient
from pymilvus.client.types import LoadState

from vectormigrate_dagster.databases import Database, Endpoint, Source, keep_open, open_source, open_target
from vectormigrate_dagster.databases.columns import joined
from vectormigrate_dagster.databases.endpoint import MilvusOptions
from vectormigrate_dagster.databases.milvus.records import UNREADABLE
from vectormigrate_dagster.errors import DatabaseError, InvalidRecord, SchemaMismatch, Unavailable
from vectormigrate_dagster.model import (
    Batch,
    CollectionSchema,
    Dense,
    Element,
    FieldType,
    Id,
    IdColumn,
    IdKind,
    IdSchema,
    IndexSpec,
    Metric,
    Packed,
    ScopeKind,
    Split,
    VectorSchema,
)
from vectormigrate_dagster_tests.databases.milvus_support import (
    PLAIN,
    WHOLE,
    batch,
    client_of,
    declared,
    ids_of,
    with_field,
)
from vectormigrate_dagster_tests.servers.milvus import Address


@pytest.fixture(scope="module")
def filled(milvus_server: Address) -> Iterator[Endpoint]:
    """A collection of 500 records in two partitions; tests leave it as it is."""
    endpoint = milvus_server.endpoint("filled")
    with open_target(endpoint) as database:
        database.create(PLAIN)
        database.upsert(batch(list(range(300))))
        database.upsert(batch(list(range(300, 500)), scope="other"))
        yield endpoint
        database.drop()


@pytest.fixture
def client(milvus_server: Address) -> Iterator[MilvusClient]:
    with closing(client_of(milvus_server)) as client:
        yield client


########################################################################
# Schemas and records
########################################################################


def test_everything_that_this_version_knows_is_described_as_it_was_made(milvus_server: Address) -> None:
    bits = VectorSchema(
        name="bits", dim=16, element=Element.BINARY, metric=Metric.JACCARD, index=IndexSpec(type="BIN_FLAT")
    )
    fields = (
        declared("tenant", FieldType.TEXT, max_length=20, tenant=True),
        declared("flag", FieldType.BOOL),
        declared("small", FieldType.INT8),
        declared("big", FieldType.INT64),
        declared("real", FieldType.FLOAT32),
        declared("tree", FieldType.JSON),
        declared("texts", FieldType.ARRAY, element=FieldType.TEXT, max_length=9, max_capacity=3),
    )
    made = CollectionSchema(
        name="all",
        ids=IdSchema(kinds=(IdKind.TEXT,), field="key", max_length=40),
        vectors=(bits,),
        fields=fields,
        dynamic=True,
        scope=ScopeKind.FIELD,
        shards=2,
        marker={"é": 1},
        settings={
            "consistency_level": "Session",
            "description": "all there is",
            "functions": [],
            "properties": {"collection.ttl.seconds": "86400"},
            "num_partitions": 16,
        },
    )
    payload = {
        "tenant": "t", "flag": True, "small": -128, "big": 2**63 - 1, "real": 0.5, "tree": {}, "texts": ["é", ""],
        "x.y": {"deep": [1, 1.0, None, 2**60]},
    }  # fmt: skip
    other = payload | {"tree": {"a": None}, "texts": []}
    packed = Packed(Element.BINARY, 16, np.array([[1, 2], [255, 0]], dtype=np.uint8))
    with open_target(milvus_server.endpoint("all")) as database:
        database.create(made)
        assert database.describe() == made
        written = Batch(IdColumn.of(IdKind.TEXT, ['"a"', "\\é"]), None, {"bits": packed}, [payload, other])
        assert database.upsert(written) == []
        back = joined(list(database.scan(Split(kind=IdKind.TEXT))))  # pages end where a shard's rows end
        assert back.ids == written.ids
        assert [repr(sorted(p.items())) for p in back.payloads] == [repr(sorted(p.items())) for p in (payload, other)]
        column = back.vectors["bits"]
        assert isinstance(column, Packed)
        assert column.values.tolist() == [[1, 2], [255, 0]]
        (refusal,) = database.upsert(Batch(written.ids, None, {"bits": packed}, [payload, payload | {"big": "x"}]))
        assert (refusal.id, refusal.reason) == ("\\é", "'big' is 'x', and the column is int64")
        assert database.count() == 2
        database.drop()


def test_a_json_value_that_this_server_cannot_hold_is_the_records_fault(milvus_server: Address) -> None:
    with open_target(milvus_server.endpoint("trees")) as database:
        if database.probe().title != "Milvus 2.3.5":
            pytest.skip("newer servers hold texts too")
        database.create(with_field(FieldType.JSON))
        with pytest.raises(InvalidRecord, match="objects only"):
            database.upsert(batch([1], f="a text"))
        database.drop()


def test_an_alias_is_described_and_neither_moved_nor_dropped(milvus_server: Address, client: MilvusClient) -> None:
    with (
        open_target(milvus_server.endpoint("behind")) as database,
        open_target(milvus_server.endpoint("live")) as alias,
    ):
        database.create(PLAIN)
        client.create_alias("behind", "live")
        assert database.describe().aliases == ("live",)
        with pytest.raises(SchemaMismatch, match="there is one already"):
            alias.create(PLAIN)
        with pytest.raises(DatabaseError, match="alias"):
            alias.drop()
        assert database.describe().aliases == ("live",)
        client.drop_alias("live")
        database.drop()


def test_a_source_that_makes_its_own_ids_is_read_with_them(milvus_server: Address, client: MilvusClient) -> None:
    with open_target(milvus_server.endpoint("auto")) as database:
        database.create(PLAIN.model_copy(update={"ids": IdSchema(kinds=(IdKind.I64,), field="key", auto=True)}))
        made = client.insert("auto", [{"v": [float(i)] * 4, "n": i} for i in range(5)])["ids"]
        assert database.describe().ids.auto
        assert ids_of(database) == sorted(made)
        database.drop()


def test_h26_rows_that_repeat_an_id_are_counted_apart(milvus_server: Address, client: MilvusClient) -> None:
    with open_target(milvus_server.endpoint("twice")) as database:
        database.create(PLAIN)
        database.upsert(batch(list(range(40))))
        client.insert("twice", [{"key": i, "v": [9.0] * 4, "n": -1} for i in range(10)])
        assert database.count() == 50
        assert database.repeated() == 10
        assert database.repeated_ids().to_pylist() == list(range(10))
        for page in (3, 7, 11, 1000):
            assert ids_of(database, page=page) == list(range(40))
        splits = database.plan_splits(8)
        assert [value for split in splits for value in ids_of(database, split)] == list(range(40))
        database.upsert(batch(list(range(10))))
        assert (database.count(), database.repeated(), len(database.repeated_ids())) == (40, 0, 0)
        database.drop()


def test_an_id_that_no_query_returns_is_refused_and_reported(milvus_server: Address, client: MilvusClient) -> None:
    with open_target(milvus_server.endpoint("last")) as database:
        database.create(PLAIN)
        (refusal,) = database.upsert(batch([UNREADABLE - 1, UNREADABLE]))
        assert (refusal.id, database.count()) == (str(UNREADABLE), 1)
        client.insert("last", [{"key": UNREADABLE, "v": [9.0] * 4}])
        with pytest.raises(DatabaseError, match=f"id {UNREADABLE}, which Milvus counts and never returns"):
            database.plan_splits(10)
        database.drop()


########################################################################
# Reading
########################################################################


def test_h26_a_scan_sees_everything_that_was_written_before_it(milvus_server: Address) -> None:
    """The client's iterator reads at the collection's own level of consistency: right after a write, nothing."""
    with (
        open_target(milvus_server.endpoint("fresh")) as database,
        open_target(milvus_server.endpoint("fresh")) as writer,
    ):
        database.create(PLAIN)
        for n in range(1, 8):
            writer.upsert(batch(list(range(50 * n))))
            assert ids_of(database, page=33) == list(range(50 * n))
        database.drop()


def test_h26_a_source_is_left_in_memory_or_out_of_it_as_it_was(filled: Endpoint, client: MilvusClient) -> None:
    def state(**partition: str) -> LoadState:
        return client.get_load_state("filled", **partition)["state"]

    client.release_collection("filled")
    with open_source(filled) as source:
        assert source.count() == 500
        assert state() == LoadState.Loaded
    assert state() == LoadState.NotLoad

    client.load_partitions("filled", ["other"])
    with open_source(filled) as source:
        # The server itself would say 200, without a word of what is not loaded.
        assert source.count() == 500
        assert len([value for split in source.plan_splits(1000) for value in ids_of(source, split)]) == 500
    assert state(partition_name="_default") == LoadState.NotLoad
    assert state(partition_name="other") == LoadState.Loaded
    client.load_collection("filled")


def test_a_collection_that_is_released_while_it_is_read_is_loaded_again(filled: Endpoint, client: MilvusClient) -> None:
    with open_source(filled) as source:
        pages = source.scan(WHOLE, batch_records=100)
        last = next(pages).ids[99]
        client.release_collection("filled")
        with pytest.raises(Unavailable, match="not loaded"):
            next(pages)
        again = source.scan(WHOLE, after=str(last), batch_records=1000)
        assert [value for part in again for value in part.ids.to_pylist()] == list(range(100, 500))
    client.load_collection("filled")


@contextmanager
def another_reader(filled: Endpoint, client: MilvusClient) -> Iterator[None]:
    """Finds a collection released, and puts it back, again and again.

    For a moment the server then says that there are no records, and no error.
    """
    done = threading.Event()

    def come_and_go() -> None:
        while not done.is_set():
            with open_source(filled) as other, suppress(Unavailable):
                other.count()

    client.release_collection("filled")
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(come_and_go)
        try:
            yield
        finally:
            done.set()
        coming.result()
    client.load_collection("filled")


def test_h26_a_collection_that_another_reader_releases_is_still_read_whole(
    filled: Endpoint, client: MilvusClient
) -> None:
    """Nothing goes through `transfer`, whose reader has doubts of its own."""

    def all_ids(source: Database | Source) -> list[Id]:
        """What `transfer` does: go on after the last id when the server does not answer."""
        found: list[Id] = []
        deadline = time.monotonic() + 60
        while True:
            try:
                for part in source.scan(WHOLE, str(found[-1]) if found else None, batch_records=20):
                    found += part.ids.to_pylist()
            except Unavailable:
                assert time.monotonic() < deadline
                continue
            return found

    with another_reader(filled, client):
        for _ in range(4):
            with open_source(filled) as source:
                assert all_ids(source) == list(range(500))


def test_h26_a_record_in_a_partition_that_another_reader_releases_is_not_called_absent(
    filled: Endpoint, client: MilvusClient
) -> None:
    wanted = IdColumn.of(IdKind.I64, [300, 499])
    answers = 0
    with another_reader(filled, client):
        while answers < 5:
            with suppress(Unavailable), open_source(filled) as source:
                assert source.fetch(wanted, "other").missing.to_pylist() == []
                answers += 1


def test_h26_every_call_finds_a_collection_again_that_somebody_released(filled: Endpoint, client: MilvusClient) -> None:
    with open_source(filled) as source:
        query = np.ones((1, 4), dtype=np.float32)
        calls: list[Callable[[], Any]] = [
            lambda: len(source.fetch(IdColumn.of(IdKind.I64, [1, 2])).batch),
            lambda: source.search(query, 2).ids[0],
        ]
        for call in calls:
            before = call()
            client.release_collection("filled")
            with pytest.raises(Unavailable, match="not loaded"):
                call()
            assert call() == before
    client.load_collection("filled")


def test_h26_a_collection_is_held_in_memory_while_many_objects_read_it(filled: Endpoint, client: MilvusClient) -> None:
    def state() -> LoadState:
        return client.get_load_state("filled")["state"]

    def interrupted() -> None:
        with keep_open(filled):
            assert state() == LoadState.Loaded
            for _ in range(2):
                with open_source(filled) as source:
                    assert source.count() == 500
                assert state() == LoadState.Loaded
            raise KeyboardInterrupt

    client.release_collection("filled")
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert state() == LoadState.NotLoad
    client.load_collection("filled")
    with keep_open(filled):
        pass
    assert state() == LoadState.Loaded


def test_what_is_made_while_it_is_held_stays_in_memory(milvus_server: Address, client: MilvusClient) -> None:
    endpoint = milvus_server.endpoint("made")
    with keep_open(endpoint), open_target(endpoint) as database:
        database.create(PLAIN)
        assert database.upsert(batch([1])) == []
        assert client.get_load_state("made")["state"] == LoadState.Loading  # nobody had to wait for it
        assert database.count() == 1
    assert client.get_load_state("made")["state"] == LoadState.Loaded
    with keep_open(endpoint):
        client.drop_collection("made")  # nothing to put back, and no error


def test_holding_what_does_not_answer_leaves_the_error_to_the_first_call() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint = Endpoint(type="milvus", url=f"http://127.0.0.1:{unused.getsockname()[1]}", collection="any")
        with keep_open(endpoint), open_source(endpoint) as source, pytest.raises(Unavailable):
            source.ping()


def test_a_search_weighs_as_many_candidates_as_the_endpoint_says(milvus_server: Address) -> None:
    vectors = np.random.default_rng(5).standard_normal((2000, 64)).astype(np.float32)
    queries = vectors[:50] + np.float32(0.5)
    nearest = np.argsort(((queries[:, None] - vectors) ** 2).sum(-1), axis=1)[:, :10]
    index = IndexSpec(type="HNSW", params={"M": 4, "efConstruction": 16})
    vector = VectorSchema(name="v", dim=64, metric=Metric.EUCLIDEAN, index=index)
    endpoint = milvus_server.endpoint("weighed")
    found: dict[int, float] = {}
    with open_target(endpoint) as database:
        database.create(PLAIN.model_copy(update={"vectors": (vector,)}))
        database.upsert(Batch(IdColumn.of(IdKind.I64, range(2000)), None, {"v": Dense(vectors)}, [{}] * 2000))
        database.finish_bulk_load()
        database.wait_indexed()
    for ef in (10, 500):
        options = MilvusOptions(**endpoint.options.model_dump(exclude_unset=True), search_ef=ef)
        with open_target(replace(endpoint, options=options)) as database:
            hits = database.search(queries, 10, vector="v")
        agreeing = [len(set(ids.to_pylist()) & set(true)) for ids, true in zip(hits.ids, nearest.tolist(), strict=True)]
        found[ef] = sum(agreeing) / 500
    with open_target(endpoint) as database:
        database.drop()
    assert found[500] > found[10] + 0.3
