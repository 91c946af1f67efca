"""Clients of the server that the tests of the stand-in share, over both faces."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from qdrant_client import QdrantClient, models

from vectormigrate_dagster_tests.emulators.qdrant import QdrantServer, QdrantStandIn

FACES = ["rest", "grpc"]
NAME = "vectormigrate_stand_in"


def client_of(server: QdrantServer | QdrantStandIn, face: str, **more: object) -> QdrantClient:
    """The official client; without a gRPC address there is REST only."""
    address = {"prefer_grpc": True, "grpc_port": urlsplit(server.grpc_url or "").port} if face == "grpc" else {}
    key = {"api_key": server.api_key} if server.api_key else {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Api key is used with an insecure connection")
        return QdrantClient(
            **{"url": server.url, "check_compatibility": False, "timeout": 30, **key, **address, **more}
        )


@pytest.fixture(params=FACES)
def face(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def client(face: str, qdrant_server: QdrantServer) -> Iterator[QdrantClient]:
    """The official client of the server that tests share, which is a real one if QDRANT_URL says so."""
    if face == "grpc" and qdrant_server.grpc_url is None:
        pytest.skip("QDRANT_GRPC_URL is not set")
    client = client_of(qdrant_server, face)
    client.delete_collection(NAME)
    yield client
    client.delete_collection(NAME)
    client.close()


@pytest.fixture
def things(client: QdrantClient) -> QdrantClient:
    """The client, beside an empty collection of one vector of 4 dimensions."""
    client.create_collection(NAME, vectors_config=models.VectorParams(size=4, distance=models.Distance.DOT))
    return client
