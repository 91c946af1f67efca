"""Qdrant servers by REST and gRPC: schemas, versions, shard keys, plans, records.

What needs no fault runs on the server at QDRANT_URL where that is set.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vectormigrate_dagster.config import MappingConfig
from vectormigrate_dagster.databases import Database, capabilities_of, open_source, open_target
from vectormigrate_dagster.databases.qdrant import grpc as qdrant_grpc
from vectormigrate_dagster.databases.qdrant.capabilities import at, missing
from vectormigrate_dagster.databases.qdrant.scopes import scope_of, shard_key_of
from vectormigrate_dagster.databases.version import version_of
from vectormigrate_dagster.errors import NotFound, SchemaMismatch, Unavailable
from vectormigrate_dagster.mapping.profile_models import Profile
from vectormigrate_dagster.mapping.schema import map_schema
from vectormigrate_dagster.model import (
    Batch,
    Dense,
    Element,
    IdColumn,
    IdKind,
    Metric,
    Multi,
    Packed,
    ScopeKind,
    Sparse,
    Split,
    VectorKind,
    is_valid,
)
from vectormigrate_dagster.transfer import Retry
from vectormigrate_dagster_tests.databases.qdrant_support import (
    RICH,
    Opener,
    endpoint,
    everything,
    ids_of,
    plain,
    schema,
)
from vectormigrate_dagster_tests.emulators.qdrant import QdrantServer, QdrantStandIn, Settings

########################################################################
# Schema
########################################################################


def test_every_setting_is_read_back_and_made_again(on_server: Opener) -> None:
    first = on_server()
    first.create(RICH)
    described = first.describe()
    for vector in RICH.vectors:
        made = described.vector(vector.name)
        assert (made.kind, made.element, made.dim, made.metric, made.modifier, made.on_disk) == (
            vector.kind,
            vector.element,
            vector.dim,
            vector.metric,
            vector.modifier,
            vector.on_disk,
        )
        if vector.index is not None:
            assert made.index is not None
            assert made.index.params.items() >= vector.index.params.items()
        if vector.quantization is not None:
            assert made.quantization is not None
            assert made.quantization.params.items() >= vector.quantization.params.items()
    assert described.vector("halves").index.params["m"] == 20  # the collection's own
    assert {f.name: (f.index.type, f.tenant) for f in described.fields if f.index} == {
        f.name: (f.index.type, f.tenant) for f in RICH.fields if f.index
    }
    assert described.marker == RICH.marker
    for name, settings in RICH.settings.items():
        found = described.settings[name]
        assert found == settings if not isinstance(settings, dict) else found.items() >= settings.items()

    second = on_server("server_copy", "rest" if first.endpoint.options.grpc_url else "grpc")
    second.create(described)
    assert second.describe() == described.model_copy(update={"name": "server_copy"})


def test_a_mapping_between_two_qdrants_keeps_every_setting() -> None:
    can = capabilities_of("qdrant")
    mapping, report = map_schema(RICH, can, can, MappingConfig(), Profile(), collection="other")
    assert mapping.target_schema.settings == RICH.settings
    assert {row.code: row.grade.value for row in report.rows if row.code.startswith("setting.")} == {
        f"setting.{name}": "exact" for name in RICH.settings
    }
    assert "marker" not in {row.code for row in report.rows}
    old = at((1, 12), clustered=False)
    mapping, report = map_schema(RICH, can, old, MappingConfig(), Profile(), collection="other")
    assert "metadata" not in mapping.target_schema.settings
    assert {row.code for row in report.rows if row.grade.value == "widened"} >= {
        "marker",
        "setting.metadata",
        "setting.strict_mode_config",
    }


def test_vectors_of_every_kind_come_back_as_they_were(on_server: Opener) -> None:
    database = on_server()
    database.create(schema(*(v.model_copy(update={"metric": Metric.DOT}) for v in RICH.vectors)))
    some = np.array([True, False, True])
    vectors = {
        "dense": Dense(np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32), None),
        "halves": Packed(Element.FLOAT16, 3, np.array([[0.1, -2, 3], [0, 0, 0], [65504, 6e-8, 1]], np.float16), some),
        "bytes": Packed(Element.UINT8, 2, np.array([[0, 255], [0, 0], [7, 128]], dtype=np.uint8), some),
        "tokens": Multi(np.array([0, 1, 1, 3]), np.arange(6, dtype=np.float32).reshape(3, 2), some),
        "words": Sparse(
            np.array([0, 2, 3, 3]),
            np.array([1, 2**32 - 1, 5], dtype=np.uint32),
            np.array([0.1, -3, 2], dtype=np.float32),
            np.array([True, True, False]),
        ),
    }
    payloads: list[dict[str, Any]] = [
        {"a": [1, 1.0, None, True, {"é\n": []}], "big": 2**63 - 1, "tiny": -(2**63), "x": 1e-300},
        {},
        {"": {"deep": [[[{}]]]}, "t": "日本🎉"},
    ]
    database.upsert(Batch(IdColumn.of(IdKind.U64, [1, 2, 2**64 - 1]), None, vectors, payloads))
    (back,) = database.scan(Split(kind=IdKind.U64))
    assert back.payloads == payloads
    assert [[type(v) for v in p.get("a", [])] for p in back.payloads] == [
        [type(v) for v in p.get("a", [])] for p in payloads
    ]
    for name, column in vectors.items():
        assert is_valid(back.vectors[name]).tolist() == is_valid(column).tolist()
        assert back.vectors[name].values.tobytes() == column.values.tobytes(), name
    again = database.fetch(IdColumn.of(IdKind.U64, [2**64 - 1, 5, 1]))
    assert again.batch.ids.to_pylist() == [1, 2**64 - 1]
    assert again.missing.to_pylist() == [5]
    assert again.batch.vectors["tokens"].values.tobytes() == vectors["tokens"].values.tobytes()


def test_integers_above_int64_are_read_exactly(qdrant_server: QdrantServer, on_server: Opener) -> None:
    """A gRPC message has no such integers: the server makes doubles of them."""
    database = on_server()
    database.create(schema())
    payloads: list[dict[str, Any]] = [
        {"a": 2**63 + 1},
        {"a": [{"b": 2**64 - 1}], "f": 1e19, "g": 2.0**63},
        {"a": 2**63 - 1, "f": -1e19},
    ]
    batch = plain([1, 2, 3])
    with open_target(endpoint(qdrant_server, "rest", "server_things")) as writer:
        writer.upsert(Batch(batch.ids, None, batch.vectors, payloads))
    (read,) = everything(database)
    for back in (read.payloads, database.fetch(batch.ids).batch.payloads):
        assert [repr(sorted(row.items())) for row in back] == [repr(sorted(row.items())) for row in payloads]


def test_a_record_that_goes_away_while_it_is_read_is_read_again(
    qdrant_stand_in: QdrantStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = plain([1, 2])
    with open_target(endpoint(qdrant_stand_in, "rest", "things")) as other:
        other.create(schema())
        other.upsert(Batch(batch.ids, None, batch.vectors, [{"a": 2**63 + 1}, {}]))
        with open_target(endpoint(qdrant_stand_in, "grpc", "things")) as database:
            exact = qdrant_grpc._exact_payloads

            def too_late(*args: Any) -> Any:
                other.delete(IdColumn.of(IdKind.U64, [1]))
                return exact(*args)

            monkeypatch.setattr(qdrant_grpc, "_exact_payloads", too_late)
            with pytest.raises(Unavailable, match="id '1'"):
                database.fetch(batch.ids)
            assert database.fetch(batch.ids).missing.to_pylist() == [1]


########################################################################
# Versions
########################################################################


@pytest.mark.parametrize(
    ("version", "changes", "needed"),
    [
        ("1.9.7", {"vectors": (RICH.vector("tokens"),)}, "1.10"),
        ("1.8.0", {"vectors": (RICH.vector("bytes"),)}, "1.9"),
        ("1.9.0", {"vectors": (RICH.vector("halves"),)}, "1.10"),
        ("1.15.5", {"settings": {"metadata": {"a": 1}}}, "1.16"),
        ("1.12.0", {"settings": {"strict_mode_config": {"enabled": True}}}, "1.13"),
        ("1.16.3", {"settings": {"optimizer_config": {"prevent_unoptimized": True}}}, "1.17"),
        ("1.10.0", {"fields": (RICH.fields[1],)}, "1.11"),
    ],
)
def test_what_a_server_lacks_is_refused_before_anything_is_made(
    version: str, changes: dict[str, Any], needed: str
) -> None:
    with (
        QdrantStandIn(Settings(version=version)) as server,
        open_target(endpoint(server, "rest", "things")) as database,
    ):
        with pytest.raises(SchemaMismatch, match=rf"needs server {needed}"):
            database.create(schema().model_copy(update=changes))
        assert "CreateCollection" not in server.calls()


def test_a_server_of_its_own_has_no_shard_keys(transport: str) -> None:
    with (
        QdrantStandIn(Settings(distributed=False)) as server,
        open_target(endpoint(server, transport, "things")) as database,
    ):
        assert ScopeKind.SHARD_KEY not in database.probe().scope_kinds
        with pytest.raises(SchemaMismatch, match="cluster mode"):
            database.create(schema(scope=ScopeKind.SHARD_KEY))


def test_a_probe_narrows_by_version(transport: str) -> None:
    with QdrantStandIn(Settings(version="1.16.3")) as server:
        with open_source(endpoint(server, transport, "things")) as source:
            can = source.probe()
        assert not can.insert_only
        assert "turbo" not in can.quantization
        assert "metadata" in can.collection_settings
        assert ScopeKind.SHARD_KEY in can.scope_kinds
    assert at((1, 17), clustered=True).insert_only
    assert VectorKind.MULTI not in at((1, 9), clustered=True).vector_kinds
    assert missing(RICH, (1, 19), clustered=False) == []
    assert version_of("v1.19.0-dev") == (1, 19)


def test_an_old_server_keeps_records_but_no_marker(transport: str) -> None:
    """Servers before 1.16 also answer in the old form over gRPC, and before 1.11 cannot be sampled."""
    for version in ("1.10.1", "1.15.5"):
        with (
            QdrantStandIn(Settings(version=version)) as server,
            open_target(endpoint(server, transport, "things")) as database,
        ):
            database.create(schema(marker={"a": 1}))
            assert database.describe().marker is None
            database.upsert(plain(range(30)))
            assert ids_of(everything(database, per_split=10)) == list(range(30))


########################################################################
# Shard keys
########################################################################


@given(st.one_of(st.integers(0, 2**64 - 1), st.text(max_size=6), st.text(alphabet='"\\01789', max_size=22)))
def test_a_scope_names_exactly_one_shard_key(key: int | str) -> None:
    again = shard_key_of(scope_of(key))
    assert again == key
    assert type(again) is type(key)


@given(st.text(max_size=8))
def test_two_shard_keys_never_share_a_scope(text: str) -> None:
    assert scope_of(text) != scope_of(7) or text == "never"
    assert shard_key_of(text) is not None


def test_shard_keys_are_scopes(on_server: Opener) -> None:
    database = on_server()
    if ScopeKind.SHARD_KEY not in database.probe().scope_kinds:
        pytest.skip("the server at QDRANT_URL is not in cluster mode")
    database.create(schema(scope=ScopeKind.SHARD_KEY, shards=1))
    assert database.describe().scope is ScopeKind.SHARD_KEY
    assert database.scopes() == []
    assert database.count("north") == 0
    for scope in ("north", "7", '"7"'):
        assert database.fetch(IdColumn.of(IdKind.U64, [1]), scope).missing.to_pylist() == [1]
        database.delete(IdColumn.of(IdKind.U64, [1]), scope)
        database.upsert(plain(range(1, 4), scope, {"scope": scope}))
    assert database.scopes() == ['"7"', "7", "north"]
    database.delete(IdColumn.of(IdKind.U64, [2]), "7")
    assert [database.count(scope) for scope in ("north", "7", '"7"', None)] == [3, 2, 3, 8]
    splits = database.plan_splits(1)
    assert {split.scope for split in splits} == {"north", "7", '"7"'}
    read = [batch for split in splits for batch in database.scan(split)]
    assert sorted((b.scope, i, b.payloads[0]["scope"]) for b in read for i in b.ids.to_pylist()) == sorted(
        (scope, i, scope) for scope in ("north", "7", '"7"') for i in (1, 2, 3) if (scope, i) != ("7", 2)
    )
    found = database.fetch(IdColumn.of(IdKind.U64, [1]), '"7"').batch
    assert (found.scope, found.payloads[0]) == ('"7"', {"scope": '"7"'})
    hits = database.search(np.ones((1, 2), np.float32), 10, exact=True, scope="7")
    assert sorted(hits.ids[0].to_pylist()) == [1, 3]
    with pytest.raises(NotFound, match=r"'server_things'.*south"):
        list(database.scan(Split(scope="south", kind=IdKind.U64)))


def test_two_workers_may_create_one_shard_key(qdrant_server: QdrantServer, on_server: Opener, transport: str) -> None:
    first = on_server()
    if ScopeKind.SHARD_KEY not in first.probe().scope_kinds:
        pytest.skip("the server at QDRANT_URL is not in cluster mode")
    first.create(schema(scope=ScopeKind.SHARD_KEY, shards=1))
    errors: list[BaseException] = []

    def write(number: int) -> None:
        with open_target(endpoint(qdrant_server, transport, "server_things")) as database:
            try:
                # The replicas of a key that another worker has just created may not be ready yet.
                Retry(max_retries=10).call(partial(database.upsert, plain([number], "k")))
            except BaseException as error:  # noqa: BLE001  # shown by the assertion below
                errors.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert first.count("k") == 4


########################################################################
# Plans
########################################################################

DISTRIBUTIONS: dict[str, Callable[[np.random.Generator, int], list[Any]]] = {
    "dense integers": lambda _, n: list(range(n)),
    "random integers": lambda random, n: sorted({int(v) for v in random.integers(0, 2**64, n, dtype=np.uint64)}),
    "random uuids": lambda random, n: [uuid.UUID(bytes=random.bytes(16)) for _ in range(n)],
    "two heaps": lambda _, n: [*range(n // 2), *range(2**63, 2**63 + n // 2)],
    "mixed": lambda random, n: [*range(n // 2), *(uuid.UUID(bytes=random.bytes(16)) for _ in range(n // 2))],
}


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("version", ["1.19.0", "1.18.2"])
def test_plans_are_even_and_cheap(distribution: str, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vectormigrate_dagster.databases.qdrant.plan._SAMPLE_AT_LEAST", 500)
    ids = DISTRIBUTIONS[distribution](np.random.default_rng(1), 2000)
    with (
        QdrantStandIn(Settings(version=version)) as server,
        open_target(endpoint(server, "grpc", "things")) as database,
    ):
        database.create(schema())
        for kind in (int, uuid.UUID):
            if some := [value for value in ids if isinstance(value, kind)]:
                database.upsert(plain(some))
        database.probe()
        server.clear_faults()
        splits = database.plan_splits(200)
        assert sum(server.calls().values()) <= len(splits) + 4
        sizes = [len(ids_of(list(database.scan(split)))) for split in splits]
    assert sum(sizes) == len(ids)
    full = [size for size in sizes if size]
    assert 8 <= len(full) <= 14
    assert max(full) < 2 * 200


def test_a_strict_collection_is_planned_and_read_in_small_pages(faulty: Database) -> None:
    with faulty._client("write") as client:
        client.update_collection("things", strict_mode_config={"enabled": True, "max_query_limit": 7})
    faulty.upsert(plain(range(100)))
    splits = faulty.plan_splits(25)
    batches = [batch for split in splits for batch in faulty.scan(split, batch_records=1000)]
    assert ids_of(batches) == list(range(100))
    assert max(len(batch) for batch in batches) == 7
    assert len([split for split in splits if split.kind is IdKind.U64]) > 1
