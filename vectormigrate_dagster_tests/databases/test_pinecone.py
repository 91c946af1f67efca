"""Pinecone's indexes of both kinds, its namespaces, values and tags, beyond what every database has to do."""

from __future__ import annotations

import json
import re

import numpy as np
import orjson
import pytest
from pydantic import SecretStr

from vectormigrate_dagster.config import EndpointConfig
from vectormigrate_dagster.databases import Endpoint, open_target
from vectormigrate_dagster.databases.endpoint import PineconeOptions
from vectormigrate_dagster.databases.pinecone.capabilities import DOCUMENTS, SERVER
from vectormigrate_dagster.databases.pinecone.documents import DocumentsApi
from vectormigrate_dagster.databases.pinecone.requests import outgoing
from vectormigrate_dagster.databases.pinecone.tags import MAX_TAGS, MAX_VALUE, marker_of, tags_of
from vectormigrate_dagster.databases.pinecone.vectors import VectorsApi
from vectormigrate_dagster.errors import AuthenticationFailed, ConfigurationError, NotFound, SchemaMismatch, Unavailable
from vectormigrate_dagster.model import Batch, Dense, Metric, ScopeKind, Split, VectorKind, VectorSchema
from vectormigrate_dagster_tests.databases.pinecone_support import (
    DENSE,
    SPARSE,
    column,
    endpoint,
    everything,
    ids_of,
    plain,
    schema,
    sparse,
    written,
)
from vectormigrate_dagster_tests.emulators.pinecone import PineconeServer, PineconeStandIn, Settings

########################################################################
# Where it is
########################################################################


def test_a_migration_file_needs_no_address() -> None:
    config = EndpointConfig(type="pinecone", collection="things", api_key_env="KEY")
    assert config.url == "https://api.pinecone.io"
    assert config.place == ("pinecone", "api.pinecone.io:443", "things")
    assert config.endpoint({"KEY": "k"}).url == "https://api.pinecone.io"


def test_other_databases_still_need_one() -> None:
    with pytest.raises(ValueError, match="exactly one of 'url'"):
        EndpointConfig(type="qdrant", collection="things")


def test_there_is_no_embedded_pinecone() -> None:
    with pytest.raises(ValueError, match="no embedded pinecone; give 'url'"):
        EndpointConfig.model_validate({"type": "pinecone", "collection": "things", "path": "folder"})


def test_a_key_is_demanded_and_never_taken_from_somewhere_else(
    pinecone_stand_in: PineconeStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PINECONE_API_KEY", pinecone_stand_in.api_key)
    where = Endpoint(type="pinecone", url=pinecone_stand_in.url, collection="things")
    with open_target(where) as database, pytest.raises(ConfigurationError, match="'api_key_env'"):
        database.ping()


def test_a_wrong_key_is_told(pinecone_server: PineconeServer) -> None:
    where = Endpoint(type="pinecone", url=pinecone_server.url, api_key=SecretStr("pcsk_wrong"), collection="things")
    with open_target(where) as database, pytest.raises(AuthenticationFailed) as raised:
        database.ping()
    assert "pcsk_wrong" not in str(raised.value)


def test_nobody_at_the_address_is_unavailable() -> None:
    where = Endpoint(type="pinecone", url="http://127.0.0.1:9", api_key=SecretStr("k"), collection="things")
    with open_target(where) as database, pytest.raises(Unavailable):
        database.ping()


def test_an_index_by_its_own_host_needs_no_control_plane(pinecone_stand_in: PineconeStandIn) -> None:
    with open_target(endpoint(pinecone_stand_in)) as database:
        database.create(schema(marker={"a": 1}))
        database.upsert(plain(["a", "b"]))
        host = database._model().host
    pinecone_stand_in.clear_faults()
    with open_target(endpoint(pinecone_stand_in, host=host)) as database:
        database.probe()
        described = database.describe()
        assert [(v.name, v.dim, v.metric) for v in described.vectors if v.kind is VectorKind.DENSE] == [
            ("_values", 2, Metric.DOT)
        ]
        assert described.marker is None
        assert ids_of(everything(database)) == ["a", "b"]
    assert not {"DescribeIndex", "ListIndexes"} & pinecone_stand_in.calls().keys()


########################################################################
# Kinds of index
########################################################################


def test_an_index_is_returned_when_it_is_ready() -> None:
    with PineconeStandIn(Settings(ready_after=2, gone_after=1)) as server, open_target(endpoint(server)) as database:
        waits: list[float] = []
        database.sleep = waits.append
        database.create(schema())
        assert len(waits) == 2
        assert database.count() == 0
        database.drop()
        with pytest.raises(NotFound):
            database.describe()


def test_an_index_that_is_not_ready_in_time_is_unavailable() -> None:
    with (
        PineconeStandIn(Settings(ready_after=10**6)) as server,
        open_target(endpoint(server, ready_s=0)) as database,
        pytest.raises(Unavailable, match="is not ready"),
    ):
        database.create(schema())


@pytest.mark.parametrize(
    ("vectors", "kind"),
    [
        pytest.param((DENSE,), VectorsApi, id="dense"),
        pytest.param((SPARSE,), VectorsApi, id="sparse"),
        pytest.param((DENSE, SPARSE.model_copy(update={"optional": True})), VectorsApi, id="hybrid"),
        pytest.param((VectorSchema(name="meaning", dim=2, metric=Metric.COSINE),), DocumentsApi, id="document"),
        pytest.param(
            (
                VectorSchema(name="meaning", dim=2, metric=Metric.EUCLIDEAN),
                VectorSchema(name="words", kind=VectorKind.SPARSE, metric=Metric.DOT, optional=True),
            ),
            DocumentsApi,
            id="document-hybrid",
        ),
    ],
)
def test_each_kind_of_index_is_made_as_asked_for_and_read_by_its_own_api(
    pinecone_server: PineconeServer, vectors: tuple[VectorSchema, ...], kind: type[VectorsApi | DocumentsApi]
) -> None:
    with open_target(endpoint(pinecone_server, "kinds")) as database:
        database.drop()
        database.create(schema(*vectors))
        assert isinstance(database._api(), kind)
        assert database.describe().vectors == vectors
        columns = {
            v.name: sparse({7: 0.1, 2**32 - 1: -2.5}, {1: 1.0}) if v.kind is VectorKind.SPARSE else Dense(_two())
            for v in vectors
        }
        assert database.upsert(Batch(column(["a", "b"]), None, columns, [{"x": "é"}, {}])) == []
        (back,) = everything(database)
        assert back.payloads == [{"x": "é"}, {}]
        for name, written in columns.items():
            read = back.vectors[name]
            assert read.values.tobytes() == written.values.tobytes()
            if not isinstance(written, Dense):
                assert read.indices.tolist() == written.indices.tolist()
        database.drop()


def _two() -> np.ndarray:
    return np.array([[0.1, -3.0], [1e-30, 7e10]], dtype=np.float32)


def test_a_sparse_vector_may_be_missing_beside_a_dense_one(pinecone_stand_in: PineconeStandIn) -> None:
    with open_target(endpoint(pinecone_stand_in)) as database:
        database.create(schema(DENSE, SPARSE.model_copy(update={"optional": True})))
        vectors = {"_values": Dense(_two()), "_sparse_values": sparse(None, {3: 1.5})}
        assert database.upsert(Batch(column(["a", "b"]), None, vectors, [{}, {}])) == []
        (back,) = everything(database)
        assert back.vectors["_sparse_values"].valid.tolist() == [False, True]
        assert back.vectors["_sparse_values"].values.tolist() == [1.5]


@pytest.mark.parametrize(
    ("vectors", "reason"),
    [
        ((DENSE, DENSE.model_copy(update={"name": "b"})), "2 dense vectors, possible are 1"),
        ((DENSE, SPARSE.model_copy(update={"name": "b"})), "give every vector another name"),
        ((DENSE.model_copy(update={"name": "_sparse_values"}),), "no name of a dense vector"),
        ((DENSE.model_copy(update={"metric": Metric.MANHATTAN}),), "compared by manhattan"),
        ((DENSE.model_copy(update={"optional": True}),), "may be missing"),
        ((DENSE.model_copy(update={"metric": None}),), "needs a dimension and a metric"),
    ],
)
def test_what_no_index_can_be_is_refused(
    pinecone_server: PineconeServer, vectors: tuple[VectorSchema, ...], reason: str
) -> None:
    with open_target(endpoint(pinecone_server, "impossible")) as database, pytest.raises(SchemaMismatch, match=reason):
        database.create(schema(*vectors))


def test_a_name_that_no_index_can_have_is_refused(pinecone_server: PineconeServer) -> None:
    with (
        open_target(endpoint(pinecone_server, "My_Index")) as database,
        pytest.raises(SchemaMismatch, match="My_Index"),
    ):
        database.create(schema())


def test_capabilities_follow_the_kind_of_an_index_that_exists(pinecone_stand_in: PineconeStandIn) -> None:
    with open_target(endpoint(pinecone_stand_in)) as database:
        assert database.probe() == SERVER
        database.create(schema(VectorSchema(name="meaning", dim=2, metric=Metric.DOT)))
    with open_target(endpoint(pinecone_stand_in)) as database:
        assert database.probe() == DOCUMENTS


########################################################################
# Namespaces
########################################################################


def test_an_index_with_the_default_namespace_only_is_not_divided(pinecone_stand_in: PineconeStandIn) -> None:
    with open_target(endpoint(pinecone_stand_in)) as database:
        database.create(schema())
        assert database.describe().scope is ScopeKind.NONE
        database.upsert(plain(["a"]))
        assert database.scopes() == []
        assert database.describe().scope is ScopeKind.NONE
        assert [split.scope for split in database.plan_splits(10)] == [None]


@pytest.mark.parametrize("vector", ["_values", "meaning"])
def test_h17_the_same_id_in_two_namespaces_is_two_records(pinecone_stand_in: PineconeStandIn, vector: str) -> None:
    names = ["__default__", "a/b c", "ns-1"]
    with open_target(endpoint(pinecone_stand_in)) as database:
        database.create(schema(DENSE.model_copy(update={"name": vector})))
        for name in names:
            database.upsert(plain(["same", f"only {name}"], name, vector=vector))
        assert database.scopes() == names
        assert database.describe().scope is ScopeKind.NAMESPACE
        assert database.count() == 6
        assert [database.count(name) for name in names] == [2, 2, 2]
        batches = everything(database)
        assert [batch.scope for batch in batches] == names
        assert [row for batch in batches for row in batch.payloads] == [
            {"of": f"{name}/{text}"} for name in names for text in sorted(["same", f"only {name}"])
        ]
        database.delete(column(["same"]), "ns-1")
        assert database.fetch(column(["same"]), "ns-1").missing.to_pylist() == ["same"]
        assert database.fetch(column(["same"]), "a/b c").batch.payloads == [{"of": "a/b c/same"}]
        # None is the default namespace, whatever it is called.
        assert database.fetch(column(["same"])).batch.payloads == [{"of": "__default__/same"}]
        assert [split.scope for split in database.plan_splits(10, ["ns-1"])] == ["ns-1"]


def test_a_namespace_that_does_not_exist_is_empty(pinecone_stand_in: PineconeStandIn) -> None:
    with open_target(endpoint(pinecone_stand_in)) as database:
        database.create(schema())
        assert database.count("nowhere") == 0
        assert list(database.scan(Split(scope="nowhere", kind=database.capabilities.id_kinds[0]))) == []
        assert database.fetch(column(["a"]), "nowhere").missing.to_pylist() == ["a"]
        database.delete(column(["a"]), "nowhere")


def test_ids_that_no_record_can_have_are_missing_and_no_error(pinecone_stand_in: PineconeStandIn) -> None:
    with open_target(endpoint(pinecone_stand_in)) as database:
        database.create(schema())
        database.upsert(plain(["a"]))
        asked = column(["é", "", "a", "x" * 513, "nul\0"])
        assert database.fetch(asked).missing.to_pylist() == ["é", "", "x" * 513, "nul\0"]
        database.delete(asked)
        assert database.count() == 0


########################################################################
# Values
########################################################################


def test_components_are_sent_with_their_shortest_text_and_come_back_bit_by_bit() -> None:
    bits = np.random.default_rng(1).integers(0, 2**32, size=60_000, dtype=np.uint32)
    values = bits.view(np.float32)
    values = values[np.isfinite(values)][:50_000].reshape(100, 500)
    values[0, :3] = [0.1, -0.0, 16_777_217]
    batch = Batch(column([f"{n}" for n in range(100)]), None, {"_values": Dense(values)}, [{}] * 100)
    records, refusals = outgoing(batch, VectorsApi(None, (DENSE,)))
    assert refusals == []
    sent = orjson.dumps([one.record.vectors["_values"] for one in records])
    assert sent.startswith(b"[[0.1,-0.0,16777216.0,")
    assert len(sent) < len(orjson.dumps(values.tolist())) * 0.7
    read = np.array(orjson.loads(sent), dtype=np.float32)
    assert read.tobytes() == values.tobytes()


def test_the_size_of_a_record_is_that_of_its_json() -> None:
    batch = plain([f"id-{n}" for n in range(50)] + ["\x01" * 500, '"' * 500], dim=64)
    records, _ = outgoing(batch, VectorsApi(None, (DENSE,)))
    for _, row, size in records:
        told = orjson.dumps({"id": row.id, "values": row.vectors["_values"], "metadata": row.payload})
        assert len(told) <= size <= len(told) + 100


@pytest.mark.parametrize("whole_numbers", ["float", "int"])
def test_h13_every_number_of_a_payload_is_a_float(whole_numbers: str) -> None:
    with (
        PineconeStandIn(Settings(whole_numbers=whole_numbers)) as server,  # type: ignore[arg-type]
        open_target(endpoint(server)) as database,
    ):
        database.create(schema())
        payload = {"i": 2**53, "f": 0.5, "b": True, "t": "1", "l": ["1", "x"], "neg": -(2**53)}
        database.upsert(Batch(column(["a"]), None, {"_values": Dense(_two()[:1])}, [payload]))
        (back,) = everything(database)
        assert repr(back.payloads[0]) == repr({**payload, "i": 2.0**53, "neg": -(2.0**53)})


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ({"x": None}, "null"),
        ({"x": 2**53 + 1}, "no float64"),
        ({"x": 2**70}, "no float64"),
        ({"x": float("nan")}, "no number for"),
        ({"x": "half \ud800"}, "cannot be written as JSON"),
        ({"x": [1, 2]}, "list of strings"),
        ({"x": {"y": 1}}, "list of strings"),
        ({"$x": 1}, r"\$"),
        ({"x": "y" * 41_000}, "40960|41"),
    ],
)
def test_h13_a_payload_that_would_change_is_refused_by_its_id(
    pinecone_stand_in: PineconeStandIn, payload: dict[str, object], reason: str
) -> None:
    with open_target(endpoint(pinecone_stand_in)) as database:
        database.create(schema())
        batch = plain([f"{n}" for n in range(5)])
        payloads = [dict(row) for row in batch.payloads]
        payloads[3] = payload
        (refusal,) = written(database, Batch(batch.ids, None, batch.vectors, payloads))
        assert refusal.id == "3"
        assert re.search(reason, refusal.reason)
        assert ids_of(everything(database)) == ["0", "1", "2", "4"]


def test_a_document_whose_payload_has_the_name_of_its_vector_is_refused(pinecone_stand_in: PineconeStandIn) -> None:
    with open_target(endpoint(pinecone_stand_in)) as database:
        database.create(schema(DENSE.model_copy(update={"name": "meaning"})))
        batch = plain(["a", "b", "c"], vector="meaning")
        payloads = [{"meaning": "a word"}, {"fine": 1.0}, {"_id": "z"}]
        refusals = database.upsert(Batch(batch.ids, None, batch.vectors, payloads))
        assert [refusal.id for refusal in refusals] == ["a", "c"]
        assert "name of a vector" in refusals[0].reason
        assert ids_of(everything(database)) == ["b"]


def test_a_vector_that_the_index_does_not_have_is_a_mismatch(pinecone_stand_in: PineconeStandIn) -> None:
    with open_target(endpoint(pinecone_stand_in)) as database:
        database.create(schema())
        with pytest.raises(SchemaMismatch, match="no vector 'other'"):
            database.upsert(plain(["a"], vector="other"))


def test_scores_are_in_the_convention_that_is_documented(pinecone_stand_in: PineconeStandIn) -> None:
    stored = np.array([[3, 4], [0, 2]], dtype=np.float32)
    expected = {Metric.COSINE: [0.8, 1.0], Metric.DOT: [4.0, 2.0], Metric.EUCLIDEAN: [18.0, 1.0]}
    for metric, scores in expected.items():
        with open_target(endpoint(pinecone_stand_in, f"by-{metric.value}")) as database:
            database.create(schema(DENSE.model_copy(update={"metric": metric})))
            database.upsert(Batch(column(["0", "1"]), None, {"_values": Dense(stored)}, [{}, {}]))
            hits = database.search(np.array([[0, 1]], dtype=np.float32), 5)
            found = dict(zip(hits.ids[0].to_pylist(), hits.scores[0].tolist(), strict=True))
            assert [found["0"], found["1"]] == pytest.approx(scores, rel=1e-6)
            best = max if metric is not Metric.EUCLIDEAN else min
            assert hits.scores[0][0] == best(found.values())


########################################################################
# Tags
########################################################################


def test_a_marker_fits_into_tags_and_leaves_others_alone() -> None:
    marker = {"mapping": {"version": 1, "keys": {f"key {n}": f"é{n}" for n in range(150)}, "none": None}}
    tags = tags_of(marker, {"team": "search"})
    assert len(tags) <= MAX_TAGS
    assert all(len(value) <= MAX_VALUE and value.isascii() and value.isprintable() for value in tags.values())
    assert marker_of(dict(reversed(tags.items()))) == (marker, {"team": "search"})
    assert tags_of(None, {"team": "search"}) == {"team": "search"}
    assert marker_of({}) == (None, {})


def test_an_index_is_made_without_a_marker_that_does_not_fit_and_says_so(
    pinecone_stand_in: PineconeStandIn, caplog: pytest.LogCaptureFixture
) -> None:
    random = np.random.default_rng(0)
    marker = {f"{n}": random.bytes(20).hex() for n in range(200)}
    with open_target(endpoint(pinecone_stand_in)) as database:
        database.create(schema(marker=marker, settings={"tags": {"team": "search"}}))
        described = database.describe()
    assert (described.marker, described.settings["tags"]) == (None, {"team": "search"})
    assert "Pinecone has 20 for an index, of which 1 are used" in caplog.text


def test_a_marker_of_the_size_that_is_promised_fits() -> None:
    names = np.random.default_rng(0)
    keys = {f"key {n} {names.bytes(4).hex()}": f"key_{n}" for n in range(200)}
    can = SERVER.max_marker_bytes or 0
    while len(json.dumps(marker := {"mapping": {"version": 1, "keys": keys}})) > can:
        keys.popitem()
    assert marker_of(tags_of(marker, {})) == (marker, {})


def test_a_tag_that_somebody_changed_is_no_marker() -> None:
    tags = {**tags_of({"a": 1}, {}), "vectormigrate-00": "no base64"}
    assert marker_of(tags) == (None, tags)


def test_settings_and_tags_come_back_and_go_into_a_new_index(pinecone_stand_in: PineconeStandIn) -> None:
    settings = {"tags": {"team": "search"}, "deletion_protection": "enabled"}
    with open_target(endpoint(pinecone_stand_in)) as database:
        database.create(schema(marker={"m": 1}, settings=settings))
        described = database.describe()
        assert described.settings["tags"] == {"team": "search"}
        assert described.settings["deletion_protection"] == "enabled"
        assert "read_capacity" not in described.settings  # it is the default
        assert described.settings["deployment"]["region"] == PineconeOptions().region
        assert described.marker == {"m": 1}
