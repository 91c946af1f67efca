"""Fixtures that several rooms use."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from pydantic import SecretStr

from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.databases.endpoint import MilvusOptions, PineconeOptions, QdrantOptions, WeaviateOptions
from vectormigrate_dagster_tests import storage_versions
from vectormigrate_dagster_tests.emulators.pinecone import PineconeServer, PineconeStandIn
from vectormigrate_dagster_tests.emulators.qdrant import QdrantServer, QdrantStandIn
from vectormigrate_dagster_tests.emulators.weaviate import WeaviateServer, WeaviateStandIn
from vectormigrate_dagster_tests.harness import COLLECTION, Records, Workplace, end_children, fill
from vectormigrate_dagster_tests.servers import postgres
from vectormigrate_dagster_tests.servers.milvus import Address, database_of_its_own, given_address, shared_server

# How long an example takes says nothing about the code on a machine that does other things too.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")
storage_versions.read_once()

SMALL = Records.of(300)


@pytest.fixture(scope="session")
def small_source(tmp_path_factory: pytest.TempPathFactory) -> Endpoint:
    """An embedded Qdrant with 300 records; nobody writes to it."""
    endpoint = Endpoint(type="qdrant", path=tmp_path_factory.mktemp("small") / "source", collection=COLLECTION)
    fill(endpoint, SMALL)
    return endpoint


@pytest.fixture
def place(tmp_path: Path, small_source: Endpoint) -> Workplace:
    """A migration of those 300 records to a Milvus Lite, in 3 or more partitions."""
    transfer = {"partition_records": 100, "batch_size": 40, "checkpoint_seconds": 0}
    return Workplace.make(tmp_path, small_source, "milvus", transfer=transfer)


@pytest.fixture(scope="session")
def milvus_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    """A database on the server at MILVUS_URL, or else on one that all test processes share; several tests share it."""
    with database_of_its_own(given_address() or shared_server(of_all_processes(tmp_path_factory) / "milvus")) as there:
        yield there


def of_all_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of this test run; pytest-xdist gives each of its processes one in it."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The address of the Postgres at POSTGRES_URL, or else of one that this process starts; several tests share it."""
    if url := postgres.given_url():
        yield url
        return
    with postgres.PostgresServer.start() as server:
        yield server.url


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """The address of a new, empty Postgres database: `postgresql://...`."""
    with postgres.database_of_its_own(postgres_server) as url:
        yield url


@pytest.fixture(scope="session")
def qdrant_server() -> Iterator[QdrantServer]:
    """The Qdrant server at QDRANT_URL (and QDRANT_GRPC_URL, QDRANT_API_KEY), or else a stand-in; tests share it."""
    if url := os.environ.get("QDRANT_URL"):
        yield QdrantServer(url, os.environ.get("QDRANT_GRPC_URL"), os.environ.get("QDRANT_API_KEY"))
        return
    with QdrantStandIn() as server:
        yield QdrantServer(server.url, server.grpc_url)


@pytest.fixture
def qdrant_stand_in() -> Iterator[QdrantStandIn]:
    """A stand-in of the test's own, which may be told to fail, even where QDRANT_URL names a real server."""
    with QdrantStandIn() as server:
        yield server


@pytest.fixture(scope="session")
def pinecone_server() -> Iterator[PineconeServer]:
    """The Pinecone control plane at PINECONE_HOST, with PINECONE_API_KEY, or else a stand-in; tests share it."""
    if url := os.environ.get("PINECONE_HOST"):
        yield PineconeServer(url, os.environ["PINECONE_API_KEY"])
        return
    with PineconeStandIn(grpc=True) as server:
        yield PineconeServer(server.url, server.api_key, server.grpc_url)


@pytest.fixture
def pinecone_stand_in() -> Iterator[PineconeStandIn]:
    """A stand-in of the test's own, which may be told to fail, even where PINECONE_HOST names a real server."""
    with PineconeStandIn() as server:
        yield server


@pytest.fixture(scope="session")
def weaviate_server() -> Iterator[WeaviateServer]:
    """The Weaviate server at WEAVIATE_URL and WEAVIATE_GRPC_URL (WEAVIATE_API_KEY), or else a stand-in; shared."""
    if url := os.environ.get("WEAVIATE_URL"):
        yield WeaviateServer(url, os.environ["WEAVIATE_GRPC_URL"], os.environ.get("WEAVIATE_API_KEY"))
        return
    with WeaviateStandIn() as server:
        yield WeaviateServer(server.url, server.grpc_url)


@pytest.fixture
def weaviate_stand_in() -> Iterator[WeaviateStandIn]:
    """A stand-in of the test's own, which may be told to fail, even where WEAVIATE_URL names a real server."""
    with WeaviateStandIn() as server:
        yield server


Collections = Callable[[str], Endpoint]
"""Makes the endpoint of a new collection whose name begins so."""


@pytest.fixture(scope="session")
def milvus_collections(milvus_server: Address) -> Collections:
    """Collections of the Milvus server."""
    key = SecretStr(milvus_server.token) if milvus_server.token else None
    options = MilvusOptions(search_ef=100)  # what the other databases begin with
    return lambda name: Endpoint(
        type="milvus", url=milvus_server.url, api_key=key, collection=_new(name), options=options
    )


@pytest.fixture(scope="session")
def qdrant_collections(qdrant_server: QdrantServer) -> Collections:
    """Collections of the Qdrant server, over gRPC where its address is known."""
    key = SecretStr(qdrant_server.api_key) if qdrant_server.api_key else None
    options = QdrantOptions(grpc_url=qdrant_server.grpc_url)
    return lambda name: Endpoint(
        type="qdrant", url=qdrant_server.url, api_key=key, collection=_new(name), options=options
    )


@pytest.fixture(scope="session")
def pinecone_collections(pinecone_server: PineconeServer) -> Collections:
    """Indexes of the Pinecone server, whose names are small letters, digits and hyphens."""
    key = SecretStr(pinecone_server.api_key)
    options = PineconeOptions(grpc_url=pinecone_server.grpc_url)
    return lambda name: Endpoint(
        type="pinecone",
        url=pinecone_server.url,
        api_key=key,
        collection=_new(name).lower().replace("_", "-"),
        options=options,
    )


@pytest.fixture(scope="session")
def weaviate_collections(weaviate_server: WeaviateServer) -> Collections:
    """Collections of the Weaviate server, whose names begin with a capital."""
    key = SecretStr(weaviate_server.api_key) if weaviate_server.api_key else None
    options = WeaviateOptions(grpc_url=weaviate_server.grpc_url)
    return lambda name: Endpoint(
        type="weaviate", url=weaviate_server.url, api_key=key, collection=_new(name.title()), options=options
    )


def _new(name: str) -> str:
    return f"{name}_{uuid.uuid4().hex[:8]}"


@pytest.fixture(autouse=True)
def _no_children_left() -> Iterator[None]:
    yield
    end_children()


def pytest_configure() -> None:
    """Undo what a shell does to commands in its background: our children would inherit that they ignore Ctrl-C."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest tests: begun last, one of them would leave the other processes with nothing to do."""
    items.sort(key=lambda item: item.get_closest_marker("kill") is None)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests have to tell beside that they passed."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "told":
                terminalreporter.write_line(str(value))
