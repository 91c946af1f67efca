"""What servers take by themselves: frames are read and thrown away, frames that were encoded before are written.

    python -m benchmarks.raw_floor milvus SOURCE_URL COLLECTION TARGET_URL COLLECTION RECORDS
    python -m benchmarks.raw_floor qdrant SOURCE_URL,GRPC_PORT COLLECTION TARGET_URL,GRPC_PORT COLLECTION RECORDS

Requests are made before the clock runs, and replies stay the bytes that they came as; a few calls are in flight. Source
ids are 1 to RECORDS, so no reply has to be looked at to ask for the next page. No client can move records faster than
the slower of the two numbers, and none that uses all cores together with its servers faster than their sum. Prints the
seconds of reading and of writing, and the CPU seconds of both in this process.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import grpc

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

    def page(after: int, size: int) -> bytes:
        params = {"limit": size, "iterator": "True", "reduce_stop_for_best": "True"}
        request = milvus_pb2.QueryRequest(
            collection_name=source[1],
            expr=f"id > {after}",
            output_fields=["*"],
            query_params=[common_pb2.KeyValuePair(key=key, value=str(value)) for key, value in params.items()],
        )
        return bytes(request.SerializeToString())

    def frame(after: int) -> bytes:
        reply = milvus_pb2.QueryResults.FromString(query(page(after, WRITTEN)))
        rows = min(WRITTEN, records - after)
        request = milvus_pb2.UpsertRequest(collection_name=target[1], fields_data=reply.fields_data, num_rows=rows)
        return bytes(request.SerializeToString())

    size = fitting(len(query(page(0, 100))) / 100)
    frames = [frame(after) for after in range(0, records, WRITTEN)]
    pages = [page(after, size) for after in range(0, records, size)]
    return sent(query, pages, READS), sent(upsert, frames, WRITES)


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
    floors: dict[str, Any] = {"milvus": milvus, "qdrant": qdrant}
    reading, writing = floors[name]((source, read), (target, written), int(records))
    sys.stdout.write(f"{reading} {writing}\n")


if __name__ == "__main__":
    main()
