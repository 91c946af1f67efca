"""The loops that one would write with the official clients, as a script: what `benchmarks.transfer` compares us with.

    python -m benchmarks.plain_loops milvus SOURCE_URL SOURCE_COLLECTION TARGET_URL TARGET_COLLECTION

They read a page, write it, and read the next: no retry, no check, no way to go on after an error. The target must be
there. Keys come from MILVUS_TOKEN, QDRANT_API_KEY and PINECONE_API_KEY. Prints records, and seconds from first read to
last write.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any
from urllib.parse import urlsplit

PAGE = 1000


def milvus(source_url: str, source: str, target_url: str, target: str) -> tuple[int, float]:
    """Read by `query_iterator`, write by `upsert`."""
    from pymilvus import MilvusClient  # noqa: PLC0415  # its start counts, and only its own

    token = os.environ.get("MILVUS_TOKEN", "")
    reader, writer = MilvusClient(source_url, token=token), MilvusClient(target_url, token=token)
    moved, began = 0, time.perf_counter()
    pages = reader.query_iterator(source, batch_size=PAGE, output_fields=["*"])
    while rows := pages.next():
        writer.upsert(target, rows)
        moved += len(rows)
    pages.close()
    return moved, time.perf_counter() - began


def qdrant(source_url: str, source: str, target_url: str, target: str) -> tuple[int, float]:
    """Read by `scroll`, write by `upsert`; over gRPC if the addresses are `URL,GRPC_PORT`."""
    from qdrant_client import models  # noqa: PLC0415  # its start counts, and only its own

    reader, writer = qdrant_client_of(source_url), qdrant_client_of(target_url)
    moved, offset, began = 0, None, time.perf_counter()
    while True:
        records, offset = reader.scroll(source, limit=PAGE, offset=offset, with_payload=True, with_vectors=True)
        points = [
            models.PointStruct(id=record.id, vector=record.vector or {}, payload=record.payload) for record in records
        ]
        if points:
            writer.upsert(target, points, wait=True)
        moved += len(points)
        if offset is None:
            return moved, time.perf_counter() - began


def qdrant_migrate(source_url: str, source: str, target_url: str, target: str) -> tuple[int, float]:
    """The client's own `migrate`, which makes the target, under the same name and so on another server."""
    if source != target:
        raise SystemExit("qdrant_client.migrate cannot rename a collection; name it alike on both servers")
    reader, writer = qdrant_client_of(source_url), qdrant_client_of(target_url)
    began = time.perf_counter()
    reader.migrate(writer, [source], batch_size=PAGE)
    return writer.count(target, exact=True).count, time.perf_counter() - began


def weaviate(source_url: str, source: str, target_url: str, target: str) -> tuple[int, float]:
    """Read by `iterator`, write by the client's own batches, as Weaviate's guide to migrations does."""
    with weaviate_client_of(source_url) as reader, weaviate_client_of(target_url) as writer:
        collection = writer.collections.use(target)
        moved, began = 0, time.perf_counter()
        with collection.batch.fixed_size(batch_size=PAGE, concurrent_requests=2) as batch:
            for one in reader.collections.use(source).iterator(include_vector=True, cache_size=PAGE):
                batch.add_object(properties=one.properties, uuid=one.uuid, vector=one.vector)
                moved += 1
        if collection.batch.failed_objects:
            raise SystemExit(str(collection.batch.failed_objects[0]))
        return moved, time.perf_counter() - began


def pinecone(source_url: str, source: str, target_url: str, target: str) -> tuple[int, float]:
    """List, fetch and `upsert`, over REST, a list's page at a time: the client has nothing larger."""
    from pinecone import Pinecone  # noqa: PLC0415  # its start counts, and only its own

    urls = (address.partition(",")[0] for address in (source_url, target_url))
    reader, writer = (
        client.index(name) for client, name in zip((Pinecone(host=url) for url in urls), (source, target), strict=True)
    )
    moved, began = 0, time.perf_counter()
    for page in reader.list():
        found = reader.fetch(ids=[item.id for item in page.vectors]).vectors
        writer.upsert(vectors=list(found.values()))
        moved += len(found)
    return moved, time.perf_counter() - began


def weaviate_client_of(address: str) -> Any:
    """The official client of `URL,GRPC_PORT`."""
    import weaviate  # noqa: PLC0415  # its start counts, and only its own

    url, _, port = address.partition(",")
    parts = urlsplit(url)
    return weaviate.connect_to_custom(
        http_host=str(parts.hostname),
        http_port=parts.port or 80,
        http_secure=False,
        grpc_host=str(parts.hostname),
        grpc_port=int(port),
        grpc_secure=False,
    )


def qdrant_client_of(address: str) -> Any:
    """The official client of `URL`, or over gRPC of `URL,GRPC_PORT`."""
    from qdrant_client import QdrantClient  # noqa: PLC0415  # its start counts, and only its own

    url, _, port = address.partition(",")
    key = os.environ.get("QDRANT_API_KEY")
    return QdrantClient(url=url, grpc_port=int(port or 6334), prefer_grpc=bool(port), api_key=key, timeout=60)


LOOPS = {
    "milvus": milvus,
    "qdrant": qdrant,
    "qdrant_client.migrate": qdrant_migrate,
    "weaviate": weaviate,
    "pinecone": pinecone,
}


def main() -> None:
    """Run one loop and print what it did."""
    name, *addresses = sys.argv[1:]
    moved, seconds = LOOPS[name](*addresses)
    sys.stdout.write(f"{moved} {seconds}\n")


if __name__ == "__main__":
    main()
