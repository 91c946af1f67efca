"""What a Milvus server has in memory: loaded once, waited for, put back, and never mistaken for an empty collection."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from pymilvus.client.types import LoadState, SegmentState
from pymilvus.exceptions import MilvusException
from pymilvus.grpc_gen import milvus_pb2, schema_pb2

from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.databases.milvus import loading
from vectormigrate_dagster.databases.milvus.database import Milvus
from vectormigrate_dagster.databases.milvus.loading import Loading
from vectormigrate_dagster.databases.milvus.messages import Reply, batch_of_reply, column_of_message, reply_of
from vectormigrate_dagster.databases.milvus.searching import wait_served
from vectormigrate_dagster.errors import DatabaseError, Stopped, Unavailable
from vectormigrate_dagster.model import (
    CollectionSchema,
    FieldSchema,
    FieldType,
    IdColumn,
    IdKind,
    IdSchema,
    Split,
    VectorSchema,
)
from vectormigrate_dagster_tests.databases.waits import Waits

WHOLE = Split(kind=IdKind.I64)
SCHEMA = CollectionSchema(
    name="things",
    ids=IdSchema(kinds=(IdKind.I64,), field="key"),
    vectors=(VectorSchema(name="v", dim=2),),
    fields=(FieldSchema(name="price", type=FieldType.INT64, declared=True),),
)


class Server:
    """The client of a server with one collection, whose place in memory the test decides.

    Args:
        states: answers to "is it loaded?"; the last one is repeated. Each is a state, or the progress of loading.
        index: the state of its index.
    """

    def __init__(self, *states: LoadState | int, index: str = "Failed") -> None:
        self.index = index
        self.states = list(states) or [LoadState.Loaded]
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.fails: dict[str, Exception] = {}

    def named(self, name: str) -> list[dict[str, Any]]:
        return [settings for called, settings in self.calls if called == name]

    def get_load_state(self, collection: str, **settings: Any) -> dict[str, Any]:
        self.calls.append(("get_load_state", settings))
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if isinstance(state, LoadState):
            return {"state": state}
        return {"state": LoadState.Loading, "progress": state}

    def list_partitions(self, collection: str, **settings: Any) -> list[str]:
        return ["_default"]

    def list_indexes(self, collection: str, **settings: Any) -> list[str]:
        self.calls.append(("list_indexes", settings))
        return ["v"]

    def describe_index(self, collection: str, index: str, **settings: Any) -> dict[str, Any]:
        return {"state": self.index, "pending_index_rows": 5}

    def close(self) -> None:
        pass

    def __getattr__(self, name: str) -> Callable[..., None]:
        def call(*_: Any, **settings: Any) -> None:
            self.calls.append((name, settings))
            if name in self.fails:
                raise self.fails[name]

        return call


def reply(ids: list[int], *, leave_out: str = "") -> milvus_pb2.QueryResults:
    """What a server answers to "*"."""
    numbers = schema_pb2.ScalarField(long_data=schema_pb2.LongArray(data=ids))
    texts = schema_pb2.ScalarField(json_data=schema_pb2.JSONArray(data=[b"{}"] * len(ids)))
    floats = schema_pb2.VectorField(dim=2, float_vector=schema_pb2.FloatArray(data=[0.5] * 2 * len(ids)))
    fields = [
        schema_pb2.FieldData(field_name="key", scalars=numbers),
        schema_pb2.FieldData(field_name="price", scalars=numbers),
        schema_pb2.FieldData(field_name="v", vectors=floats),
        schema_pb2.FieldData(field_name="$meta", scalars=texts, is_dynamic=True),
    ]
    return milvus_pb2.QueryResults(fields_data=[field for field in fields if field.field_name != leave_out])


def read(message: milvus_pb2.QueryResults) -> Reply:
    return reply_of(message.SerializeToString())


class Wire:
    """A server's data methods, which answer what the test says."""

    def __init__(self, *replies: milvus_pb2.QueryResults) -> None:
        self.replies = list(replies)

    def query(self, *_: Any, **__: Any) -> Reply:
        return read(self.replies.pop(0))

    def now(self) -> None:
        return None

    def index_failure(self, collection: str, index: str) -> str:
        return "out of disk"

    def close(self) -> None:
        pass


def on(monkeypatch: pytest.MonkeyPatch, server: Server, *replies: milvus_pb2.QueryResults) -> Milvus:
    """A collection of `SCHEMA` on a made-up server."""
    database = Milvus(Endpoint(type="milvus", url="http://localhost:1", collection="things"))
    wire = Wire(*replies)

    def connect() -> Server:
        database._wire = wire  # type: ignore[assignment]
        return server

    monkeypatch.setattr(database, "_connect", connect)
    database._schema_read = SCHEMA
    return database


########################################################################
# An empty page
########################################################################


def test_h26_an_empty_page_of_a_collection_that_was_released_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded = LoadState.Loaded
    server = Server(loaded, LoadState.NotLoad, LoadState.NotLoad, loaded)
    database = on(monkeypatch, server, reply([1]), reply([]), reply([2]), *[reply([])] * 2)
    assert [part.ids.to_pylist() for part in database.scan(WHOLE)] == [[1], [2]]
    assert len(server.named("load_collection")) == 1


def test_h26_an_empty_page_is_asked_for_again_even_if_somebody_has_loaded_it_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    database = on(monkeypatch, Server(), reply([1]), reply([]), reply([2]), *[reply([])] * 2)
    assert [part.ids.to_pylist() for part in database.scan(WHOLE)] == [[1], [2]]
    database = on(monkeypatch, Server(), reply([]), reply([7]))
    assert database.fetch(IdColumn.of(IdKind.I64, [7])).missing.to_pylist() == []


def test_h26_a_collection_that_is_released_again_and_again_is_not_called_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(*[LoadState.Loaded, LoadState.NotLoad] * 20)
    server.states.insert(0, LoadState.Loaded)
    monkeypatch.setattr(loading.Loading, "_wait", lambda *_, **__: None)
    database = on(monkeypatch, server, *[reply([])] * 30)
    with pytest.raises(Unavailable, match="again and again"):
        list(database.scan(WHOLE))


@pytest.mark.parametrize("missing", ["price", "v", "$meta", "key"])
def test_fields_that_a_source_has_not_loaded_are_not_lost_in_silence(missing: str) -> None:
    name = "the dynamic field" if missing == "$meta" else f"field '{missing}'"
    with pytest.raises(DatabaseError, match=rf"without {name}, which it has not loaded; .* with all its fields"):
        batch_of_reply(read(reply([1, 2], leave_out=missing)), SCHEMA, None)
    assert batch_of_reply(read(reply([1, 2])), SCHEMA, None).payloads == [{"price": 1}, {"price": 2}]


def test_an_answer_without_fields_is_an_empty_page_and_no_count(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = milvus_pb2.QueryResults()
    assert list(on(monkeypatch, Server(), nothing, nothing).scan(WHOLE)) == []
    with pytest.raises(DatabaseError, match=r"lacks 'count\(\*\)'"):
        on(monkeypatch, Server(), nothing).count()
    with pytest.raises(DatabaseError, match="lacks 'price'"):
        column_of_message(nothing, "price")


########################################################################
# Loading and putting back
########################################################################


def test_h26_many_threads_load_a_collection_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second load finds it "Loading" or "Loaded" and would forget nothing; a second object would."""
    together = threading.Barrier(8)
    made: list[Loading] = []

    class Counted(Loading):
        def __init__(self, *args: Any) -> None:
            made.append(self)
            super().__init__(*args)

    server = Server(LoadState.NotLoad, LoadState.Loaded)
    asked = server.get_load_state

    def slow(collection: str, **settings: Any) -> dict[str, Any]:
        answer = asked(collection, **settings)
        threading.Event().wait(0.02)  # others come in meanwhile
        return answer

    monkeypatch.setattr(server, "get_load_state", slow)
    monkeypatch.setattr("vectormigrate_dagster.databases.milvus.connection.Loading", Counted)
    database = on(monkeypatch, server, *[reply([7])] * 8)

    def fetch(_: int) -> int:
        together.wait(10)
        return len(database.fetch(IdColumn.of(IdKind.I64, [7])).batch)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(fetch, range(8))) == [1] * 8
    assert (len(made), len(server.named("get_load_state")), len(server.named("load_collection"))) == (1, 2, 1)
    database.close()
    assert len(server.named("release_collection")) == 1


def test_a_load_is_waited_for_as_long_as_it_makes_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "_POLL_SECONDS", 0)
    clock = iter(range(0, 100_000, 200))
    monkeypatch.setattr(loading.time, "monotonic", lambda: next(clock))
    server = Server(LoadState.NotLoad, *range(0, 100, 5), LoadState.Loaded)
    Loading("things", 60).ensure(server)  # 20 answers, 200 seconds apart
    with pytest.raises(Unavailable, match=r"stands at 40 % .* for 300 s"):
        Loading("things", 60).ensure(Server(LoadState.NotLoad, 10, 40))
    with pytest.raises(Unavailable, match="was released while"):
        Loading("things", 60).ensure(Server(LoadState.NotLoad, 10, LoadState.NotLoad))


def test_a_load_is_not_waited_for_once_the_work_is_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(LoadState.NotLoad, 10)
    database = on(monkeypatch, server)
    database.sleep = waits = Waits(3)
    with pytest.raises(Stopped):
        database.count()
    assert waits.seconds == [0.1] * 4
    database.close()
    assert len(server.named("release_collection")) == 1


def test_h26_what_could_not_be_put_back_stays_owed() -> None:
    server = Server(LoadState.NotLoad, LoadState.Loaded)
    loading = Loading("things", 60)
    loading.ensure(server)
    server.fails["release_collection"] = MilvusException(2, "gone")
    with pytest.raises(MilvusException):
        loading.put_back(server)
    assert loading.owes
    server.fails.clear()
    loading.put_back(server)
    assert not loading.owes


def test_a_server_that_is_away_at_the_end_does_not_hide_why_the_work_ended(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server(LoadState.NotLoad, LoadState.Loaded)
    server.fails["release_collection"] = MilvusException(2, "gone")

    def work() -> None:
        with on(monkeypatch, server, reply([7])) as database:
            database.fetch(IdColumn.of(IdKind.I64, [7]))
            raise ZeroDivisionError

    with caplog.at_level(logging.WARNING), pytest.raises(ZeroDivisionError):
        work()
    (record,) = caplog.records
    assert "'things'" in record.getMessage()
    assert "release it by hand" in record.getMessage()


########################################################################
# Indexes
########################################################################


def test_an_index_that_cannot_be_built_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    with pytest.raises(DatabaseError, match="cannot build index 'v': out of disk"):
        on(monkeypatch, server).finish_bulk_load()
    assert server.named("list_indexes") == [{"timeout": 60.0}]


def test_an_index_is_not_waited_for_once_the_work_is_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    database = on(monkeypatch, Server(index="InProgress"))
    database.sleep = waits = Waits(3)
    with pytest.raises(Stopped):
        database.finish_bulk_load()
    assert waits.seconds == [0.5] * 4


class Segments:
    """The client of a server of which a collection's segments are looked at; each answer is given once, but the last.

    Args:
        flushed: segments by number, with their rows.
        loaded: of these, those in memory, with the names of their indexes.
    """

    def __init__(self, flushed: dict[int, int], *loaded: dict[int, str]) -> None:
        self.flushed = flushed
        self.loaded = list(loaded)

    def list_persistent_segments(self, collection: str, **settings: Any) -> list[Any]:
        flushed = SegmentState.Flushed
        return [
            SimpleNamespace(segment_id=number, num_rows=rows, state=flushed) for number, rows in self.flushed.items()
        ]

    def list_loaded_segments(self, collection: str, **settings: Any) -> list[Any]:
        loaded = self.loaded.pop(0) if len(self.loaded) > 1 else self.loaded[0]
        rows = self.flushed
        return [
            SimpleNamespace(segment_id=number, num_rows=rows[number], index_name=name)
            for number, name in loaded.items()
        ]


@pytest.mark.parametrize(
    ("loaded", "waits"),
    [([{1: "v"}], 0), ([{}, {1: "v"}], 1), ([{}, {1: "", 2: ""}, {1: "v", 2: ""}], 2)],
    ids=["served", "not yet loaded", "small ones have none"],
)
def test_h32_a_segment_that_is_not_loaded_yet_is_not_searched_by_its_index(
    loaded: list[dict[int, str]], waits: int
) -> None:
    sleep = Waits(9)
    wait_served(Segments({1: 2000, 2: 10}, *loaded), "things", timeout=60, sleep=sleep)
    assert len(sleep.seconds) == waits
