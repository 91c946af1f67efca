"""The databases that the contract suite runs against. A new one is one more `DatabaseCase` in `CASES`."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr

from vectormigrate_dagster.databases import Database, Endpoint, Source, capabilities_of, open_target
from vectormigrate_dagster.databases.endpoint import PineconeOptions, QdrantOptions, WeaviateOptions
from vectormigrate_dagster.databases.milvus.records import UNREADABLE
from vectormigrate_dagster.databases.pinecone.capabilities import DOCUMENTS
from vectormigrate_dagster.model import (
    Batch,
    Capabilities,
    CollectionSchema,
    Dense,
    FieldSchema,
    FieldType,
    Id,
    IdColumn,
    IdKind,
    IdSchema,
    IndexSpec,
    Metric,
    Split,
    VectorKind,
    VectorSchema,
)
from vectormigrate_dagster_tests.databases import qdrant_support
from vectormigrate_dagster_tests.emulators.qdrant import QdrantServer, QdrantStandIn
from vectormigrate_dagster_tests.servers.milvus import server_capabilities

AWKWARD_TEXTS = [
    'double "quotes"', "single 'quotes'", "back\\slash", "\\", '"', "' or 1 == 1 or '", "tab\t", "line\nbreak", "\r",
    "é", "日本語", "🎉", " ", "a b", "%", "/", "\x01", "\x7f", "{x}", "42", "042", "-1", "\u2028",
]  # fmt: skip


FIELDS = (
    FieldSchema(name="name", type=FieldType.TEXT, declared=True),
    FieldSchema(name="n", type=FieldType.INT64, declared=True),
    FieldSchema(name="only", type=FieldType.INT64, declared=True),
)
"""Of the payloads that these tests write."""


@dataclass(frozen=True)
class DatabaseCase:
    """One database in one mode.

    Args:
        name: id of the parameter.
        endpoint: makes an endpoint out of where the database is and a collection's name.
        capabilities: what it declares.
        exact_index: an index whose answers are exact; None where every answer can be.
        server: the fixture that says where the server is; None for embedded databases, which are in a folder.
        unreadable: ids that it accepts and counts, and that no query returns.
        rename: what it makes of a collection's name.
    """

    name: str
    endpoint: Callable[[Any, str], Endpoint]
    capabilities: Capabilities
    exact_index: IndexSpec | None = None
    server: str | None = None
    unreadable: Sequence[Id] = ()
    rename: Callable[[str], str] = str

    @property
    def vector(self) -> str:
        return self.capabilities.default_vector_name

    def schema(self, *, kind: IdKind | None = None, metric: Metric = Metric.DOT, dim: int = 4) -> CollectionSchema:
        """The plainest collection: one dense vector; of all id kinds that it can hold at once.

        It has no fields, but for those of `records` where a key without a field cannot be kept.
        """
        kinds = self.capabilities.id_kinds if self.capabilities.mixed_id_kinds else (kind or self.kinds[0],)
        vector = VectorSchema(name=self.vector, dim=dim, metric=metric, index=self.exact_index)
        dynamic = self.capabilities.dynamic_fields
        fields = () if dynamic else FIELDS
        return CollectionSchema(
            name="things", ids=IdSchema(kinds=kinds), vectors=(vector,), fields=fields, dynamic=dynamic
        )

    @property
    def kinds(self) -> Sequence[IdKind]:
        return self.capabilities.id_kinds


def embedded(type: str, exact_index: IndexSpec | None = None) -> DatabaseCase:
    return DatabaseCase(
        name=f"{type}-embedded",
        endpoint=lambda folder, collection: Endpoint(type=type, path=folder / f"{type}.db", collection=collection),
        capabilities=capabilities_of(type, embedded=True),
        exact_index=exact_index,
    )


def qdrant_server(*, grpc: bool) -> DatabaseCase:
    def endpoint(server: QdrantServer, collection: str) -> Endpoint:
        key = None if server.api_key is None else SecretStr(server.api_key)
        options = QdrantOptions(grpc_url=server.grpc_url) if grpc else QdrantOptions()
        return Endpoint(type="qdrant", url=server.url, api_key=key, collection=collection, options=options)

    return DatabaseCase(
        name="qdrant-grpc" if grpc else "qdrant-rest",
        endpoint=endpoint,
        capabilities=capabilities_of("qdrant", embedded=False),
        server="qdrant_server",
    )


def pinecone(*, documents: bool = False, grpc: bool = False) -> DatabaseCase:
    """A vector index, or a document index with a vector of its own name, which has no gRPC."""

    def endpoint(server: Any, collection: str) -> Endpoint:
        key = SecretStr(server.api_key)
        options = PineconeOptions(prefer_grpc=grpc, grpc_url=server.grpc_url)
        return Endpoint(type="pinecone", url=server.url, api_key=key, collection=collection, options=options)

    declared = capabilities_of("pinecone")
    return DatabaseCase(
        name="pinecone-documents" if documents else "pinecone-grpc" if grpc else "pinecone",
        endpoint=endpoint,
        capabilities=DOCUMENTS.but(default_vector_name="embedding") if documents else declared,
        server="pinecone_server",
    )


def milvus_server() -> DatabaseCase:
    return DatabaseCase(
        name="milvus-server",
        endpoint=lambda server, collection: server.endpoint(collection),
        capabilities=server_capabilities(),
        exact_index=IndexSpec(type="FLAT"),
        server="milvus_server",
        unreadable=(UNREADABLE,),
    )


def weaviate(*, named: bool) -> DatabaseCase:
    def endpoint(server: Any, collection: str) -> Endpoint:
        key = None if server.api_key is None else SecretStr(server.api_key)
        options = WeaviateOptions(grpc_url=server.grpc_url)
        return Endpoint(type="weaviate", url=server.url, api_key=key, collection=collection, options=options)

    declared = capabilities_of("weaviate")
    return DatabaseCase(
        name="weaviate" if named else "weaviate-unnamed",
        endpoint=endpoint,
        capabilities=declared.but(default_vector_name="default") if named else declared,
        exact_index=IndexSpec(type="flat"),
        server="weaviate_server",
        rename=str.capitalize,
    )


EMBEDDED = [embedded("qdrant"), embedded("milvus", IndexSpec(type="FLAT"))]
CASES = [
    *EMBEDDED,
    qdrant_server(grpc=False),
    qdrant_server(grpc=True),
    milvus_server(),
    pinecone(),
    pinecone(grpc=True),
    pinecone(documents=True),
]
CASES += [weaviate(named=True), weaviate(named=False)]

EACH_METRIC = [
    pytest.param(case, metric, id=f"{case.name}-{metric.value}")
    for case in CASES
    for metric in case.capabilities.metrics[VectorKind.DENSE]
    if metric not in (Metric.HAMMING, Metric.JACCARD)  # these compare bits, not floats
]

Opener = Callable[..., Database]


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> DatabaseCase:
    return request.param


@pytest.fixture
def where(case: DatabaseCase, tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    """Where the database of the case is: the test's own folder, or a server that tests share."""
    return tmp_path if case.server is None else request.getfixturevalue(case.server)


@pytest.fixture
def opened(case: DatabaseCase, where: Any) -> Iterator[Opener]:
    """Opens collections of the case; closed at the end of the test, and dropped if a server holds them."""

    def open_it(collection: str = "things") -> Database:
        if case.server is not None and collection not in used:
            stack.callback(_drop, case.endpoint(where, collection))
            _drop(case.endpoint(where, collection))
        used.add(collection)
        return stack.enter_context(open_target(case.endpoint(where, collection)))

    used: set[str] = set()
    with ExitStack() as stack:
        yield open_it


def _drop(endpoint: Endpoint) -> None:
    with open_target(endpoint) as database:
        database.drop()


def some_ids(case: DatabaseCase, kind: IdKind, n: int) -> list[Id]:
    """n different ids in random order, with the kind's extremes and awkward ones among them."""
    random = np.random.default_rng(0)
    numbers = [int(value) for value in random.choice(10 * n + 10, size=n, replace=False)]
    ids: list[Any]
    if kind is IdKind.U64:
        ids = [0, 2**64 - 1, 2**63, *numbers]
    elif kind is IdKind.I64:
        ids = [0, -1, 2**63 - 1, 2**63 - 2, -(2**63), *(value * (-1) ** value for value in numbers)]
    elif kind is IdKind.UUID:
        ids = [uuid.UUID(int=0), uuid.UUID(int=2**128 - 1), *(uuid.UUID(bytes=random.bytes(16)) for _ in numbers)]
    else:
        ids = [*AWKWARD_TEXTS, *(f"id-{value}" for value in numbers)]
    pattern = case.capabilities.id_pattern
    if pattern is not None:
        ids = [value for value in ids if re.fullmatch(pattern, str(value))]
    different = [value for value in dict.fromkeys(ids) if value not in case.unreadable][:n]
    random.shuffle(different)
    return different


def numbered(kind: IdKind, ids: Sequence[Id]) -> IdColumn:
    """A column of ids; where they are no numbers, those that are called after the numbers, in the same order."""
    return IdColumn.of(kind, [called_after(kind, value) for value in ids])


def called_after(kind: IdKind, value: Id) -> Id:
    """The id of a kind that stands for a number; an id of the kind stands for itself."""
    if not isinstance(value, int) or kind in (IdKind.U64, IdKind.I64):
        return value
    return uuid.UUID(int=value) if kind is IdKind.UUID else f"{value:020d}"


def kept(payload: dict[str, Any], can: Capabilities) -> dict[str, Any] | None:
    """A payload as it comes back; None if the database does not claim to hold it."""
    back = {}
    for key, value in payload.items():
        elements = value if isinstance(value, list) else []
        if can.key_pattern is not None and not re.fullmatch(can.key_pattern, key):
            return None
        if _json_type(value) not in can.payload_types:
            return None
        if can.list_elements is not None and not {_json_type(element) for element in elements} <= can.list_elements:
            return None
        if type(value) is int and not can.min_int <= value <= can.max_int:
            return None
        back[key] = float(value) if type(value) is int and can.numbers_are_floats else value
    return back


def _json_type(value: Any) -> str:
    names = {bool: "bool", int: "int", float: "float", str: "text", list: "list", dict: "object", type(None): "null"}
    return names[type(value)]


def records(case: DatabaseCase, ids: Sequence[Id], kind: IdKind, *, dim: int = 4, seed: int = 0) -> Batch:
    """A batch of random vectors that are not normalised, whose payload names the id; ids are those of `numbered`."""
    vectors = np.random.default_rng(seed).standard_normal((len(ids), dim)).astype(np.float32) * 3
    return Batch(
        ids=numbered(kind, ids),
        vectors={case.vector: Dense(vectors)},
        payloads=[{"name": str(value), "n": i} for i, value in enumerate(ids)],
    )


def content(batches: Sequence[Batch]) -> dict[Id, tuple[dict[str, Any], dict[str, Any]]]:
    """id -> (payload, vector name -> bytes), for comparing whole collections."""
    return {
        value: (
            batch.payloads[i],
            {name: column.take([i]).values.tobytes() for name, column in batch.vectors.items()},
        )
        for batch in batches
        for i, value in enumerate(batch.ids.to_pylist())
    }


def everything(database: Database | Source, splits: list[Split] | None = None, page: int = 7) -> list[Batch]:
    splits = database.plan_splits(10**9) if splits is None else splits
    return [batch for split in splits for batch in database.scan(split, batch_records=page)]


def ids_of(batches: list[Batch]) -> list[Any]:
    return [value for batch in batches for value in batch.ids.to_pylist()]


########################################################################
# Qdrant servers, over both of their protocols
########################################################################


@pytest.fixture(params=qdrant_support.TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def on_server(qdrant_server: QdrantServer, transport: str) -> Iterator[Opener]:
    """Opens collections of the real server, or of the stand-in that stands in for it."""
    with ExitStack() as stack:

        def open_it(name: str = "server_things", how: str = transport) -> Database:
            database = stack.enter_context(open_target(qdrant_support.endpoint(qdrant_server, how, name)))
            database.drop()
            stack.callback(database.drop)
            return database

        yield open_it


@pytest.fixture
def faulty(qdrant_stand_in: QdrantStandIn, transport: str) -> Iterator[Database]:
    """The collection `things` on a stand-in of the test's own, with a plain schema."""
    with open_target(qdrant_support.endpoint(qdrant_stand_in, transport, "things")) as database:
        database.create(qdrant_support.schema())
        yield database
