"""Clients of the server that the tests of the stand-in share, over both faces."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from pinecone import Pinecone
from qdrant_client import QdrantClient, models

from vectormigrate_dagster_tests.emulators import pinecone_clients
from vectormigrate_dagster_tests.emulators.pinecone import PineconeServer
from vectormigrate_dagster_tests.emulators.qdrant import QdrantServer, QdrantStandIn
from vectormigrate_dagster_tests.emulators.weaviate import WeaviateServer

if TYPE_CHECKING:
    from weaviate import WeaviateClient

    from vectormigrate_dagster_tests.emulators.weaviate_clients import Create

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


@pytest.fixture(scope="session")
def weaviate_client(weaviate_server: WeaviateServer) -> Iterator[WeaviateClient]:
    """The official client of the Weaviate server that tests share, which is a real one if WEAVIATE_URL says so."""
    # It costs a second to import; only its own tests pay.
    from vectormigrate_dagster_tests.emulators.weaviate_clients import connected  # noqa: PLC0415

    with connected(weaviate_server) as client:
        yield client


@pytest.fixture
def weaviate_create(weaviate_client: WeaviateClient) -> Iterator[Create]:
    """Makes collections on that server, which are dropped in the end."""
    from vectormigrate_dagster_tests.emulators.weaviate_clients import collections_of  # noqa: PLC0415

    with collections_of(weaviate_client) as create:
        yield create


@pytest.fixture(scope="session")
def pinecone_client(pinecone_server: PineconeServer) -> Iterator[Pinecone]:
    """The official client of the Pinecone project that tests share; their indexes are deleted in the end."""
    with pinecone_clients.client_of(pinecone_server) as client:
        yield client
        for index in list(client.indexes.list()):
            if index.name.startswith(pinecone_clients.PREFIX):
                client.indexes.delete(index.name, timeout=-1)


@pytest.fixture
def namespace() -> str:
    """A namespace of a Pinecone index that no other test uses."""
    return pinecone_clients.new_name()
