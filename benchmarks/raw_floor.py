"""What servers take by themselves: frames are read and thrown away, frames that were encoded before are written.

    python -m benchmarks.raw_floor milvus SOURCE_URL COLLECTION TARGET_URL COLLECTION RECORDS
    python -m benchmarks.raw_floor qdrant SOURCE_URL,GRPC_PORT COLLECTION TARGET_URL,GRPC_PORT COLLECTION RECORDS

and so for weaviate and pinecone, whose ids are those of `stand_ins.id_of`.

Requests are made before the clock runs, and replies stay the bytes that they came as; a few calls are in flight. Source
ids are 1 to RECORDS, or pages were walked through once before, so no reply has to be looked at while the clock runs. No
client can move records faster than the slower of the two numbers, and none that uses all cores together with its
servers faster than their sum. Prints the seconds of reading and of writing.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import grpc
from pydantic import SecretStr

from benchmarks.stand_ins import id_of
from vectormigrate_dagster import databases
from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.databases.endpoint import OPTIONS
from vectormigrate_dagster.model import Batch, CollectionSchema, IdKind, Split

PAGE_BYTES = 8 * 2**20
READS = 2
WRITES = 4
WRITTEN = 2500
"""Records of a frame that is written."""

Frames = Sequence[bytes]
Call = Callable[[bytes], bytes]


def milvus(source: tuple[str, str], target: tuple[str, str], records: int) -> tuple[float, float]:
    """Seconds of `Query` and of `Upsert`; a reply holds the columns that a request takes."""
    from pymilvus.grpc_gen import common_pb2, milvus_pb2  # noqa: PLC0415  # only who is asked for is there

    service = "/milvus.proto.milvus.MilvusService"
    query, upsert = called(source[0], f"{service}/Query"), called(target[0], f"{service}/Upsert")

    def asking(expression: str, **params: Any) -> bytes:
        request = milvus_pb2.QueryRequest(
            collection_name=source[1],
            expr=expression,
            output_fields=["*"],
            query_params=[common_pb2.KeyValuePair(key=key, value=str(value)) for key, value in params.items()],
            use_default_consistency=False,
            consistency_level=common_pb2.Strong,
        )
        return bytes(request.SerializeToString())

    def pages() -> Iterator[bytes]:
        """In the fastest order: each segment gives up to a limit, so that only a reply tells where the next begins."""
        after, size = 0, fitting(len(query(asking("id <= 100"))) / 100) // 2
        while after < records:
            request = asking(f"id > {after}", limit=size, iterator="True", reduce_stop_for_best="True")
            yield request
            (ids,) = (f for f in milvus_pb2.QueryResults.FromString(query(request)).fields_data if f.field_name == "id")
            after = max(ids.scalars.long_data.data)

    def frames() -> Iterator[bytes]:
        for after in range(0, records, WRITTEN):
            reply = milvus_pb2.QueryResults.FromString(query(asking(f"id > {after} and id <= {after + WRITTEN}")))
            rows = min(WRITTEN, records - after)
            request = milvus_pb2.UpsertRequest(collection_name=target[1], fields_data=reply.fields_data, num_rows=rows)
            yield bytes(request.SerializeToString())

    made, asked = list(frames()), list(pages())
    return sent(query, asked, READS), sent(upsert, made, WRITES)


def qdrant(source: tuple[str, str], target: tuple[str, str], records: int) -> tuple[float, float]:
    """Seconds of `Scroll` and of `Upsert`."""
    from qdrant_client import grpc as messages  # noqa: PLC0415  # only who is asked for is there

    scroll, upsert = called(source[0], "/qdrant.Points/Scroll"), called(target[0], "/qdrant.Points/Upsert")

    def page(after: int, size: int) -> bytes:
        request = messages.ScrollPoints(
            collection_name=source[1],
            offset=messages.PointId(num=after + 1),
            limit=size,
            with_payload=messages.WithPayloadSelector(enable=True),
            with_vectors=messages.WithVectorsSelector(enable=True),
        )
        return bytes(request.SerializeToString())

    def frame(after: int) -> bytes:
        request = messages.UpsertPoints(collection_name=target[1], wait=True)
        for point in messages.ScrollResponse.FromString(scroll(page(after, WRITTEN))).result:
            made = request.points.add(id=point.id, payload=dict(point.payload))
            for name, vector in point.vectors.vectors.vectors.items():
                made.vectors.vectors.vectors[name].dense.data.extend(vector.dense.data or vector.data)
        return bytes(request.SerializeToString())

    size = fitting(len(scroll(page(0, 100))) / 100)
    frames = [frame(after) for after in range(0, records, WRITTEN)]
    pages = [page(after, size) for after in range(0, records, size)]
    return sent(scroll, pages, READS), sent(upsert, frames, WRITES)


def weaviate(source: tuple[str, str], target: tuple[str, str], records: int) -> tuple[float, float]:
    """Seconds of `Search` and of `BatchObjects`; frames that are written are made by our own code."""
    from weaviate.proto.v1 import search_get_pb2  # noqa: PLC0415  # only who is asked for is there

    from vectormigrate_dagster.databases.weaviate.object_writing import objects_of, request_of  # noqa: PLC0415

    search, put = (
        called(end[0], f"/weaviate.v1.Weaviate/{method}")
        for end, method in ((source, "Search"), (target, "BatchObjects"))
    )
    schema, batches = _read("weaviate", source)

    def page(after: int, size: int) -> bytes:
        request = search_get_pb2.SearchRequest(
            collection=source[1],
            after=str(id_of(IdKind.UUID, after)),
            limit=size,
            metadata=search_get_pb2.MetadataRequest(uuid=True, vectors=[vector.name for vector in schema.vectors]),
            properties=search_get_pb2.PropertiesRequest(non_ref_properties=[field.name for field in schema.fields]),
            uses_127_api=True,
        )
        return bytes(request.SerializeToString())

    size = fitting(len(search(page(0, 100))) / 100)
    pages = [page(after, size) for after in range(0, records, size)]
    frames = [request_of(objects_of(batch, schema, target[1]), 0) for batch in batches]
    return sent(search, pages, READS), sent(put, frames, WRITES)


def pinecone(source: tuple[str, str], target: tuple[str, str], records: int) -> tuple[float, float]:
    """Seconds of `Fetch`, without the lists that name the ids, and of `Upsert`; made by our own code."""
    from vectormigrate_dagster.databases.pinecone.grpc_vectors import GrpcVectorsApi  # noqa: PLC0415
    from vectormigrate_dagster.databases.pinecone.requests import outgoing, requests  # noqa: PLC0415
    from vectormigrate_dagster.databases.pinecone.vector_reading import declared  # noqa: PLC0415
    from vectormigrate_dagster.databases.pinecone.vector_writing import request_of  # noqa: PLC0415

    key = (("api-key", os.environ["PINECONE_API_KEY"]), ("x-pinecone-api-version", "2026-07"))
    fetch, upsert = (
        partial(called(end[0], f"/data/{end[1]}/VectorService/{method}"), metadata=key)
        for end, method in ((source, "Fetch"), (target, "Upsert"))
    )
    schema, batches = _read("pinecone", source)
    api = GrpcVectorsApi(None, schema.vectors, None)  # type: ignore[arg-type]  # nothing is sent by it
    pages = [
        bytes(declared()["FetchRequest"](ids=ids).SerializeToString())
        for ids in api.requests([id_of(IdKind.TEXT, number) for number in range(1, records + 1)])
    ]
    frames = [
        request_of([one.record for one in piece], "")
        for batch in batches
        for piece in requests(outgoing(batch, api)[0])
    ]
    return sent(fetch, pages, READS), sent(upsert, frames, WRITES)


def _read(type: str, source: tuple[str, str]) -> tuple[CollectionSchema, list[Batch]]:
    """The schema and all records of a source."""
    url, _, port = source[0].partition(",")
    options = OPTIONS[type].model_validate({"grpc_url": f"http://{urlsplit(url).hostname}:{port}"})
    key = SecretStr(os.environ["PINECONE_API_KEY"]) if type == "pinecone" else None
    with databases.open_source(
        Endpoint(type=type, url=url, api_key=key, collection=source[1], options=options)
    ) as database:
        schema = database.describe()
        return schema, list(database.scan(Split(kind=schema.ids.kinds[0]), batch_records=WRITTEN))


def called(address: str, method: str) -> Call:
    """A method of a server that takes and gives bytes; `address` is `URL` or `URL,GRPC_PORT`."""
    url, _, port = address.partition(",")
    parts = urlsplit(url)
    unlimited = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    channel = grpc.insecure_channel(f"{parts.hostname}:{port or parts.port}", options=unlimited)
    call: Call = channel.unary_unary(method)
    return call


def fitting(record_bytes: float) -> int:
    """Records of a page."""
    return max(1, int(PAGE_BYTES / record_bytes))


def sent(call: Call, frames: Frames, at_once: int) -> float:
    """Seconds of all calls, a few at once."""
    began = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        sizes = [len(reply) for reply in pool.map(call, frames)]
    if not all(sizes):
        raise SystemExit("a server gave an empty reply")
    return time.perf_counter() - began


def main() -> None:
    """Read, write and print seconds."""
    name, source, read, target, written, records = sys.argv[1:]
    floors: dict[str, Any] = {"milvus": milvus, "qdrant": qdrant, "weaviate": weaviate, "pinecone": pinecone}
    reading, writing = floors[name]((source, read), (target, written), int(records))
    sys.stdout.write(f"{reading} {writing}\n")


if __name__ == "__main__":
    main()
