"""What only the Pinecone stand-in does: faults on order, delayed visibility, rates, its own life, and counts."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx
import pytest
from pinecone import Pinecone, PineconeConnectionError, PineconeTimeoutError, RateLimitError, ServiceError
from pinecone._internal import bulk, http_client
from pinecone.index import Index

from vectormigrate_dagster_tests.emulators.pinecone import Fault, PineconeStandIn, Settings
from vectormigrate_dagster_tests.emulators.pinecone.errors import Refused
from vectormigrate_dagster_tests.emulators.pinecone.rates import Rates
from vectormigrate_dagster_tests.emulators.pinecone_clients import (
    DOCUMENTS,
    client_of,
    dense,
    eventually,
    ids_of,
    made,
    refused,
)

Opener = Callable[..., tuple[PineconeStandIn, Index]]
ONE = [1.0, 0.0, 0.0, 0.0]
ATTEMPTS = 4
"""How often the official client sends a request before it gives up."""


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the client would have waited before it repeated requests, as if no test had made it careful before."""
    waits: list[float] = []
    monkeypatch.setattr(http_client, "_retry_sleep", waits.append)
    http_client.get_budget_registry()._reset()
    bulk.get_registry()._reset()
    return waits


@pytest.fixture
def started() -> Iterator[Opener]:
    """Starts stand-ins, and gives the client of an index of each."""

    def start(settings: Settings | None = None) -> tuple[PineconeStandIn, Index]:
        server = stack.enter_context(PineconeStandIn(settings))
        opened = stack.enter_context(client_of(server))
        index = stack.enter_context(made(opened, dense()))
        server.clear_faults()
        return server, index

    with ExitStack() as stack:
        yield start


def write(index: Index, *ids: str, namespace: str = "") -> int:
    response = index.upsert(vectors=[(each, ONE) for each in ids], namespace=namespace)
    return response.response_info.lsn_committed


def listed(index: Index, **more: object) -> list[str]:
    return [each for page in ids_of(index, "", **more) for each in page]


########################################################################
# Faults
########################################################################


def test_h28_the_nth_call_is_throttled_with_and_without_a_time(started: Opener) -> None:
    server, index = started()
    server.fault("throttle", "List", nth=2, times=ATTEMPTS, retry_after=1.2)
    server.fault("throttle", "Fetch", times=ATTEMPTS)
    listed(index)
    with pytest.raises(RateLimitError) as caught:
        listed(index)
    assert caught.value.headers["retry-after"] == "2"
    assert listed(index) == []
    with pytest.raises(RateLimitError) as caught:
        index.fetch(ids=["a"])
    assert "retry-after" not in caught.value.headers
    assert server.calls() == {"List": 2 + ATTEMPTS, "Fetch": ATTEMPTS}


def test_h28_the_client_waits_as_long_as_it_is_told(started: Opener, waits: list[float]) -> None:
    server, index = started()
    server.fault("throttle", "Upsert", retry_after=7)
    server.fault("unavailable", "Upsert", nth=2)
    write(index, "a")
    assert server.calls()["Upsert"] == 3
    assert 7 <= waits[0] <= 10.5
    assert listed(index) == ["a"]


def test_a_server_that_is_unavailable_for_a_while(started: Opener) -> None:
    server, index = started()
    server.fault("unavailable", times=2 * ATTEMPTS)
    for _ in range(2):
        with pytest.raises(ServiceError, match="unavailable"):
            write(index, "a")
    write(index, "a")
    assert listed(index) == ["a"]


@pytest.mark.parametrize(("what", "kept"), [("reset_before", []), ("reset_after", ["a"])])
def test_a_connection_that_ends_before_or_after_the_work(started: Opener, what: str, kept: list[str]) -> None:
    server, index = started()
    server.fault(what, "Upsert", times=ATTEMPTS)
    with pytest.raises(PineconeConnectionError):
        write(index, "a")
    assert listed(index) == kept


def test_a_delay_exceeds_the_clients_patience(started: Opener) -> None:
    server, index = started()
    server.fault("delay", "Query", times=ATTEMPTS, seconds=0.5)
    with pytest.raises(PineconeTimeoutError):
        index.query(vector=ONE, top_k=1, timeout=0.1)
    index.query(vector=ONE, top_k=1, timeout=10)


def test_h27_ids_are_listed_that_fetch_does_not_know(started: Opener) -> None:
    server, index = started()
    write(index, "a", "b", "c")
    server.fault("omit", "Fetch", ids=("a",), times=2)
    server.fault("omit", "Fetch", ids=("b",), times=None)
    everything = listed(index)
    found = [sorted(index.fetch(ids=everything).vectors) for _ in range(4)]
    assert found == [["c"], ["c"], ["a", "c"], ["a", "c"]]
    server.clear_faults()
    assert sorted(index.fetch(ids=everything).vectors) == everything


def test_a_page_may_be_short_and_even_empty(started: Opener) -> None:
    server, index = started()
    write(index, *"abcdef")
    server.fault("short_page", "List", records=2, times=None)
    server.fault("short_page", "List", records=0, nth=2)
    first = index.list_paginated()
    second = index.list_paginated(pagination_token=first.pagination.next)
    third = index.list_paginated(pagination_token=second.pagination.next)
    assert [[item.id for item in page] for page in (first, second, third)] == [["a", "b"], [], ["c", "d"]]
    server.fault("short_page", "List", records=0)
    assert index.list_paginated().pagination is not None
    assert listed(index) == [*"abcdef"]


def test_tokens_may_end_and_are_good_for_one_list_only(started: Opener) -> None:
    server, index = started()
    write(index, *"abcdef")
    write(index, *"abcdef", namespace="other")
    token = index.list_paginated(limit=2).pagination.next
    assert token.isascii()
    for more in ({"namespace": "other"}, {"prefix": "a"}):
        with refused(400, "Invalid pagination token"):
            index.list_paginated(pagination_token=token, **more)
    server.fault("expired_token", "List")
    with refused(400, "Invalid pagination token"):
        index.list_paginated(pagination_token=token)
    assert [item.id for item in index.list_paginated(pagination_token=token)] == [*"cdef"]


def test_a_record_may_be_refused_without_a_reason(started: Opener) -> None:
    server, index = started()
    server.fault("reject", "Upsert", ids=("c",), times=None)
    result = index.upsert(vectors=[(each, ONE) for each in "abcd"], batch_size=2, show_progress=False)
    assert (result.upserted_count, [item["id"] for item in result.failed_items]) == (2, ["c", "d"])
    assert not result.errors[0].retryable
    assert "c" not in str(result.errors[0].error).split()
    write(index, "d")
    assert listed(index) == [*"abd"]


def test_faults_of_documents(started: Opener) -> None:
    server, _ = started()
    with client_of(server) as client, made(client, DOCUMENTS) as index:
        given = [{"_id": each, "embedding": [1.0, 0.0, 0.0]} for each in "abc"]
        server.fault("reset_after", "UpsertDocuments", times=ATTEMPTS)
        with pytest.raises(PineconeConnectionError):
            index.documents.upsert(documents=given, namespace="n")
        server.fault("short_page", "ListDocuments", records=1, times=None)
        pages = [page.items for page in index.documents.list(namespace="n").pages()]
        assert [[each.id for each in page] for page in pages] == [["a"], ["b"], ["c"]]
        server.fault("omit", "FetchDocuments", ids=("b",))
        assert index.documents.fetch(ids=[*"abc"], namespace="n").documents.keys() == {"a", "c"}
        assert server.writes() == {"CreateIndex": 1, "UpsertDocuments": ATTEMPTS}


def test_faults_from_the_beginning() -> None:
    with (
        PineconeStandIn(faults=[Fault("throttle", "CreateIndex", times=ATTEMPTS)]) as server,
        client_of(server) as client,
    ):
        with pytest.raises(RateLimitError):
            made(client, dense())
        made(client, dense()).close()


########################################################################
# Consistency and readiness
########################################################################


def test_h27_a_write_is_seen_after_some_further_requests(started: Opener) -> None:
    _, index = started(Settings(visible_after=3))
    lsn = write(index, "a")
    assert (listed(index), list(index.fetch(ids=["a"]).vectors), index.query(vector=ONE, top_k=1).matches) == (
        [],
        [],
        [],
    )
    assert listed(index) == ["a"]
    second = write(index, "b")
    assert (lsn, second) == (1, 2)
    seen = [index.query(vector=ONE, top_k=9).response_info for _ in range(4)]
    assert [info.lsn_reconciled for info in seen] == [1, 1, 1, 2]
    assert [info.is_reconciled(second) for info in seen] == [False, False, False, True]
    index.delete(ids=["a"])
    assert [len(listed(index)) for _ in range(4)] == [2, 2, 2, 1]


def test_h27_namespaces_have_numbers_and_delays_of_their_own(started: Opener) -> None:
    _, index = started(Settings(visible_after=1))
    assert [write(index, "a", namespace=name) for name in ("x", "y", "x")] == [1, 1, 2]
    stats = [index.describe_index_stats().namespaces for _ in range(2)]
    assert [{name: each.vector_count for name, each in seen.items()} for seen in stats] == [{"x": 1}, {"x": 1, "y": 1}]
    assert index.query(vector=ONE, top_k=1, namespace="x").response_info.lsn_reconciled == 2


def test_h27_a_write_is_seen_after_some_time(started: Opener) -> None:
    _, index = started(Settings(visible_after_seconds=0.05))
    lsn = write(index, "a")
    eventually(lambda: index.query(vector=ONE, top_k=1).response_info.is_reconciled(lsn))
    assert listed(index) == ["a"]


def test_numbers_may_be_missing(started: Opener) -> None:
    _, index = started(Settings(lsn_headers=False))
    assert write(index, "a") is None
    assert index.query(vector=ONE, top_k=1).response_info.lsn_reconciled is None


def test_an_index_is_ready_and_gone_after_some_descriptions() -> None:
    with PineconeStandIn(Settings(ready_after=2, gone_after=1)) as server, client_of(server) as client:
        index = client.indexes.create(name="slow", schema={"fields": dense()}, timeout=-1)
        assert (index.status.ready, index.status.state, index.host) == (False, "Initializing", None)
        described = [client.indexes.describe("slow").status.ready for _ in range(3)]
        assert described == [False, False, True]
        host = client.indexes.describe("slow").host
        client.indexes.delete("slow", timeout=-1)
        assert client.indexes.describe("slow").status.state == "Terminating"
        assert not client.indexes.exists("slow")
        with client.index(host=host) as index, refused(404, "not found"):
            index.list_paginated()
        assert list(client.indexes.list()) == []


def test_an_index_that_is_not_ready_serves_nothing() -> None:
    with PineconeStandIn(Settings(ready_after=1)) as server, client_of(server) as client:
        client.indexes.create(name="slow", schema={"fields": dense()}, timeout=-1)
        with client.index(host=f"{server.url}/data/slow") as index, refused(503, "not ready"):
            index.list_paginated()


########################################################################
# Rates
########################################################################


def test_rates_are_of_each_method_and_index() -> None:
    now = [0.0]
    rates = Rates(Settings(rates={"List": 2}, retry_after=3), clock=lambda: now[0])

    def refusals(*indexes: str) -> list[bool]:
        found = []
        for index in indexes:
            try:
                rates.spend(index, "List")
            except Refused as error:
                found.append(error.retry_after == 3)
            else:
                found.append(False)
        return found

    assert refusals("a", "a", "a", "b") == [False, False, True, False]
    now[0] = 0.5
    assert refusals("a", "a") == [False, True]
    now[0] = 60.0
    assert refusals("a", "a", "a") == [False, False, True]
    rates.spend("a", "Fetch")


def test_too_many_requests_a_second_are_refused(started: Opener) -> None:
    _, index = started(Settings(rates={"List": 0.001}))
    listed(index)
    with pytest.raises(RateLimitError) as caught:
        listed(index)
    assert caught.value.headers["retry-after"] == "1"
    write(index, "a")


########################################################################
# Life, and what is counted
########################################################################


def test_what_was_received_is_counted(started: Opener) -> None:
    server, index = started()
    write(index, "a")
    index.fetch(ids=["a"])
    with refused(400):
        write(index, "a", namespace="é")
    index.describe_namespace(name="__default__")
    assert server.calls() == {"Upsert": 2, "Fetch": 1, "DescribeNamespace": 1}
    assert server.paths() == {"POST /vectors/upsert": 2, "GET /vectors/fetch": 1, "GET /namespaces/{name}": 1}
    assert server.writes() == {"Upsert": 2}
    server.clear_faults()
    assert (server.calls(), server.paths()) == ({}, {})


def test_data_outlive_a_restart_on_the_same_port(started: Opener) -> None:
    server, index = started()
    write(index, "a")
    server.stop()
    with pytest.raises(PineconeConnectionError):
        listed(index)
    server.restart()
    assert listed(index) == ["a"]
    server.stop()
    server.stop()


def _write_from_elsewhere(url: str, key: str, host: str) -> None:
    with Pinecone(api_key=key, host=url) as client, client.index(host=host) as index:
        write(index, "from another process")


def test_other_processes_are_served(started: Opener) -> None:
    server, index = started()
    process = multiprocessing.get_context("spawn").Process(
        target=_write_from_elsewhere, args=(server.url, server.api_key, index.host)
    )
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert listed(index) == ["from another process"]


def test_writers_at_once_lose_nothing(started: Opener) -> None:
    _, index = started()
    vectors = [(f"{i:05}", ONE) for i in range(1000)]
    result = index.upsert(vectors=vectors, batch_size=25, max_concurrency=8, show_progress=False)
    assert (result.upserted_count, result.response_info.lsn_committed) == (1000, 40)
    assert listed(index) == [each for each, _ in vectors]


def test_it_starts_and_stops_at_once() -> None:
    for _ in range(5):
        with PineconeStandIn() as server, httpx.Client(verify=False) as client:
            assert client.get(server.url, timeout=5).status_code == 404
