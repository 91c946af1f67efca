"""A channel to the data methods of a Milvus server, for messages that the client would take apart into rows."""

from __future__ import annotations

import base64
import socket
from typing import Any
from urllib.parse import urlsplit

from vectormigrate_dagster.databases.endpoint import DEFAULT_PORTS, Endpoint, MilvusOptions
from vectormigrate_dagster.databases.milvus.messages import Reply, reply_of
from vectormigrate_dagster.errors import ConfigurationError

_DEFAULT_PORTS = DEFAULT_PORTS["milvus"]
_CUSTOMIZED = 4
"""Consistency level: the given timestamp is the one to wait for, 0 is the newest that there is."""

_STRONG = 0


class Wire:
    """A channel to the data methods of a server; safe to use from several threads.

    Calls raise what the client raises: `grpc.RpcError` and `MilvusException`. None is repeated.
    """

    def __init__(self, endpoint: Endpoint, options: MilvusOptions) -> None:
        from pymilvus.grpc_gen import milvus_pb2, milvus_pb2_grpc

        self._timeout = options.timeout_s
        self._channel = _channel(endpoint.url or "", options)
        self._stub = milvus_pb2_grpc.MilvusServiceStub(self._channel)
        service = "/milvus.proto.milvus.MilvusService"
        # Records are read out of octets, and written as such.
        self._query = self._channel.unary_unary(
            f"{service}/Query", request_serializer=milvus_pb2.QueryRequest.SerializeToString
        )
        self._upsert = self._channel.unary_unary(
            f"{service}/Upsert", response_deserializer=milvus_pb2.MutationResult.FromString
        )
        self._metadata = [("dbname", options.database)]
        if endpoint.api_key is not None:
            token = base64.b64encode(endpoint.api_key.get_secret_value().encode()).decode()
            self._metadata.append(("authorization", token))

    def version(self, timeout: float) -> str:
        """The server's version, such as "v2.3.5"; the first call to a server, which shows whether it is there."""
        from pymilvus.grpc_gen import common_pb2, milvus_pb2

        hello = milvus_pb2.ConnectRequest(
            client_info=common_pb2.ClientInfo(sdk_type="Python", host=socket.gethostname())
        )
        try:
            reply = self._call(self._stub.Connect, hello, timeout)
        except Exception as error:
            if not _unknown_method(error):
                raise
            return str(self._call(self._stub.GetVersion, milvus_pb2.GetVersionRequest(), timeout).version)
        return str(reply.server_info.build_tags)

    def now(self) -> int | None:
        """The server's own clock: a read that waits for it sees everything written before; None if it has none."""
        from pymilvus.grpc_gen import milvus_pb2

        try:
            return int(self._call(self._stub.AllocTimestamp, milvus_pb2.AllocTimestampRequest()).timestamp) or None
        except Exception as error:
            if not _unknown_method(error):
                raise
            return None

    def query(
        self,
        collection: str,
        filter: str,
        *,
        fields: list[str],
        partition: str | None,
        guarantee: int | None = None,
        **params: Any,
    ) -> Reply:
        """Read.

        Args:
            collection: its name.
            filter: a boolean expression.
            fields: names of fields; "*" is all.
            partition: its name; None is all.
            guarantee: what the server wrote up to this time of its clock is seen; None is all up to now.
            params: `limit`, `offset` and such.
        """
        from pymilvus.client.utils import check_status
        from pymilvus.grpc_gen import common_pb2, milvus_pb2

        request = milvus_pb2.QueryRequest(
            collection_name=collection,
            expr=filter,
            output_fields=fields,
            partition_names=[] if partition is None else [partition],
            guarantee_timestamp=guarantee or 0,
            consistency_level=_STRONG if guarantee is None else _CUSTOMIZED,
            query_params=[common_pb2.KeyValuePair(key=key, value=str(value)) for key, value in params.items()],
        )
        reply = reply_of(self._query(request, timeout=self._timeout, metadata=self._metadata))
        check_status(reply.message.status)
        return reply

    def index_failure(self, collection: str, index: str) -> str:
        """Why the server has given up building an index, which the client does not pass on."""
        from pymilvus.grpc_gen import milvus_pb2

        request = milvus_pb2.DescribeIndexRequest(collection_name=collection, index_name=index)
        described = self._call(self._stub.DescribeIndex, request).index_descriptions
        return "; ".join(one.index_state_fail_reason for one in described)

    def upsert(self, request: bytes) -> None:
        """Carry out an `UpsertRequest`, given in octets."""
        self._call(self._upsert, request)

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def _call(self, method: Any, request: Any, timeout: float | None = None) -> Any:
        from pymilvus.client.utils import check_status

        reply = method(request, timeout=timeout or self._timeout, metadata=self._metadata)
        check_status(reply.status)
        return reply


def tls_settings(endpoint: Endpoint, options: MilvusOptions) -> dict[str, Any]:
    """The same for the official client."""
    files = {"client_pem_path": options.client_certificate_file, "client_key_path": options.client_key_file}
    # The client looks at `ca_pem_path` only where it has a certificate of its own to show.
    files["ca_pem_path" if all(files.values()) else "server_pem_path"] = options.ca_file
    settings = {name: str(path) for name, path in files.items() if path is not None}
    if options.server_name is not None:
        settings["server_name"] = options.server_name
    return settings | {"secure": urlsplit(endpoint.url or "").scheme == "https"}


def grpc_target(url: str) -> str:
    """Host and port of a server's address as gRPC wants them; an IPv6 address keeps its brackets.

    https://grpc.github.io/grpc/core/md_doc_naming.html

    Raises:
        ConfigurationError: it is no address of a server.
    """
    parts = urlsplit(url)
    if parts.hostname is None or parts.scheme not in _DEFAULT_PORTS:
        raise ConfigurationError(f"'{url}' is no address of a Milvus server; it looks like http://host:19530")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{parts.port or _DEFAULT_PORTS[parts.scheme]}"


def _channel(url: str, options: MilvusOptions) -> Any:
    import grpc

    target = grpc_target(url)
    settings = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    # A server that is back should be noticed at once: the wait doubles up to two minutes otherwise.
    settings += [("grpc.max_reconnect_backoff_ms", 1000), ("grpc.enable_retries", 0)]
    # A machine that vanished without a word is noticed within this time, whatever the call's own limit.
    settings += [("grpc.keepalive_time_ms", 10_000), ("grpc.keepalive_timeout_ms", 5_000)]
    if urlsplit(url).scheme == "http":
        return grpc.insecure_channel(target, options=settings)
    if options.server_name is not None:
        settings.append(("grpc.ssl_target_name_override", options.server_name))  # type: ignore[arg-type]
    root, key, chain = (
        None if path is None else path.read_bytes()
        for path in (options.ca_file, options.client_key_file, options.client_certificate_file)
    )
    credentials = grpc.ssl_channel_credentials(root_certificates=root, private_key=key, certificate_chain=chain)
    return grpc.secure_channel(target, credentials, options=settings)


def _unknown_method(error: Exception) -> bool:
    import grpc

    return isinstance(error, grpc.RpcError) and error.code() is grpc.StatusCode.UNIMPLEMENTED
