"""A gRPC channel to the data methods of a Pinecone index, for messages that the client would make lists of floats of.

The service is that of https://github.com/pinecone-io/pinecone-api (2026-07/db_data_2026-07.proto). It is served at the
address of the index itself; the official client speaks it too, but takes and gives Python objects only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from vectormigrate_dagster.databases.channels import bracketed, opened
from vectormigrate_dagster.databases.endpoint import DEFAULT_PORTS, PineconeOptions

_ABSENT = frozenset({"UNAVAILABLE", "UNIMPLEMENTED", "DEADLINE_EXCEEDED", "INTERNAL", "UNKNOWN", "CANCELLED"})
"""Statuses by which nobody serves gRPC there, or something in between does not let it pass."""

_FIRST_CALL_S = 10.0


class Wire:
    """A channel to one index; safe to use from several threads.

    Calls raise `grpc.RpcError`. None is repeated.

    Args:
        host: address of the index. A path in it stands before the names of methods.
        key: of the project.
    """

    def __init__(self, host: str, key: str, options: PineconeOptions) -> None:
        from pinecone._internal.constants import DATA_PLANE_API_VERSION

        self.target, secure = grpc_target(host, options.grpc_url)
        self._channel = opened(self.target, secure=secure, ca_file=options.ca_file)
        self._service = f"{_split(host).path.rstrip('/')}/VectorService"
        self._metadata = (("api-key", key), ("x-pinecone-api-version", DATA_PLANE_API_VERSION))
        self._timeout = options.timeout_s

    def call(self, method: str, request: bytes) -> tuple[bytes, Mapping[str, str]]:
        """Call a method such as "Fetch", octets in and octets out; returns also what the answer says of itself."""
        remote = self._channel.unary_unary(f"{self._service}/{method}")
        answer, call = remote.with_call(request, timeout=self._timeout, metadata=self._metadata)
        return answer, dict((*call.initial_metadata(), *call.trailing_metadata()))

    def unreachable(self) -> str | None:
        """Why nothing can be asked here; None if somebody answers, whatever he says."""
        import grpc

        remote = self._channel.unary_unary(f"{self._service}/DescribeIndexStats")
        try:
            remote(b"", timeout=min(self._timeout, _FIRST_CALL_S), metadata=self._metadata)
        except grpc.RpcError as error:
            code = error.code().name
            return f"{code}: {error.details()}" if code in _ABSENT else None
        return None

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()


def speaks_grpc(host: str, options: PineconeOptions) -> bool:
    """Whether there may be somebody to speak gRPC with: an index is behind TLS, unless an address was given for it."""
    return options.prefer_grpc and (options.grpc_url is not None or _split(host).scheme == "https")


def grpc_target(host: str, grpc_url: str | None) -> tuple[str, bool]:
    """Host and port of the gRPC interface, and whether it is reached through TLS."""
    url = _split(grpc_url or host)
    port = url.port or DEFAULT_PORTS["pinecone"][url.scheme]
    return f"{bracketed(url.hostname)}:{port}", url.scheme == "https"


def _split(address: str) -> Any:
    """The parts of an address; the control plane names hosts without a scheme."""
    return urlsplit(address if "://" in address else f"https://{address}")
