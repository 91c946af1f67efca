"""What Pinecone's writes do when a server refuses, throttles, fails or lags; and that every call is made once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import numpy as np
import pytest
from pinecone.errors import ApiError, ResponseParsingError

from vectormigrate_dagster.databases import Database, open_target
from vectormigrate_dagster.databases.pinecone.errors import translate
from vectormigrate_dagster.databases.pinecone.requests import REQUEST_BYTES, outgoing, requests
from vectormigrate_dagster.databases.pinecone.vectors import VectorsApi
from vectormigrate_dagster.databases.pinecone.writes import Unseen, Writes
from vectormigrate_dagster.errors import (
    AuthenticationFailed,
    DatabaseError,
    InvalidRecord,
    NotFound,
    SchemaMismatch,
    Throttled,
    Unavailable,
)
from vectormigrate_dagster.model import Batch, Dense
from vectormigrate_dagster_tests.databases.pinecone_support import (
    DENSE,
    column,
    endpoint,
    everything,
    ids_of,
    plain,
    schema,
    written,
)
from vectormigrate_dagster_tests.emulators.pinecone import PineconeStandIn, Settings

KINDS = pytest.mark.parametrize(("vector", "method"), [("_values", "Upsert"), ("meaning", "UpsertDocuments")])


@pytest.fixture
def made(pinecone_stand_in: PineconeStandIn) -> Iterator[Callable[..., Database]]:
    """Makes the index `things`, with a vector of that name."""
    opened: list[Database] = []

    def make(vector: str = "_values", dim: int = 2) -> Database:
        database = open_target(endpoint(pinecone_stand_in))
        opened.append(database)
        database.create(schema(DENSE.model_copy(update={"name": vector, "dim": dim})))
        pinecone_stand_in.clear_faults()
        return database

    yield make
    for database in opened:
        database.close()


########################################################################
# Batches
########################################################################


@KINDS
def test_a_batch_goes_in_as_many_requests_as_its_bytes_need(
    pinecone_stand_in: PineconeStandIn, made: Callable[..., Database], vector: str, method: str
) -> None:
    database = made(vector, 1000)
    values = np.random.default_rng(0).standard_normal((700, 1000)).astype(np.float32)
    ids = [f"{number:04}" for number in range(700)]
    batch = Batch(column(ids), None, {vector: Dense(values)}, [{"text": "é" * 100}] * 700)
    assert database.upsert(batch) == []
    # The server refuses what is larger than 2 MB; each component takes 11 bytes or so.
    assert 4 <= pinecone_stand_in.calls()[method] <= 6
    back = np.concatenate([part.vectors[vector].values for part in everything(database)])
    assert back.tobytes() == values.tobytes()


def test_requests_are_bounded_by_bytes_and_by_records() -> None:
    small, _ = outgoing(plain([str(number) for number in range(2500)]), VectorsApi(None, (DENSE,)))
    assert [len(piece) for piece in requests(small)] == [1000, 1000, 500]
    large, _ = outgoing(plain([str(number) for number in range(40)], dim=20_000), VectorsApi(None, (DENSE,)))
    pieces = list(requests(large))
    assert [row for piece in pieces for row in piece] == large
    assert all(sum(row.size for row in piece) <= REQUEST_BYTES for piece in pieces)
    assert len(pieces) > 1


@KINDS
def test_h14_the_record_at_fault_is_found_in_a_refused_batch_and_all_others_are_written(
    pinecone_stand_in: PineconeStandIn, made: Callable[..., Database], vector: str, method: str
) -> None:
    database = made(vector)
    ids = [f"{number:03}" for number in range(100)]
    pinecone_stand_in.fault("reject", method, ids=("017", "018", "099"), times=None)
    refusals = written(database, plain(ids, "ns", vector=vector))
    assert [(refusal.id, refusal.scope) for refusal in refusals] == [("017", "ns"), ("018", "ns"), ("099", "ns")]
    assert "could not be processed" in refusals[0].reason
    assert ids_of(everything(database)) == [value for value in ids if value not in ("017", "018", "099")]
    assert pinecone_stand_in.calls()[method] < 50


def test_a_vector_of_zeros_is_refused_by_its_id_with_the_reason_of_the_server(made: Callable[..., Database]) -> None:
    database = made()
    batch = plain([f"{number}" for number in range(9)])
    batch.vectors["_values"].values[4] = 0  # type: ignore[union-attr]
    (refusal,) = written(database, batch)
    assert refusal.id == "4"
    assert "non-zero" in refusal.reason
    assert database.count() == 8


def test_an_id_that_pinecone_cannot_have_is_refused_alone(made: Callable[..., Database]) -> None:
    database = made()
    refusals = database.upsert(plain(["a", "é", "b", "x" * 513, "c"]))
    assert [refusal.id for refusal in refusals] == ["é", "x" * 513]
    assert ids_of(everything(database)) == ["a", "b", "c"]


def test_a_batch_that_is_larger_than_the_server_takes_is_halved() -> None:
    with (
        PineconeStandIn(Settings(max_request_bytes=20_000)) as server,
        open_target(endpoint(server)) as database,
    ):
        database.create(schema(DENSE.model_copy(update={"dim": 100})))
        batch = plain([f"{number:03}" for number in range(200)], dim=100)
        payloads = [{"large": "x" * 25_000}] + [{}] * 199
        refusals = written(database, Batch(batch.ids, None, batch.vectors, payloads))
        assert [refusal.id for refusal in refusals] == ["000"]
        assert "too large" in refusals[0].reason
        assert database.count() == 199


def test_an_empty_batch_asks_nobody(pinecone_stand_in: PineconeStandIn, made: Callable[..., Database]) -> None:
    database = made()
    assert database.upsert(plain([])) == []
    assert pinecone_stand_in.calls() == {}


########################################################################
# Servers that fail
########################################################################


@pytest.mark.parametrize(
    ("what", "error"), [("throttle", Throttled), ("unavailable", Unavailable), ("reset_before", Unavailable)]
)
def test_a_call_is_made_once(
    pinecone_stand_in: PineconeStandIn, made: Callable[..., Database], what: str, error: type[DatabaseError]
) -> None:
    """Retrying is the caller's business; the client would do it three times more."""
    database = made()
    database.upsert(plain(["a"]))
    calls = {
        "Upsert": lambda: database.upsert(plain(["b"])),
        "Fetch": lambda: database.fetch(column(["a"])),
        "List": lambda: everything(database),
        "Delete": lambda: database.delete(column(["a"])),
        "Query": lambda: database.search(np.ones((1, 2), dtype=np.float32), 1),
        "DescribeIndexStats": lambda: database.plan_splits(10),
        "ListIndexes": database.ping,
        "DescribeIndex": database.describe,
    }
    for method, call in calls.items():
        database.wait_visible()
        pinecone_stand_in.clear_faults()
        pinecone_stand_in.fault(what, method, times=None, retry_after=7)
        with pytest.raises(error) as raised:
            call()
        assert pinecone_stand_in.calls()[method] == 1, method
        if isinstance(raised.value, Throttled):
            assert raised.value.retry_after == 7
    pinecone_stand_in.clear_faults()


def test_h09_a_write_that_was_done_though_its_answer_was_lost_may_be_repeated(
    pinecone_stand_in: PineconeStandIn, made: Callable[..., Database]
) -> None:
    database = made()
    pinecone_stand_in.fault("reset_after", "Upsert")
    with pytest.raises(Unavailable):
        database.upsert(plain(["a", "b"]))
    assert database.upsert(plain(["a", "b"])) == []
    assert database.count() == 2


STATUSES = [
    (400, {"code": 3, "message": "bad"}, {"write": InvalidRecord, "create": SchemaMismatch, "read": DatabaseError}),
    (401, {"error": {"code": "UNAUTHENTICATED", "message": "Invalid API key"}}, {"read": AuthenticationFailed}),
    (403, {"error": {"code": "FORBIDDEN", "message": "no"}}, {"write": AuthenticationFailed}),
    (404, {"error": {"code": "NOT_FOUND", "message": "none"}}, {"read": NotFound}),
    (402, {"error": {"code": "PAYMENT_REQUIRED", "message": "pay"}}, {"write": DatabaseError}),
    (408, {"message": "slow"}, {"write": Unavailable}),
    (409, {"error": {"code": "ALREADY_EXISTS", "message": "there"}}, {"create": SchemaMismatch}),
    (413, {"message": "large"}, {"write": InvalidRecord, "read": DatabaseError}),
    (429, {"message": "wait"}, {"write": Throttled}),
    (500, {"message": "oh"}, {"write": Unavailable}),
    (503, "<html>", {"read": Unavailable}),
    (400, "<html>", {"write": DatabaseError}),
]


@pytest.mark.parametrize(("status", "body", "expected"), STATUSES)
def test_every_status_has_its_error(
    pinecone_stand_in: PineconeStandIn, status: int, body: object, expected: dict[str, type[DatabaseError]]
) -> None:
    database = open_target(endpoint(pinecone_stand_in))
    error = ApiError("what was said", status_code=status, body=body, reason="Reason", headers={})
    for doing, kind in expected.items():
        translated = database._translate(error, doing)  # type: ignore[attr-defined]
        assert type(translated) is kind
        assert "'things'" in str(translated)
        assert "what was said" in str(translated)


def no_code(code: str, reason: str) -> DatabaseError:
    raise AssertionError(f"{code}: {reason}")


def test_a_date_in_retry_after_is_understood(pinecone_stand_in: PineconeStandIn) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    for status in (429, 503):
        error = ApiError("wait", status_code=status, body={}, reason="", headers={"retry-after": later})
        translated = translate(error, endpoint(pinecone_stand_in), "read", DatabaseError, no_code)
        assert isinstance(translated, Throttled)
        assert 80 < (translated.retry_after or 0) <= 90


def test_answers_of_something_else_point_to_the_address(pinecone_stand_in: PineconeStandIn) -> None:
    error = ResponseParsingError("Failed to parse API response as IndexModel: missing required field `schema`")
    translated = translate(error, endpoint(pinecone_stand_in), "read", DatabaseError, no_code)
    assert type(translated) is DatabaseError
    assert "check 'url'" in str(translated)


########################################################################
# What was written can be read
########################################################################


@KINDS
def test_waiting_for_visibility_asks_searches_for_their_log_position(vector: str, method: str) -> None:
    del method
    search = "Query" if vector == "_values" else "SearchDocuments"
    with PineconeStandIn(Settings(visible_after=5)) as server, open_target(endpoint(server)) as database:
        waits: list[float] = []
        database.sleep = waits.append
        database.create(schema(DENSE.model_copy(update={"name": vector})))
        database.upsert(plain(["a", "b"], vector=vector))
        server.clear_faults()
        database.wait_visible()
        assert server.calls()[search] >= 5
        assert len(waits) >= 4
        assert len(database.fetch(column(["a", "b"])).batch) == 2
        server.clear_faults()
        database.wait_visible()
        assert server.calls() == {}


def test_a_namespace_that_nobody_has_seen_yet_is_waited_for() -> None:
    with PineconeStandIn(Settings(visible_after=3)) as server, open_target(endpoint(server)) as database:
        database.sleep = lambda _: None
        database.create(schema())
        query = np.ones((1, 2), dtype=np.float32)
        assert len(database.search(query, 1, scope="new").ids[0]) == 0
        database.upsert(plain(["a"], "new"))
        assert database.search(query, 1, scope="new").ids[0].to_pylist() == ["a"]
        database.delete(column(["a"]), "new")
        assert database.count("new") == 0


def test_a_deletion_is_waited_for_by_its_ids() -> None:
    with PineconeStandIn(Settings(visible_after=3)) as server, open_target(endpoint(server)) as database:
        database.sleep = lambda _: None
        database.create(schema())
        database.upsert(plain(["a", "b"]))
        database.wait_visible()
        database.delete(column(["a"]))
        database.wait_visible()
        assert database.fetch(column(["a", "b"])).missing.to_pylist() == ["a"]


def test_an_index_that_never_shows_what_was_written_is_unavailable_and_asked_again() -> None:
    with (
        PineconeStandIn(Settings(visible_after=10**9)) as server,
        open_target(endpoint(server, visible_s=0.1)) as database,
    ):
        database.create(schema())
        database.upsert(plain(["a"]))
        for _ in range(2):
            with pytest.raises(Unavailable, match="does not show what was written"):
                database.wait_visible()


def test_without_log_positions_the_last_ids_tell(made: Callable[..., Database]) -> None:
    database = made()
    api = database._api()  # type: ignore[attr-defined]
    honest, asked = api.fetch, []
    api.position = lambda _namespace: None

    def late(namespace: str, ids: list[str]) -> object:
        asked.append(list(ids))
        return honest(namespace, ids) if len(asked) > 2 else {}

    api.fetch = late
    database.sleep = lambda _: None
    for tens in range(30):
        database.upsert(plain([f"{tens:02}{ones}" for ones in range(10)]))
    database.wait_visible()
    assert len(asked) == 3
    assert asked[0] == [f"{tens:02}9" for tens in range(10, 30)]


def test_long_ids_are_waited_for_in_several_requests(
    pinecone_stand_in: PineconeStandIn, made: Callable[..., Database]
) -> None:
    database = made()
    for number in range(30):
        database.upsert(plain([f"{'%' * 500}{number:03}"]))
    database.wait_visible()
    assert pinecone_stand_in.calls()["Fetch"] >= 20 * 1500 // 8192


def test_what_was_written_and_deleted_later_is_not_waited_for() -> None:
    writes = Writes()
    writes.note("ns", 5, written=["x", "a"], deleted=[])
    writes.note("ns", 3, written=["b"], deleted=[])
    writes.note("ns", 4, written=[], deleted=["b"])
    assert writes.unseen("ns") == Unseen(5, ["a"], ["b"])
    writes.note("ns", 9, written=["x", "b"], deleted=["a"])
    assert writes.unseen("ns") == Unseen(9, ["b"], ["a"])


def test_what_was_noted_while_somebody_looked_stays() -> None:
    writes = Writes()
    writes.note("ns", 5, written=["a"], deleted=["d"])
    looked = writes.unseen("ns")
    writes.note("ns", 7, written=["b"], deleted=[])
    writes.seen("ns", looked)
    assert writes.unseen("ns") == Unseen(7, ["b"], [])
    writes.seen("ns", writes.unseen("ns"))
    assert writes.namespaces == []


def test_a_second_thread_waits_for_the_same_writes() -> None:
    """Were they forgotten as soon as somebody waits for them, the second would read what is not there yet."""
    with PineconeStandIn(Settings(visible_after=10)) as server, open_target(endpoint(server)) as database:
        database.create(schema())
        database.upsert(plain(["a"]))
        waiting, go_on = threading.Event(), threading.Event()

        def sleep(_: float) -> None:
            waiting.set()
            go_on.wait(5)

        database.sleep = sleep
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(database.wait_visible)
            assert waiting.wait(5)
            database.sleep = lambda _: None
            database.wait_visible()
            assert len(database.fetch(column(["a"])).batch) == 1
            go_on.set()
            first.result()


def test_a_refused_request_is_told_as_a_whole_and_others_are_written(made: Callable[..., Database]) -> None:
    """Who narrows it down is the writer of a transfer, which repeats single pieces, and gives up if none is taken."""
    database = made()
    batch = plain([f"{number:03}" for number in range(1001)])
    batch.vectors["_values"].values[1000] = 0  # type: ignore[union-attr]
    with pytest.raises(InvalidRecord, match="non-zero"):
        database.upsert(batch)
    assert database.count() == 1000


def test_a_server_that_refuses_everything_is_at_fault_and_not_its_records(
    pinecone_stand_in: PineconeStandIn, made: Callable[..., Database]
) -> None:
    database = made()
    ids = [f"{number:03}" for number in range(300)]
    pinecone_stand_in.fault("reject", "Upsert", ids=tuple(ids), times=None)
    with pytest.raises(DatabaseError, match="refused 100 records in a row"):
        written(database, plain(ids))


@pytest.mark.parametrize("what", ["throttle", "unavailable", "reset_after"])
def test_a_failure_while_the_record_at_fault_is_looked_for_is_repeated(
    pinecone_stand_in: PineconeStandIn, made: Callable[..., Database], what: str
) -> None:
    database = made()
    ids = [f"{number:02}" for number in range(40)]
    pinecone_stand_in.fault("reject", "Upsert", ids=("07", "31"), times=None)
    for call in (2, 5, 9):
        pinecone_stand_in.fault(what, "Upsert", nth=call, retry_after=0.0)  # type: ignore[arg-type]
    assert [refusal.id for refusal in written(database, plain(ids))] == ["07", "31"]
    assert ids_of(everything(database)) == [value for value in ids if value not in ("07", "31")]


def test_the_key_is_in_no_error(pinecone_stand_in: PineconeStandIn) -> None:
    pinecone_stand_in.fault("unavailable", "ListIndexes", times=None)
    with open_target(endpoint(pinecone_stand_in)) as database, pytest.raises(Unavailable) as raised:
        database.ping()
    assert pinecone_stand_in.api_key not in repr(raised.value)
    assert pinecone_stand_in.api_key not in repr(database.endpoint)
