"""What only a Milvus server has: versions, load state, repeated ids, its clock, and a network that breaks."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr
from pymilvus import MilvusClient
from pymilvus.client.types import LoadState

from vectormigrate_dagster.config import MappingConfig
from vectormigrate_dagster.databases import Database, Endpoint, Source, keep_open, open_source, open_target
from vectormigrate_dagster.databases.columns import joined
from vectormigrate_dagster.databases.endpoint import MilvusOptions
from vectormigrate_dagster.databases.milvus.capabilities import of_version, require_version, version_of
from vectormigrate_dagster.databases.milvus.quantiles import quantiles
from vectormigrate_dagster.databases.milvus.records import UNREADABLE
from vectormigrate_dagster.databases.pages import TARGET_BYTES, PageSize
from vectormigrate_dagster.errors import (
    AuthenticationFailed,
    DatabaseError,
    InvalidRecord,
    NotFound,
    SchemaMismatch,
    Unavailable,
)
from vectormigrate_dagster.mapping.profile import profile_source
from vectormigrate_dagster.mapping.records import RecordMapper
from vectormigrate_dagster.mapping.schema import map_schema
from vectormigrate_dagster.model import (
    Batch,
    CollectionSchema,
    Dense,
    Element,
    FieldSchema,
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
    VectorKind,
    VectorSchema,
)
from vectormigrate_dagster_tests.servers.milvus import QUICK, Address, MilvusServer

VECTOR = VectorSchema(name="v", dim=4, metric=Metric.EUCLIDEAN, index=IndexSpec(type="FLAT"))
PLAIN = CollectionSchema(name="any", ids=IdSchema(kinds=(IdKind.I64,), field="key"), vectors=(VECTOR,))
WHOLE = Split(kind=IdKind.I64)


def batch(ids: list[int], scope: str | None = None, **payload: Any) -> Batch:
    vectors = np.arange(len(ids) * 4, dtype=np.float32).reshape(-1, 4)
    return Batch(IdColumn.of(IdKind.I64, ids), scope, {"v": Dense(vectors)}, [{"n": i, **payload} for i in ids])


def ids_of(database: Any, split: Split = WHOLE, page: int = 1000) -> list[Id]:
    return [value for part in database.scan(split, batch_records=page) for value in part.ids.to_pylist()]


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
    client = MilvusClient(milvus_server.url, token=milvus_server.token, db_name=milvus_server.database, dedicated=True)
    yield client
    client.close()


########################################################################
# Versions
########################################################################


def declared(name: str, type: FieldType, **settings: Any) -> FieldSchema:
    return FieldSchema(name=name, type=type, declared=True, **({"nullable": False} | settings))


def with_vector(**changes: Any) -> CollectionSchema:
    return PLAIN.model_copy(update={"vectors": (VECTOR.model_copy(update=changes),)})


def with_field(type: FieldType, **settings: Any) -> CollectionSchema:
    return PLAIN.model_copy(update={"fields": (declared("f", type, **settings),)})


VERSIONS = ["2.3.5", "2.4.0", "2.5.0", "2.6.0", "2.6.4", "2.6.6", "3.0.0"]
FIRST = [
    ("plain", PLAIN, "2.3.5"),
    ("binary", with_vector(element=Element.BINARY, dim=8, metric=Metric.HAMMING), "2.3.5"),
    ("json", with_field(FieldType.JSON), "2.3.5"),
    ("array", with_field(FieldType.ARRAY, element=FieldType.INT64), "2.3.5"),
    ("float16", with_vector(element=Element.FLOAT16), "2.4.0"),
    ("bfloat16", with_vector(element=Element.BFLOAT16), "2.4.0"),
    ("sparse", with_vector(kind=VectorKind.SPARSE, dim=None, metric=Metric.DOT), "2.4.0"),
    ("two vectors", PLAIN.model_copy(update={"vectors": (VECTOR, VECTOR.model_copy(update={"name": "w"}))}), "2.4.0"),
    ("null", with_field(FieldType.INT64, nullable=True), "2.5.0"),
    ("default", with_field(FieldType.INT64, default=7), "2.5.0"),
    ("int8", with_vector(element=Element.INT8), "2.6.0"),
    ("geo", with_field(FieldType.GEO), "2.6.4"),
    ("datetime", with_field(FieldType.DATETIME), "2.6.6"),
    ("missing vector", with_vector(optional=True), "3.0.0"),
]


@pytest.mark.parametrize(("schema", "first"), [pytest.param(s, f, id=name) for name, s, f in FIRST])
def test_each_type_is_refused_before_the_version_that_knows_it(schema: CollectionSchema, first: str) -> None:
    for version in VERSIONS:
        if version_of(version) >= version_of(first):
            require_version(schema, version_of(version))
        else:
            expected = first.removesuffix(".0")
            with pytest.raises(SchemaMismatch, match=rf"is {version} .* needs? {expected}; use a newer server"):
                require_version(schema, version_of(version))


def test_capabilities_follow_the_version() -> None:
    old, new = of_version((2, 3, 5)), of_version((3, 0, 0))
    assert (old.max_vectors, old.vector_kinds, old.null_fields) == (1, (VectorKind.DENSE,), False)
    assert old.elements == (Element.FLOAT32, Element.BINARY)
    assert FieldType.GEO not in old.field_types
    assert (new.missing_vectors, new.null_fields) == (True, True)
    assert {FieldType.GEO, FieldType.DATETIME} < set(new.field_types)


@pytest.mark.parametrize(
    ("text", "numbers"), [("v2.3.5-lite", (2, 3, 5)), ("2.6", (2, 6, 0)), ("master-20260901-1a2b3c", (2, 3, 0))]
)
def test_versions_are_read_as_servers_write_them(text: str, numbers: tuple[int, ...]) -> None:
    assert version_of(text) == numbers


def test_a_field_that_would_abort_the_server_is_never_sent(milvus_server: Address) -> None:
    """2.3.5 aborts on GEOMETRY, and again on every start on that data."""
    with open_target(milvus_server.endpoint("places")) as database:
        if FieldType.GEO in database.probe().field_types:
            pytest.skip("this server knows it")
        with pytest.raises(SchemaMismatch, match=r"field 'f' is geo, which needs 2\.6\.4"):
            database.create(with_field(FieldType.GEO))
        database.ping()
        with pytest.raises(NotFound):
            database.describe()


def test_columns_that_may_be_null_are_planned_so_that_this_server_makes_the_collection(
    milvus_server: Address, tmp_path: Path
) -> None:
    fields = (
        declared("n", FieldType.INT64, nullable=True),
        declared("seven", FieldType.INT64, default=7),
        declared("text", FieldType.TEXT, nullable=True, max_length=9),
    )
    payloads = [{"n": 1, "seven": 1, "text": "é"}, {"n": None, "seven": 7, "text": "x"}]
    with (
        open_target(Endpoint(type="milvus", path=tmp_path / "newer", collection="any")) as source,
        open_target(milvus_server.endpoint("older")) as target,
    ):
        source.create(PLAIN.model_copy(update={"fields": fields, "dynamic": False}))
        source.upsert(
            Batch(IdColumn.of(IdKind.I64, [1, 2]), None, {"v": Dense(np.eye(2, 4, dtype=np.float32))}, payloads)
        )
        can = of_version((2, 3, 5))
        profile = profile_source(Source(source), [WHOLE], full=True)
        plan, report = map_schema(source.describe(), source.probe(), can, MappingConfig(), profile, collection="older")
        report.check()
        target.create(plan.target_schema)
        for part in source.scan(WHOLE):
            mapped = RecordMapper(plan).map(part)
            assert not mapped.refused
            assert [target.upsert(batch) for batch in mapped.batches] == [[]]
        assert [field.name for field in target.describe().fields] == ["seven", "text"]
        (read,) = target.scan(WHOLE)
        assert read.payloads == payloads
        target.drop()


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
        for page in (3, 7, 11, 1000):
            assert ids_of(database, page=page) == list(range(40))
        splits = database.plan_splits(8)
        assert [value for split in splits for value in ids_of(database, split)] == list(range(40))
        database.upsert(batch(list(range(10))))
        assert (database.count(), database.repeated()) == (40, 0)
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


def test_h26_a_collection_that_another_reader_releases_is_still_read_whole(
    filled: Endpoint, client: MilvusClient
) -> None:
    """Who found it released, puts it back; for a moment the server then says that there are no records, and no error.

    Nothing goes through `transfer`, whose reader has doubts of its own.
    """
    done = threading.Event()

    def come_and_go() -> None:
        while not done.is_set():
            with open_source(filled) as other, suppress(Unavailable):
                other.count()

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

    client.release_collection("filled")
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(come_and_go)
        try:
            for _ in range(4):
                with open_source(filled) as source:
                    assert all_ids(source) == list(range(500))
        finally:
            done.set()
        coming.result()
    client.load_collection("filled")


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


class Numbers:
    """Sorted integers that are asked as `milvus_quantiles` asks, with the number of questions."""

    def __init__(self, ids: np.ndarray) -> None:
        self.ids, self.asked = ids, 0

    def _start(self, after: Id | None) -> int:
        return 0 if after is None else int(np.searchsorted(self.ids, after, side="right"))  # type: ignore[arg-type]

    def at(self, after: Id | None, place: int) -> Id | None:
        self.asked += 1
        i = self._start(after) + place - 1
        return int(self.ids[i]) if i < len(self.ids) else None

    def count(self, after: Id | None, last: Id) -> int:
        self.asked += 1
        return self._start(last) - self._start(after)


@pytest.mark.parametrize("spread", ["dense", "random", "clustered"])
def test_splits_of_a_large_collection_are_exact_and_cost_few_questions(spread: str) -> None:
    n = 2_000_000
    random = np.random.default_rng(0)
    ids = {
        "dense": np.arange(n) - n // 2,
        "random": np.unique(random.integers(-(2**63), 2**63 - 1, n)),
        "clustered": np.unique(np.concatenate([random.integers(0, n, n), random.integers(2**61, 2**61 + n, n)])),
    }[spread]
    asked = Numbers(ids)
    bounds = quantiles(asked, len(ids), 10, page=1000, numbers=True)
    assert bounds == [int(ids[len(ids) * i // 10 - 1]) for i in range(1, 10)]
    assert asked.asked < 9 * 100  # walking takes 9 * 200 for two million, and more for more


def test_splits_begin_at_the_smallest_number_that_a_server_knows() -> None:
    """A filter that names the number before it is refused by the server."""

    class Strict(Numbers):
        def at(self, after: Id | None, place: int) -> Id | None:
            assert after is None or int(after) >= -(2**63)  # type: ignore[arg-type]
            return super().at(after, place)

        def count(self, after: Id | None, last: Id) -> int:
            assert after is None or int(after) >= -(2**63)  # type: ignore[arg-type]
            return super().count(after, last)

    ids = np.concatenate([[-(2**63)], np.arange(99_999)])
    bounds = quantiles(Strict(ids), len(ids), 3, page=100, numbers=True)
    assert bounds == [int(ids[len(ids) * i // 3 - 1]) for i in (1, 2)]


def test_pages_follow_the_weight_of_records() -> None:
    size = PageSize(10_000, record_bytes=2000)
    assert size.records == TARGET_BYTES // 2000
    size.learn(100, 100 * 100_000)
    assert size.records == TARGET_BYTES // 100_000
    size.learn(100, 100 * 10)
    assert size.records == 2 * (TARGET_BYTES // 100_000)
    while size.shrink():
        pass
    assert size.records == 1


########################################################################
# A network and a server that fail
########################################################################


def on_network(server: MilvusServer, **options: Any) -> Database:
    options = {"timeout_s": 20.0, "connect_timeout_s": 5.0} | options
    return open_target(Endpoint(type="milvus", url=server.url, collection="net", options=MilvusOptions(**options)))


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusServer]:
    """A server that tests may kill, with collection "net" of 100 records."""
    with MilvusServer.start(tmp_path_factory.mktemp("mortal"), QUICK) as server:
        with on_network(server) as database:
            database.create(PLAIN)
            database.upsert(batch(list(range(100))))
        yield server


def patiently(call: Callable[[], Any]) -> Any:
    """Call until the server answers: what `transfer.throttle` does, for a bounded time."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return call()
        except Unavailable:
            if time.monotonic() > deadline:
                raise


def test_a_lost_acknowledgement_is_an_error_and_the_repetition_makes_no_second_row(mortal: MilvusServer) -> None:
    with on_network(mortal) as database:
        assert ids_of(database) == list(range(100))  # so that the next call is the write
        mortal.proxy.swallow_replies()
        with pytest.raises(Unavailable, match="does not answer"):
            database.upsert(batch([1000, 1001]))
        assert mortal.proxy.swallowed
        assert patiently(lambda: database.upsert(batch([1000, 1001]))) == []
        assert database.count() == 102
        database.delete(IdColumn.of(IdKind.I64, [1000, 1001]))
        assert database.count() == 100


def test_h28_every_call_survives_a_cut_connection(mortal: MilvusServer) -> None:
    with on_network(mortal) as database:
        calls: list[Callable[[], Any]] = [
            database.ping, database.describe, database.count, lambda: ids_of(database),
            lambda: database.fetch(IdColumn.of(IdKind.I64, [1])), lambda: database.upsert(batch([1])),
        ]  # fmt: skip
        for call in calls:
            call()
            mortal.proxy.cut()
            try:
                call()
            except Unavailable:  # what `transfer.throttle` repeats
                call()


def test_h28_a_server_that_is_killed_and_comes_back_is_found_again(mortal: MilvusServer) -> None:
    with on_network(mortal) as database:
        pages = database.scan(WHOLE, batch_records=30)
        last = next(pages).ids[29]
        mortal.kill()
        with pytest.raises(Unavailable, match=mortal.url):
            next(pages)
        with pytest.raises(Unavailable, match=mortal.url):
            database.upsert(batch([5000]))
        with on_network(mortal) as another, pytest.raises(Unavailable, match=mortal.url):
            another.count()
        mortal.restart()
        patiently(lambda: database.fetch(IdColumn.of(IdKind.I64, [1])))
        assert [v for part in database.scan(WHOLE, after=str(last)) for v in part.ids.to_pylist()] == list(
            range(30, 100)
        )
        assert database.upsert(batch([5000])) == []
        assert database.count() == 101


def test_a_machine_that_never_answers_is_given_up(milvus_server: Address) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        options = MilvusOptions(connect_timeout_s=0.5)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        source = open_source(Endpoint(type="milvus", url=url, collection="net", options=options))
        with source, pytest.raises(Unavailable, match="in time"):
            source.ping()


def test_a_database_that_does_not_exist_is_named(milvus_server: Address) -> None:
    source = open_source(replace(milvus_server, database="nowhere").endpoint("any"))
    with source, pytest.raises(NotFound, match=r"options\.database"):
        source.describe()


def test_a_collection_that_is_dropped_or_made_anew_during_a_load_ends_it(
    milvus_server: Address, client: MilvusClient
) -> None:
    with open_target(milvus_server.endpoint("gone")) as database:
        database.create(PLAIN)
        assert database.upsert(batch([1])) == []
        client.drop_collection("gone")
        with pytest.raises(NotFound, match="'gone'"):
            database.upsert(batch([2]))
        with open_target(milvus_server.endpoint("gone")) as other:
            other.create(with_vector(dim=8))
        with pytest.raises((InvalidRecord, SchemaMismatch), match="dim"):
            database.upsert(batch([2]))
        client.drop_collection("gone")


########################################################################
# TLS, token and limits: one server with all of them
########################################################################


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A server that asks for TLS and a token and sends at most 256 KB at once; its address and its certificate."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("guarded")
    certificate, key = folder / "server.pem", folder / "server.key"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate],
        check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=60,
    )  # fmt: skip
    settings = QUICK | {
        "common.security.authorizationEnabled": "true",
        "common.security.tlsMode": 1,
        "tls.serverPemPath": certificate,
        "tls.serverKeyPath": key,
        "tls.caPemPath": certificate,
        "proxy.grpc.serverMaxSendSize": 262_144,
    }
    with ExitStack() as stack:
        server = stack.enter_context(MilvusServer.start(folder / "data", settings))
        yield f"https://localhost:{server.proxy.port}", certificate


def guarded_endpoint(guarded: tuple[str, Path], token: str | None = "root:Milvus", **options: Any) -> Endpoint:
    url, certificate = guarded
    key = None if token is None else SecretStr(token)
    made = MilvusOptions(**({"ca_file": certificate, "connect_timeout_s": 5} | options))
    return Endpoint(type="milvus", url=url, api_key=key, collection="safe", options=made)


def test_h08_replies_that_are_too_large_are_asked_for_in_smaller_pages_through_tls(guarded: tuple[str, Path]) -> None:
    with open_target(guarded_endpoint(guarded)) as database:
        database.create(PLAIN)
        database.upsert(batch(list(range(200)), text="x" * 5000))
        assert ids_of(database) == list(range(200))
        asked = IdColumn.of(IdKind.I64, [*range(150), 999])
        fetched = database.fetch(asked)
        assert (len(fetched.batch), fetched.missing.to_pylist()) == (150, [999])


@pytest.mark.parametrize("token", ["root:wrong", "nobody:Milvus", None])
def test_a_wrong_token_is_not_accepted(guarded: tuple[str, Path], token: str | None) -> None:
    source = open_source(guarded_endpoint(guarded, token))
    with source, pytest.raises(AuthenticationFailed, match="does not accept the key") as failed:
        source.describe()
    assert "wrong" not in str(failed.value)


def test_a_certificate_that_nobody_vouches_for_is_not_accepted(guarded: tuple[str, Path]) -> None:
    with open_source(guarded_endpoint(guarded, ca_file=None)) as source, pytest.raises(Unavailable):
        source.ping()
