"""Servers that cost nothing: they answer reads with pages encoded before, and acknowledge writes without a look.

    python -m benchmarks.at_once qdrant --records 20000 --dim 768

A child process of `benchmarks.client`, whose own CPU time then has nothing of a server's in it. Prints the addresses as
one line of JSON and ends when its standard input does. A page is encoded when it is asked for first and kept, so the
first pass over the records is slow and is not to be measured.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import grpc
import numpy as np

WORDS = ("alpha", "beta", "gamma", "delta", "epsilon")
COLLECTION = "things"
Answer = Callable[[bytes], bytes]


def payload(number: int) -> dict[str, Any]:
    """A text, an integer, a float, a truth value and a list of texts."""
    return {
        "title": f"The {number}th thing, which is of {WORDS[number % 5]} make",
        "count": number * 7919 % 1_000_003,
        "price": number / 7,
        "sold": number % 3 == 0,
        "tags": [WORDS[number % 5], WORDS[number % 4], f"tag-{number % 1000}"],
    }


class Records:
    """The records: numbers from 0 are their ids."""

    def __init__(self, count: int, dim: int) -> None:
        self.count = count
        self.vectors = np.random.default_rng(0).standard_normal((count, dim), dtype=np.float32)


class _AtOnce(grpc.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Answers some methods with bytes, and leaves the others to whoever they belong to."""

    def __init__(self, answers: Mapping[str, Answer]) -> None:
        self._handlers = {
            method: grpc.unary_unary_rpc_method_handler(lambda request, _, answer=answer: answer(request))
            for method, answer in answers.items()
        }

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        """Return the handler of a call."""
        return self._handlers.get(details.method) or continuation(details)


def serve(answers: Mapping[str, Answer]) -> tuple[Any, int]:
    """A gRPC server, which is not started yet, and its port."""
    unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    server = grpc.server(ThreadPoolExecutor(8), interceptors=[_AtOnce(answers)], options=unlimited)
    return server, server.add_insecure_port("127.0.0.1:0")


########################################################################
# Qdrant: the stand-in, but for reads and writes of points
########################################################################


def qdrant(records: Records) -> tuple[Any, dict[str, str]]:
    """Start a Qdrant; return its gRPC server, which lives as long as somebody holds it, and its addresses."""
    from qdrant_client import grpc as pb  # noqa: PLC0415  # only this one is needed

    from vectormigrate_dagster_tests.emulators.qdrant.grpc_face import add_services  # noqa: PLC0415
    from vectormigrate_dagster_tests.emulators.qdrant.rest import Server  # noqa: PLC0415
    from vectormigrate_dagster_tests.emulators.qdrant.service import Service, Settings  # noqa: PLC0415

    page = cache(lambda start, limit: qdrant_page(records, start, limit))

    def scroll(request: bytes) -> bytes:
        asked = pb.ScrollPoints.FromString(request)
        return page(asked.offset.num, asked.limit)

    done = pb.PointsOperationResponse(result=pb.UpdateResult(status=pb.UpdateStatus.Completed)).SerializeToString()
    server, port = serve({"/qdrant.Points/Scroll": scroll, "/qdrant.Points/Upsert": lambda _: done})
    service = Service(Settings())
    add_services(server, service)
    server.start()
    rest = Server(service, 0)
    threading.Thread(target=rest.serve_forever, daemon=True).start()
    return server, {"url": f"http://127.0.0.1:{rest.server_port}", "grpc_url": f"http://127.0.0.1:{port}"}


def qdrant_page(records: Records, start: int, limit: int) -> bytes:
    """A `ScrollResponse`."""
    from qdrant_client import grpc as pb  # noqa: PLC0415
    from qdrant_client.conversions.conversion import RestToGrpc  # noqa: PLC0415

    page = pb.ScrollResponse()
    stop = min(start + limit, records.count)
    for number in range(start, stop):
        point = page.result.add(id=pb.PointId(num=number), payload=RestToGrpc.convert_payload(payload(number)))
        vector = point.vectors.vectors.vectors["embedding"]
        vector.dense.data.extend(records.vectors[number].tolist())
    if stop < records.count:
        page.next_page_offset.num = stop
    return page.SerializeToString()


########################################################################
# Milvus: what our module asks of a server, and no more
########################################################################


def milvus(records: Records, *, columns: bool) -> tuple[Any, dict[str, str]]:
    """Start a Milvus whose payload fields are columns, or keys of the dynamic field; return as `qdrant` does."""
    from pymilvus.grpc_gen import common_pb2, milvus_pb2, milvus_pb2_grpc  # noqa: PLC0415

    fine = common_pb2.Status()
    page = cache(lambda start, limit: milvus_page(records, start, limit, columns=columns))

    def query(request: bytes) -> bytes:
        asked = milvus_pb2.QueryRequest.FromString(request)
        after = re.fullmatch(r"id > (\d+)", asked.expr)
        limit = next(int(pair.value) for pair in asked.query_params if pair.key == "limit")
        return page(int(after.group(1)) + 1 if after else 0, limit)

    done = milvus_pb2.MutationResult(status=fine).SerializeToString()
    base = "/milvus.proto.milvus.MilvusService"
    server, port = serve({f"{base}/Query": query, f"{base}/Upsert": lambda _: done})

    class Control(milvus_pb2_grpc.MilvusServiceServicer):  # type: ignore[misc]
        """What is asked beside records. The names are the protocol's."""

        def Connect(self, *_: Any) -> Any:  # noqa: N802
            info = common_pb2.ServerInfo(build_tags="v2.5.4")
            return milvus_pb2.ConnectResponse(status=fine, server_info=info)

        def DescribeCollection(self, *_: Any) -> Any:  # noqa: N802
            schema = milvus_schema(records, columns=columns)
            return milvus_pb2.DescribeCollectionResponse(status=fine, schema=schema, collection_name=COLLECTION)

        def DescribeIndex(self, *_: Any) -> Any:  # noqa: N802
            params = [
                common_pb2.KeyValuePair(key=k, value=v) for k, v in (("index_type", "FLAT"), ("metric_type", "L2"))
            ]
            index = milvus_pb2.IndexDescription(index_name="embedding", field_name="embedding", params=params)
            return milvus_pb2.DescribeIndexResponse(status=fine, index_descriptions=[index])

        def ShowPartitions(self, *_: Any) -> Any:  # noqa: N802
            return milvus_pb2.ShowPartitionsResponse(status=fine, partition_names=["_default"])

        def GetLoadState(self, *_: Any) -> Any:  # noqa: N802
            return milvus_pb2.GetLoadStateResponse(status=fine, state=common_pb2.LoadStateLoaded)

    milvus_pb2_grpc.add_MilvusServiceServicer_to_server(Control(), server)
    server.start()
    return server, {"url": f"http://127.0.0.1:{port}"}


def milvus_schema(records: Records, *, columns: bool) -> Any:
    """A `CollectionSchema` message."""
    from pymilvus import DataType  # noqa: PLC0415
    from pymilvus.grpc_gen import common_pb2, schema_pb2  # noqa: PLC0415

    def field(name: str, type: DataType, **params: Any) -> Any:
        pairs = [
            common_pb2.KeyValuePair(key=key, value=str(value)) for key, value in params.items() if key != "element"
        ]
        element = params.get("element", DataType.NONE)
        return schema_pb2.FieldSchema(name=name, data_type=type, type_params=pairs, element_type=element)

    fields = [field("id", DataType.INT64), field("embedding", DataType.FLOAT_VECTOR, dim=records.vectors.shape[1])]
    fields[0].is_primary_key = True
    if columns:
        fields += [
            field("title", DataType.VARCHAR, max_length=200),
            field("count", DataType.INT64),
            field("price", DataType.DOUBLE),
            field("sold", DataType.BOOL),
            field("tags", DataType.ARRAY, max_capacity=10, max_length=50, element=DataType.VARCHAR),
        ]
    return schema_pb2.CollectionSchema(name=COLLECTION, fields=fields, enable_dynamic_field=not columns)


def milvus_page(records: Records, start: int, limit: int, *, columns: bool) -> bytes:
    """A `QueryResults`."""
    from pymilvus import DataType  # noqa: PLC0415
    from pymilvus.grpc_gen import milvus_pb2  # noqa: PLC0415

    stop = min(start + limit, records.count)
    numbers = range(start, stop)
    reply = milvus_pb2.QueryResults(collection_name=COLLECTION)
    if start == stop:
        return reply.SerializeToString()
    ids = reply.fields_data.add(field_name="id", type=DataType.INT64)
    ids.scalars.long_data.data.extend(numbers)
    vectors = reply.fields_data.add(field_name="embedding", type=DataType.FLOAT_VECTOR)
    vectors.vectors.dim = records.vectors.shape[1]
    vectors.vectors.float_vector.data.extend(records.vectors[start:stop].ravel().tolist())
    payloads = [payload(number) for number in numbers]
    if not columns:
        meta = reply.fields_data.add(field_name="$meta", type=DataType.JSON, is_dynamic=True)
        meta.scalars.json_data.data.extend(json.dumps(each, separators=(",", ":")).encode() for each in payloads)
        return reply.SerializeToString()
    for name, data_type, kind in (
        ("title", DataType.VARCHAR, "string_data"),
        ("count", DataType.INT64, "long_data"),
        ("price", DataType.DOUBLE, "double_data"),
        ("sold", DataType.BOOL, "bool_data"),
    ):
        column = reply.fields_data.add(field_name=name, type=data_type)
        getattr(column.scalars, kind).data.extend(each[name] for each in payloads)
    tags = reply.fields_data.add(field_name="tags", type=DataType.ARRAY)
    tags.scalars.array_data.element_type = DataType.VARCHAR
    for each in payloads:
        tags.scalars.array_data.data.add().string_data.data.extend(each["tags"])
    return reply.SerializeToString()


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("qdrant", "milvus-columns", "milvus-dynamic"))
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=768)
    asked = parser.parse_args()
    records = Records(asked.records, asked.dim)
    started = qdrant(records) if asked.kind == "qdrant" else milvus(records, columns=asked.kind == "milvus-columns")
    server, addresses = started
    sys.stdout.write(json.dumps(addresses) + "\n")
    sys.stdout.flush()
    sys.stdin.read()
    server.stop(grace=None)


if __name__ == "__main__":
    main()
