"""What the stand-in refuses, and in which words and with which status: those of a server, over both faces.

With QDRANT_URL (and QDRANT_GRPC_URL, QDRANT_API_KEY) these tests run against that server instead.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse

from vectormigrate_dagster_tests.emulators.conftest import NAME
from vectormigrate_dagster_tests.emulators.qdrant_clients import UUIDS, ids, point, refused, version


def test_collections_that_exist_and_that_do_not(things: QdrantClient) -> None:
    params = models.VectorParams(size=4, distance=models.Distance.DOT)
    with refused(409, "ALREADY_EXISTS", f"Collection `{NAME}` already exists!"):
        things.create_collection(NAME, vectors_config=params)
    assert things.collection_exists(NAME)
    assert NAME in [each.name for each in things.get_collections().collections]
    assert not things.collection_exists("vectormigrate_none")
    assert not things.delete_collection("vectormigrate_none")
    for call in (things.get_collection, things.count, things.scroll, lambda name: things.upsert(name, [point(1)])):
        with refused(404, "NOT_FOUND", "Collection `vectormigrate_none` doesn't exist!"):
            call("vectormigrate_none")


@pytest.mark.parametrize(
    ("vector", "http", "words"),
    [
        ([1.0, 2.0], 400, "Wrong input: Vector dimension error: expected dim: 4, got 2"),
        ({"other": [1.0, 2.0, 3.0, 4.0]}, 400, "Wrong input: Not existing vector name error: other"),
        ([], 422, "dense vector must not be empty"),
        (
            {"": models.SparseVector(indices=[1], values=[1.0])},
            400,
            "Wrong input: Conversion between sparse and regular vectors failed",
        ),
        ({"w": models.SparseVector(indices=[1, 1], values=[1.0, 2.0])}, 422, "must be unique"),
        ({"w": models.SparseVector(indices=[1, 2], values=[1.0])}, 422, "must be the same length as indices"),
    ],
)
def test_vectors_that_do_not_fit(things: QdrantClient, vector: object, http: int, words: str) -> None:
    with refused(http, "INVALID_ARGUMENT", words):
        things.upsert(NAME, [point(1, vector)], wait=True)
    assert things.count(NAME).count == 0


def test_a_batch_is_refused_whole_even_before_it_is_acknowledged(things: QdrantClient) -> None:
    for wait in (True, False):
        with refused(400, "INVALID_ARGUMENT", "expected dim: 4, got 2"):
            things.upsert(NAME, [point(i, (1.0,) * (2 if i == 50 else 4)) for i in range(100)], wait=wait)
    assert things.count(NAME).count == 0


@pytest.mark.parametrize(
    ("query", "using", "http", "code", "words"),
    [
        ([1.0, 2.0], None, 400, "INVALID_ARGUMENT", "Wrong input: Vector dimension error: expected dim: 4, got 2"),
        ([1.0] * 4, "x", 400, "INVALID_ARGUMENT", "Wrong input: Not existing vector name error: x"),
        (77, None, 404, "NOT_FOUND", "No point with id 77 found"),
    ],
)
def test_queries_that_do_not_fit(
    things: QdrantClient, query: object, using: str | None, http: int, code: str, words: str
) -> None:
    with refused(http, code, words):
        things.query_points(NAME, query=query, using=using)


def test_limits_and_names_that_are_impossible(things: QdrantClient) -> None:
    for call in (lambda: things.scroll(NAME, limit=0), lambda: things.query_points(NAME, query=[1.0] * 4, limit=0)):
        with refused(422, "INVALID_ARGUMENT", "limit: value 0 invalid, must be 1 or larger"):
            call()
    large = models.VectorParams(size=70_000, distance=models.Distance.DOT)
    with refused(422, "INVALID_ARGUMENT", "value 70000 invalid, must be from 1 to 65536"):
        things.create_collection("vectormigrate_none", vectors_config=large)


def test_not_a_number_passes_over_grpc_only(things: QdrantClient, face: str) -> None:
    if version(things) >= (1, 20):
        pytest.skip("later servers refuse it")
    bad = [point(1, (1.0, float("nan"), 0.0, float("inf")))]
    if face == "rest":
        with refused(400, "INVALID_ARGUMENT", "did not match any variant of untagged enum VectorStruct"):
            things.upsert(NAME, bad, wait=True)
        return
    things.upsert(NAME, bad, wait=True)
    assert np.isnan(things.retrieve(NAME, [1], with_vectors=True)[0].vector[1])


def test_requests_that_make_no_sense(things: QdrantClient) -> None:
    with refused(400, "INVALID_ARGUMENT", "Empty update request"):
        things.upsert(NAME, [], wait=True)
    with refused(404, "NOT_FOUND", "No point with id 7 found"):
        things.set_payload(NAME, payload={"a": 1}, points=[7], wait=True)
    with refused(400, "INVALID_ARGUMENT", "No range index for `order_by` key: `n`"):
        things.scroll(NAME, order_by="n")


def test_ids_are_numbers_or_uuids(qdrant_server, things: QdrantClient, face: str) -> None:
    things.upsert(NAME, [point("urn:uuid:" + UUIDS[0]), point(UUIDS[0].replace("-", "").upper())], wait=True)
    assert ids(things.scroll(NAME)[0]) == [UUIDS[0]]
    with refused(400, "INVALID_ARGUMENT", "Unable to parse UUID: nonsense" if face == "grpc" else "nonsense"):
        things.upsert(NAME, [point("nonsense")], wait=True)


def test_strict_mode(things: QdrantClient) -> None:
    things.update_collection(
        NAME,
        strict_mode_config=models.StrictModeConfig(
            enabled=True,
            max_query_limit=10,
            upsert_max_batchsize=3,
            max_points_count=4,
            unindexed_filtering_retrieve=False,
            search_allow_exact=False,
        ),
    )
    words = (
        'Limit exceeded 11 > 10 for \\"limit\\"' if isinstance_rest(things) else 'Limit exceeded 11 > 10 for "limit"'
    )
    with refused(400, "INVALID_ARGUMENT", words):
        things.scroll(NAME, limit=11)
    with refused(400, "INVALID_ARGUMENT", "Limit exceeded 4 > 3"):
        things.upsert(NAME, [point(i) for i in range(4)], wait=True)
    condition = models.Filter(must=[models.FieldCondition(key="a", match=models.MatchValue(value="b"))])
    with refused(400, "INVALID_ARGUMENT", "Index required but not found for"):
        things.scroll(NAME, scroll_filter=condition)
    with refused(400, "INVALID_ARGUMENT", "Exact search disabled!"):
        things.query_points(NAME, query=[1.0] * 4, search_params=models.SearchParams(exact=True))
    things.scroll(NAME, limit=10)
    assert things.get_collection(NAME).config.strict_mode_config.max_query_limit == 10


def isinstance_rest(client: QdrantClient) -> bool:
    return not client.init_options["prefer_grpc"]


def both(call: Callable[[int], None], points: int) -> None:
    call(points)
    call(points)


@pytest.mark.parametrize("kind", ["Read", "Write"])
def test_rate_limits_say_when_to_come_back(things: QdrantClient, kind: str) -> None:
    limits = {"read_rate_limit": 8} if kind == "Read" else {"write_rate_limit": 8}
    things.update_collection(NAME, strict_mode_config=models.StrictModeConfig(enabled=True, **limits))

    def call(points: int) -> None:
        if kind == "Read":
            things.retrieve(NAME, list(range(points)))
        else:
            things.upsert(NAME, [point(i) for i in range(points)], wait=True)

    call(3)
    with pytest.raises(ResourceExhaustedResponse, match="requires 3 tokens but only 2") as caught:
        both(call, 3)  # in cluster mode a server charges the first write twice, so the first may be too much
    assert 1 <= caught.value.retry_after_s <= 8
    with refused(429, "RESOURCE_EXHAUSTED", "request larger than rate limiter capacity"):
        call(9)
