"""The official client of a Weaviate server, and what the tests of the stand-in fill it with."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, Self
from urllib.parse import urlsplit

import grpc
import httpx
import weaviate
from google.protobuf.struct_pb2 import Struct
from weaviate.classes.config import Configure, DataType, Property
from weaviate.classes.data import DataObject
from weaviate.classes.init import AdditionalConfig, Auth, Timeout
from weaviate.collections import Collection
from weaviate.proto.v1 import batch_pb2, search_get_pb2, weaviate_pb2_grpc

NONE = Configure.Vectors.self_provided
TEXT = Property(name="title", data_type=DataType.TEXT)
Create = Callable[..., Collection]
"""Makes a collection of a name of its own, which is dropped in the end."""


class Address(Protocol):
    """Where a server is: a stand-in or a real one."""

    @property
    def url(self) -> str: ...

    @property
    def grpc_url(self) -> str: ...

    @property
    def api_key(self) -> str | None: ...


@contextmanager
def connected(server: Address, api_key: str | None = None) -> Iterator[weaviate.WeaviateClient]:
    """The official v4 client, connected.

    Args:
        server: where to.
        api_key: another key than the server's own.
    """
    rest, rpc = urlsplit(server.url), urlsplit(server.grpc_url)
    key = api_key or server.api_key
    more: dict[str, Any] = {"auth_credentials": Auth.api_key(key)} if key else {}
    client = weaviate.connect_to_custom(
        http_host=rest.hostname or "",
        http_port=rest.port or 80,
        http_secure=rest.scheme == "https",
        grpc_host=rpc.hostname or "",
        grpc_port=rpc.port or 50051,
        grpc_secure=rpc.scheme == "https",
        skip_init_checks=True,  # they ask PyPI for a newer client
        additional_config=AdditionalConfig(timeout=Timeout(init=10, query=10, insert=10)),
        **more,
    )
    try:
        yield client
    finally:
        client.close()


@contextmanager
def collections_of(client: weaviate.WeaviateClient) -> Iterator[Create]:
    """Make collections, and drop them in the end."""
    names: list[str] = []

    def new(**settings: Any) -> Collection:
        names.append(f"VectormigrateStandIn{uuid.uuid4().hex[:8]}")
        return client.collections.create(names[-1], **{"vector_config": NONE(), **settings})

    try:
        yield new
    finally:
        for name in names:
            client.collections.delete(name)


def ids(count: int) -> list[uuid.UUID]:
    """UUIDs of all lengths of their numbers, not in their order."""
    return [uuid.uuid5(uuid.NAMESPACE_OID, str(each)) for each in range(count)]


def fill(collection: Collection, count: int, **more: Any) -> list[uuid.UUID]:
    keys = ids(count)
    objects = [
        DataObject(properties={"title": f"number {n}"}, uuid=key, vector=[float(n), 1.0, 0.5], **more)
        for n, key in enumerate(keys)
    ]
    assert not collection.data.insert_many(objects).has_errors
    return keys


class Wire:
    """Raw requests to a server about one class, which is dropped in the end.

    Args:
        server: where to.
    """

    def __init__(self, server: Address) -> None:
        self.name = f"VectormigrateStandIn{uuid.uuid4().hex[:8]}"
        self._server = server
        self._headers = {"authorization": f"Bearer {server.api_key}"} if server.api_key else {}
        self._channel = grpc.insecure_channel(urlsplit(server.grpc_url).netloc)
        self.stub = weaviate_pb2_grpc.WeaviateStub(self._channel)

    def rest(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        content = None if body is None else body if isinstance(body, str) else json.dumps(body)
        head = {"content-type": "application/json", **self._headers, **headers}
        return httpx.request(method, f"{self._server.url}/v1{path}", content=content, headers=head)

    def declare(self, **kinds: str) -> None:
        """Create the class with properties of these types."""
        properties = [{"name": name, "dataType": [kind]} for name, kind in kinds.items()]
        assert self.rest("POST", "/schema", {"class": self.name, "properties": properties}).status_code == 200

    def put(self, key: object, properties: dict[str, Any], **more: Any) -> list[str]:
        """Store an object in a batch of its own; why it was refused."""
        given = Struct()
        given.update(properties)
        content = batch_pb2.BatchObject.Properties(non_ref_properties=given)
        new = batch_pb2.BatchObject(**{"collection": self.name, "uuid": str(key), "properties": content, **more})
        request = batch_pb2.BatchObjectsRequest(objects=[new])
        return [each.error for each in self.stub.BatchObjects(request, metadata=self._metadata()).errors]

    def search(self, **more: Any) -> search_get_pb2.SearchReply:
        request = search_get_pb2.SearchRequest(collection=self.name, uses_127_api=True, **more)
        return self.stub.Search(request, metadata=self._metadata())

    def stored(self, key: object) -> Any:
        """The properties of an object, over REST."""
        return self.rest("GET", f"/objects/{self.name}/{key}").json()["properties"]

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return tuple(self._headers.items())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.rest("DELETE", f"/schema/{self.name}")
        self._channel.close()
