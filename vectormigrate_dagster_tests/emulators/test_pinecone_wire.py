"""The wire of the Pinecone stand-in: forms of answers and refusals, and limits, also those that the client checks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pinecone import PayloadTooLargeError, PodSpec, UnauthorizedError, Vector
from pinecone.index import Index

from vectormigrate_dagster_tests.emulators.pinecone import PineconeServer, PineconeStandIn, Settings
from vectormigrate_dagster_tests.emulators.pinecone.namespace import Namespace
from vectormigrate_dagster_tests.emulators.pinecone.records import Record
from vectormigrate_dagster_tests.emulators.pinecone_clients import HYBRID, client_of, dense, made, refused

SMALL = Settings(max_metadata_bytes=200, max_nonzeros=3)


@dataclass
class Wire:
    """Raw requests to one server, and to the data plane of its only index."""

    server: PineconeStandIn
    client: httpx.Client
    data: str

    def post(self, path: str, body: Any) -> httpx.Response:
        return self.client.post(self.data + path, content=body if isinstance(body, bytes) else json.dumps(body))

    def upsert(self, **vector: Any) -> httpx.Response:
        return self.post("/vectors/upsert", {"vectors": [{"id": "good", "values": [1, 0, 0, 0]}, vector]})

    def count(self) -> int:
        return self.post("/describe_index_stats", {}).json()["totalVectorCount"]


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    with PineconeStandIn(SMALL) as server:
        headers = {"Api-Key": server.api_key, "X-Pinecone-Api-Version": "2026-07"}
        with httpx.Client(headers=headers) as client:
            request = {"name": "wire", "schema": {"fields": HYBRID}}
            host = client.post(f"{server.url}/indexes", json=request).json()["host"]
            yield Wire(server, client, host)


@contextmanager
def index_of(settings: Settings, dimension: int) -> Iterator[Index]:
    """The client of an index on a server of its own."""
    with PineconeStandIn(settings) as server, client_of(server) as client, made(client, dense(dimension)) as index:
        yield index


########################################################################
# Forms
########################################################################


def test_descriptions_have_every_field_of_the_api(wire: Wire) -> None:
    answer = wire.client.get(f"{wire.server.url}/indexes/wire")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json() == {
        "name": "wire",
        "schema": {
            "fields": {
                "_values": {"type": "dense_vector", "dimension": 4, "metric": "dotproduct", "description": None},
                "_sparse_values": {"type": "sparse_vector", "description": None},
            }
        },
        "deployment": {"deployment_type": "managed", "cloud": "aws", "region": "us-east-1"},
        "deletion_protection": "disabled",
        "read_capacity": {"mode": "OnDemand", "status": {"state": "Ready"}},
        "status": {"ready": True, "state": "Ready"},
        "host": wire.data,
        "tags": None,
    }


def test_numbers_of_metadata_are_doubles(wire: Wire) -> None:
    raw = (
        b'{"vectors":[{"id":"n","values":[0.1,0,0,0],"metadata":{"a":1,"b":9007199254740993,"c":1e3}}],"namespace":"n"}'
    )
    assert wire.post("/vectors/upsert", raw).json() == {"upsertedCount": 1}
    answer = wire.client.get(f"{wire.data}/vectors/fetch", params={"ids": ["n", "none"], "namespace": "n"})
    assert answer.text == (
        '{"vectors":{"n":{"id":"n","values":[0.1,0.0,0.0,0.0],"metadata":{"a":1.0,"b":9007199254740992.0,"c":1000.0}}},'
        '"namespace":"n","usage":{"readUnits":1}}'
    )


def test_doubles_may_be_written_without_a_fraction() -> None:
    given = Vector("a", [1.0, 2.0], metadata={"n": 1, "m": 1.5, "big": 1e300, "yes": True})
    with index_of(Settings(whole_numbers="int"), dimension=2) as index:
        index.upsert(vectors=[given])
        found = index.fetch(ids=["a"]).vectors["a"].metadata
    assert found == {"n": 1, "m": 1.5, "big": 1e300, "yes": True}
    assert [type(found[key]) for key in ("n", "m", "big", "yes")] == [int, float, float, bool]


def test_spaces_may_be_refused() -> None:
    with index_of(Settings(spaces=False), dimension=2) as index:
        index.upsert(vectors=[("a b", [1.0, 2.0])])
        with refused(400, "spaces"):
            index.fetch(ids=["a b"])
        with refused(400, "spaces"):
            index.list_paginated(prefix="a ")
        assert [item.id for item in index.list_paginated()] == ["a b"]


def test_null_may_be_dropped() -> None:
    with index_of(Settings(null_metadata="drop"), dimension=2) as index:
        index.upsert(vectors=[Vector("a", [1.0, 2.0], metadata={"n": None, "m": "x"})])
        assert index.fetch(ids=["a"]).vectors["a"].metadata == {"m": "x"}


def test_only_writes_and_queries_name_their_number(wire: Wire) -> None:
    committed, indexed = "x-pinecone-request-lsn", "x-pinecone-max-indexed-lsn"
    one = {"vectors": [{"id": "a", "values": [1, 0, 0, 0]}], "namespace": "lsn"}
    assert [wire.post("/vectors/upsert", one).headers[committed] for _ in range(3)] == ["1", "2", "3"]
    assert wire.post("/vectors/upsert", {**one, "namespace": "other"}).headers[committed] == "1"
    deleted = wire.post("/vectors/delete", {"ids": ["a"], "namespace": "lsn"})
    assert (deleted.json(), deleted.headers[committed]) == ({}, "4")
    answer = wire.post("/query", {"vector": [1, 0, 0, 0], "topK": 1, "namespace": "lsn"})
    assert (answer.headers[indexed], committed in answer.headers) == ("4", False)
    for path in ("list?namespace=lsn", "fetch?ids=a&namespace=lsn"):
        assert not {committed, indexed} & wire.client.get(f"{wire.data}/vectors/{path}").headers.keys()


def test_connections_are_kept(wire: Wire) -> None:
    with httpx.Client(headers=wire.client.headers) as client:
        answers = [client.get(f"{wire.server.url}/indexes") for _ in range(3)]
        answers.append(client.get(f"{wire.server.url}/indexes/none"))
        streams = {id(answer.extensions["network_stream"].get_extra_info("socket")) for answer in answers}
    assert [answer.status_code for answer in answers] == [200, 200, 200, 404]
    assert {answer.http_version for answer in answers} == {"HTTP/1.1"}
    assert len(streams) == 1


########################################################################
# Refusals
########################################################################


def test_both_planes_refuse_in_their_form(wire: Wire) -> None:
    answer = wire.client.get(f"{wire.server.url}/indexes/none")
    assert (answer.status_code, answer.json()) == (
        404,
        {"error": {"code": "NOT_FOUND", "message": "Resource none not found"}, "status": 404},
    )
    answer = wire.upsert(id="bad", values=[1, 2])
    assert (answer.status_code, answer.json()) == (
        400,
        {"code": 3, "message": "Vector dimension 2 does not match the dimension of the index 4", "details": []},
    )


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Api-Key": "wrong"}, 401),
        ({"Api-Key": None}, 401),
        ({"X-Pinecone-Api-Version": "2025-10"}, 400),
        ({"X-Pinecone-Api-Version": None}, 400),
    ],
)
def test_keys_and_versions(wire: Wire, headers: dict[str, str | None], status: int) -> None:
    given = {**dict(wire.client.headers), **{name.lower(): value for name, value in headers.items()}}
    given = {name: value for name, value in given.items() if value is not None}
    for address in (f"{wire.server.url}/indexes", f"{wire.data}/vectors/list"):
        assert httpx.get(address, headers=given).status_code == status


def test_a_wrong_key_is_an_error_of_its_own(wire: Wire) -> None:
    wrong = PineconeServer(wire.server.url, "wrong")
    with client_of(wrong) as client, pytest.raises(UnauthorizedError, match="Invalid API Key"):
        client.indexes.describe("wire")


@pytest.mark.parametrize(
    ("vector", "words"),
    [
        ({"id": ""}, "must not be empty"),
        ({"id": None}, "must not be empty"),
        ({"id": "é"}, "Vector ID must be ASCII, but got 'é'"),
        ({"id": "a" * 513}, "at most 512 characters"),
        ({"id": "a\0"}, "null characters"),
        ({"values": []}, "Vector dimension 0 does not match the dimension of the index 4"),
        ({"values": [0, 0, 0, 0]}, "at least one non-zero value. Vector ID 'bad' contains only zeros"),
        ({"values": [1, None, 0, 0]}, "expected a list of numbers"),
        ({"values": ["1", "2", "3", "4"]}, "expected a list of numbers"),
        ({"values": [1e39, 0, 0, 0]}, "number out of range"),
        ({"sparseValues": {"indices": [], "values": []}}, "at least one value"),
        ({"sparseValues": {"indices": [1, 2], "values": [1]}}, "same length"),
        ({"sparseValues": {"indices": [1, 1], "values": [1, 2]}}, "duplicate"),
        ({"sparseValues": {"indices": [-1], "values": [1]}}, "from 0 to 4294967295"),
        ({"sparseValues": {"indices": [2**32], "values": [1]}}, "from 0 to 4294967295"),
        ({"sparseValues": {"indices": [1], "values": [0]}}, "zero values"),
        ({"sparseValues": {"indices": [1, 2, 3, 4], "values": [1, 2, 3, 4]}}, "exceeds the limit of 3"),
        ({"metadata": {"$a": 1}}, "must not start with"),
        ({"metadata": {"k": None}}, "got 'null' for field 'k'"),
        ({"metadata": {"k": {"a": 1}}}, "boolean or list of strings, got '{\"a\":1.0}' for field 'k'"),
        ({"metadata": {"k": [1758694138, 2]}}, "got '[1758694138.0,2.…' for field 'k'".replace("…", "...")),
        ({"metadata": {"k": ["a", 1]}}, "for field 'k'"),
        ({"metadata": {"k": "x" * 200}}, "metadata size is 208 bytes, which exceeds the limit of 200 bytes per vector"),
        ({"metadata": []}, "must be an object"),
        ({"vector": [1]}, "unknown field"),
    ],
)
def test_one_bad_vector_fails_the_whole_request(wire: Wire, vector: dict[str, Any], words: str) -> None:
    before = wire.count()
    answer = wire.upsert(**{"id": "bad", "values": [1, 2, 3, 4], **vector})
    assert (answer.status_code, answer.json()["code"]) == (400, 3)
    assert words in answer.json()["message"]
    assert wire.count() == before


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/vectors/upsert", {"vectors": []}, "No vectors"),
        ("/vectors/upsert", {"vectors": [{"id": "a", "values": [1, 0, 0, 0]}], "namespace": "é"}, "must be ASCII"),
        ("/vectors/upsert", {"vectors": [{"id": "a", "values": [1, 0, 0, 0]}], "namespace": "n" * 513}, "at most 512"),
        ("/vectors/upsert", b"{", "malformed JSON"),
        ("/vectors/upsert", b"[1]", "no JSON object"),
        ("/vectors/delete", {}, "No IDs"),
        ("/vectors/delete", {"filter": {}}, "empty metadata filter"),
        ("/vectors/delete", {"ids": ["a"], "deleteAll": True}, "No explicit IDs"),
        ("/vectors/update", {"setMetadata": {}}, "Exactly one of"),
        ("/vectors/update", {"filter": {"a": 1}, "values": [1, 0, 0, 0]}, "does not support updating vector values"),
        ("/vectors/fetch_by_metadata", {"filter": {}}, "Empty filter"),
        ("/query", {"topK": 0, "vector": [1, 0, 0, 0]}, "between 1 and 10000"),
        ("/query", {"topK": 10_001, "vector": [1, 0, 0, 0]}, "between 1 and 10000"),
        ("/query", {"topK": 1}, "At least one of"),
        ("/query", {"topK": 1, "vector": [1, 0]}, "does not match the dimension"),
        ("/query", {"topK": 1, "id": "a", "vector": [1, 0, 0, 0]}, "both"),
        ("/query", {"topK": 1, "vector": [1, 0, 0, 0], "scanFactor": 2}, "dedicated read nodes"),
        ("/describe_index_stats", {"filter": {"a": 1}}, "cannot be filtered"),
        ("/namespaces", {"name": "__default__"}, "reserved"),
        ("/namespaces", {"name": "x", "schema": {"fields": {"y": {"filterable": False}}}}, "Only filterable: true"),
    ],
)
def test_requests_that_make_no_sense(wire: Wire, path: str, body: Any, words: str) -> None:
    answer = wire.post(path, body)
    assert (answer.status_code, answer.json()["code"]) == (400, 3)
    assert words in answer.json()["message"]


def test_what_is_not_served_is_not_found(wire: Wire) -> None:
    for address in (
        f"{wire.data}/bulk/imports",
        f"{wire.server.url}/collections",
        f"{wire.server.url}/data/none/query",
    ):
        assert wire.client.get(address).status_code == 404


########################################################################
# Limits
########################################################################


def test_pages_and_requests_are_limited(wire: Wire) -> None:
    for query in ("limit=101", "limit=0", "limit=x", "prefix=%C3%A9"):
        assert wire.client.get(f"{wire.data}/vectors/list?{query}").status_code == 400
    answer = wire.client.get(f"{wire.data}/vectors/fetch?{'&'.join(['ids=a'] * 1001)}")
    assert "exceeds the limit of 1000" in answer.json()["message"]
    many = [str(i) for i in range(1001)]
    for path, body in (
        ("/vectors/delete", {"ids": many}),
        ("/vectors/upsert", {"vectors": [{"id": each, "values": [1, 0, 0, 0]} for each in many]}),
    ):
        assert "exceeds the limit of 1000" in wire.post(path, body).json()["message"]
    assert wire.post(
        "/vectors/upsert", {"vectors": [{"id": each, "values": [1, 0, 0, 0]} for each in many[1:]]}
    ).is_success
    assert wire.post("/vectors/delete", {"ids": many[1:]}).is_success


ASCII = st.text(st.characters(min_codepoint=1, max_codepoint=127), max_size=4)


@given(ids=st.sets(ASCII.filter(bool)), prefix=ASCII, limit=st.integers(1, 3))
def test_pages_hold_each_id_with_the_prefix_once_and_in_order(ids: set[str], prefix: str, limit: int) -> None:
    namespace = Namespace("n", Settings())
    namespace.accept(lambda there: there.store([Record(each) for each in ids]))
    found: list[str] = []
    more = True
    while more:
        page, more = namespace.page(prefix, found[-1] if found else None, limit)
        assert len(page) == limit or not more
        found += page
    assert found == sorted((each for each in ids if each.startswith(prefix)), key=str.encode)


def test_addresses_above_8_kb_are_refused(wire: Wire) -> None:
    head = len(httpx.URL(wire.data).raw_path + b"/vectors/fetch?")
    fits = "&".join(["ids=" + "i" * 500] * 16)
    fits += "&ids=" + "i" * (8192 - head - len(fits) - len("&ids="))
    assert wire.client.get(f"{wire.data}/vectors/fetch?{fits}").status_code == 200
    assert wire.client.get(f"{wire.data}/vectors/fetch?{fits}i").status_code == 414


def test_a_request_above_2_mb_is_refused_whole(wire: Wire) -> None:
    body = json.dumps({"vectors": [{"id": "a", "values": [1, 0, 0, 0]}], "namespace": "large"}).encode()
    assert wire.post("/vectors/upsert", body.ljust(2 * 1024 * 1024)).is_success
    answer = wire.post("/vectors/upsert", body.ljust(2 * 1024 * 1024 + 1))
    assert (answer.status_code, answer.json()["code"]) == (413, 11)
    with client_of(wire.server) as client, client.index(host=wire.data) as index:
        with pytest.raises(PayloadTooLargeError, match=r"found \d+ bytes, the limit is: 2097152 bytes"):
            index.upsert(vectors=[(f"{i:0400}", [0.1 + i / 7] * 4) for i in range(4500)])
        assert len(index.fetch(ids=["a"], namespace="large").vectors) == 1


def test_an_answer_above_the_limit_is_refused() -> None:
    with index_of(Settings(max_answer_bytes=1000), dimension=64) as index:
        index.upsert(vectors=[(str(i), [1.0 + i] * 64) for i in range(10)])
        assert len(index.query(vector=[1.0] * 64, top_k=10).matches) == 10
        with refused(400, "exceeds the limit of 1000 bytes"):
            index.query(vector=[1.0] * 64, top_k=10, include_values=True)


def test_scores_out_of_range_are_the_largest_numbers_there_are() -> None:
    with PineconeStandIn() as server, client_of(server) as client, made(client, dense(2, "euclidean")) as index:
        index.upsert(vectors=[("far", [7e30, 0.0]), ("near", [1.0, 0.0])])
        scores = [match.score for match in index.query(vector=[1.0, 0.0], top_k=2).matches]
    assert scores == [0.0, pytest.approx(3.4028235e38)]


########################################################################
# Pods
########################################################################


def test_pod_indexes_are_made_no_more(wire: Wire) -> None:
    with client_of(wire.server) as client, refused(400, "Pod-based indexes cannot be created"):
        client.create_index("pod", dimension=2, spec=PodSpec(environment="us-east1-gcp"))


def test_pod_indexes_that_exist_cannot_list() -> None:
    with PineconeStandIn(Settings(pods=True)) as server, client_of(server) as client:
        client.create_index("pod", dimension=2, metric="euclidean", spec=PodSpec(environment="us-east1-gcp"))
        assert client.indexes.configure("pod", replicas=2).deployment.replicas == 2
        with client.index("pod") as index:
            index.upsert(vectors=[("a", [1.0, 2.0])], namespace="n")
            for call in (
                index.list_paginated,
                index.list_namespaces_paginated,
                lambda: index.describe_namespace(name="n"),
            ):
                with refused(501, "not supported for pod-based indexes"):
                    call()
            assert index.fetch(ids=["a"], namespace="n").vectors["a"].values == [1.0, 2.0]
            assert index.describe_index_stats().namespaces["n"].vector_count == 1
