"""Pinecone over gRPC: records there, the rest over REST; the same errors; REST for all where nobody speaks gRPC."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from pinecone.grpc import GrpcIndex
from pydantic import SecretStr

from vectormigrate_dagster.databases import Database, open_target
from vectormigrate_dagster.databases.endpoint import PineconeOptions
from vectormigrate_dagster.databases.pinecone import connection
from vectormigrate_dagster.databases.pinecone.wire import grpc_target, speaks_grpc
from vectormigrate_dagster.errors import AuthenticationFailed, DatabaseError, InvalidRecord, Throttled, Unavailable
from vectormigrate_dagster.model import Batch, Dense, IdKind, Split
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
from vectormigrate_dagster_tests.emulators.pinecone import PineconeStandIn, Settings

WHOLE = Split(kind=IdKind.TEXT)


@pytest.fixture
def server() -> Iterator[PineconeStandIn]:
    with PineconeStandIn(grpc=True) as stand_in:
        yield stand_in


def opened(server: PineconeStandIn, **options: Any) -> Database:
    return open_target(endpoint(server, **{"grpc_url": server.grpc_url, **options}))


@pytest.fixture
def things(server: PineconeStandIn) -> Iterator[Database]:
    with opened(server) as database:
        database.create(schema(DENSE))
        yield database


########################################################################
# What goes where
########################################################################


def test_lists_fetches_and_writes_go_over_grpc(server: PineconeStandIn, things: Database) -> None:
    ids = [f"{number:04}" for number in range(350)]
    things.upsert(plain(ids))
    things.wait_visible()
    server.clear_faults()
    assert ids_of(things.scan(WHOLE)) == ids
    assert things.fetch(column(["0007", "nobody"])).missing.to_pylist() == ["nobody"]
    things.upsert(plain(["new"]))
    assert server.paths() == {"gRPC List": 4, "gRPC Fetch": 2, "gRPC Upsert": 1}
    things.delete(column(["new"]))
    assert server.paths()["POST /vectors/delete"] == 1


def test_grpc_is_asked_where_the_index_is_behind_tls_or_an_address_is_given() -> None:
    given = PineconeOptions(grpc_url="http://127.0.0.1:5081")
    assert speaks_grpc("things-abc.svc.pinecone.io", PineconeOptions())
    assert speaks_grpc("http://127.0.0.1:5080/data/things", given)
    assert not speaks_grpc("http://127.0.0.1:5080/data/things", PineconeOptions())
    assert not speaks_grpc("https://things-abc.svc.pinecone.io", PineconeOptions(prefer_grpc=False))
    assert grpc_target("things-abc.svc.pinecone.io", None) == ("things-abc.svc.pinecone.io:443", True)
    assert grpc_target("http://x/data/things", given.grpc_url) == ("127.0.0.1:5081", False)
    assert grpc_target("https://[::1]:8443", None) == ("[::1]:8443", True)


def test_where_nobody_speaks_grpc_records_go_over_rest_and_it_is_said_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_told", set())
    with socket.create_server(("127.0.0.1", 0)) as unused:
        closed = f"http://127.0.0.1:{unused.getsockname()[1]}"
    with PineconeStandIn() as server, caplog.at_level(logging.WARNING):
        for name in ("things", "others"):
            with open_target(endpoint(server, name, grpc_url=closed)) as database:
                database.create(schema(DENSE).model_copy(update={"name": name}))
                database.upsert(plain(["a"]))
                assert ids_of(everything(database)) == ["a"]
        assert server.paths()["POST /vectors/upsert"] == 2
    said = [record.getMessage() for record in caplog.records if "gRPC" in record.getMessage()]
    assert len(said) == 1
    assert "records go over REST" in said[0]


def test_the_official_client_sees_the_same_records(server: PineconeStandIn) -> None:
    payloads = [{"n": 2.0, "text": "é", "yes": True, "tags": ["a", ""]}, {}, {"real": 0.1}]
    values = np.array([[0.1, -1e30], [1, 2], [3, 1e-30]], dtype=np.float32)
    vectors = {"_values": Dense(values), "_sparse_values": sparse({1: 0.5}, None, {7: 2.0, 2**32 - 1: 1.0})}
    with opened(server) as database:
        database.create(schema(DENSE, SPARSE.model_copy(update={"optional": True})))
        assert database.upsert(Batch(column(["a", "b", "c"]), None, vectors, payloads)) == []
        (ours,) = everything(database)
        official = GrpcIndex(host=str(server.grpc_url), api_key=server.api_key, grpc_scheme="http")
        try:
            theirs = official.fetch(ids=["a", "b", "c"]).vectors
        finally:
            official.close()
    assert [theirs[str(each)].metadata or {} for each in ours.ids.to_pylist()] == list(ours.payloads) == payloads
    found = np.array([theirs[each].values for each in ("a", "b", "c")], dtype=np.float32)
    assert found.tobytes() == ours.vectors["_values"].values.tobytes() == values.tobytes()
    lists = [theirs[each].sparse_values for each in ("a", "c")]
    assert [list(one.indices) for one in lists] == [[1], [7, 2**32 - 1]]
    assert [list(one.values) for one in lists] == [[0.5], [2.0, 1.0]]
    assert ours.vectors["_sparse_values"].values.tolist() == [0.5, 2.0, 1.0]


########################################################################
# What goes wrong
########################################################################


def test_a_throttled_call_says_when_to_come_again(server: PineconeStandIn, things: Database) -> None:
    server.fault("throttle", "Upsert", times=1, retry_after=3)
    with pytest.raises(Throttled) as refused:
        things.upsert(plain(["a"]))
    assert refused.value.retry_after == 3
    things.upsert(plain(["a"]))
    server.fault("throttle", "List", times=1)
    with pytest.raises(Throttled):
        list(things.scan(WHOLE))


@pytest.mark.parametrize("what", ["unavailable", "reset_before", "reset_after"])
def test_a_call_that_fails_may_be_repeated(server: PineconeStandIn, things: Database, what: str) -> None:
    things.upsert(plain(["a"]))
    things.wait_visible()
    for method in ("Fetch", "List", "Upsert"):
        server.fault(what, method, times=1)
    for call in (
        lambda: list(things.scan(WHOLE)),
        lambda: things.fetch(column(["a"])),
        lambda: things.upsert(plain(["b"])),
    ):
        with pytest.raises(Unavailable):
            call()
    things.upsert(plain(["b"]))
    assert ids_of(things.scan(WHOLE)) == ["a", "b"]


def test_a_record_that_is_refused_is_found_and_the_others_are_written(
    server: PineconeStandIn, things: Database
) -> None:
    server.fault("reject", "Upsert", times=None, ids=("5",))
    refused = written(things, plain([str(number) for number in range(10)]))
    assert [one.id for one in refused] == ["5"]
    assert len(ids_of(everything(things))) == 9


def test_a_message_that_is_too_large_is_one_for_smaller_batches() -> None:
    with PineconeStandIn(Settings(max_request_bytes=500), grpc=True) as server, opened(server) as database:
        database.create(schema(DENSE))
        with pytest.raises(InvalidRecord, match="too large"):
            database.upsert(plain([str(number) for number in range(50)]))
        assert written(database, plain([str(number) for number in range(50)])) == []


def test_a_wrong_key_is_said_to_be_one(server: PineconeStandIn, things: Database) -> None:
    things.upsert(plain(["a"]))
    api: Any = things._api()  # type: ignore[attr-defined]
    api._wire._metadata = (("api-key", SecretStr("wrong").get_secret_value()),)
    with pytest.raises(AuthenticationFailed):
        things.fetch(column(["a"]))


def test_an_answer_that_is_none_ends_in_an_error(things: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    api: Any = things._api()  # type: ignore[attr-defined]
    monkeypatch.setattr(api._wire, "call", lambda *_: (b"\x0a\xff", {}))
    with pytest.raises(DatabaseError, match="cannot be read"):
        things.fetch(column(["a"]))


########################################################################
# What was written can be read
########################################################################


def test_h16_a_namespace_that_does_not_exist_holds_nothing(things: Database) -> None:
    assert list(things.scan(Split(kind=IdKind.TEXT, scope="nowhere"))) == []
    assert things.fetch(column(["a"]), scope="nowhere").missing.to_pylist() == ["a"]


@pytest.mark.parametrize("lsn_headers", [True, False], ids=["positions told", "not told"])
def test_h27_what_was_written_over_grpc_is_waited_for(lsn_headers: bool) -> None:
    settings = Settings(visible_after=5, lsn_headers=lsn_headers)
    with PineconeStandIn(settings, grpc=True) as server, opened(server) as database:
        database.create(schema(DENSE))
        database.upsert(plain(["a", "b"]))
        database.wait_visible()
        assert ids_of(everything(database)) == ["a", "b"]
