"""The two channels to a Weaviate server: REST for schemas, gRPC for records.

Records travel in the messages that come with the official client. Its objects are not used: they make a list of floats
of every vector, and a `datetime`, which has no nanoseconds, of every date.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from vectormigrate_dagster.databases.channels import bracketed, certificate, opened
from vectormigrate_dagster.databases.endpoint import DEFAULT_PORTS, Endpoint, WeaviateOptions
from vectormigrate_dagster.errors import ConfigurationError

_GRPC_PORT = 50_051
_TLS_PORT = 443
_CLOUD = re.compile(r"\.weaviate\.(?:cloud|io)$")
_OLD_CLOUD = ".weaviate.network"


_SERVICE = "/weaviate.v1.Weaviate"
_SERVING = b"\x08\x01"
"""A `HealthCheckResponse` whose field 1, the status, is 1."""


class Wire:
    """Channels to one server; safe to use from several threads.

    Calls raise `httpx.HTTPError`, for an answer that is no success too, and `grpc.RpcError`. None is repeated.
    """

    def __init__(self, endpoint: Endpoint, options: WeaviateOptions) -> None:
        import httpx

        stub = _stub_class()
        url = urlsplit(endpoint.url or "")
        key = None if endpoint.api_key is None else f"Bearer {endpoint.api_key.get_secret_value()}"
        port = url.port or DEFAULT_PORTS["weaviate"][url.scheme]
        self._timeout = options.timeout_s
        self._metadata = () if key is None else (("authorization", key),)
        self._http = httpx.Client(
            base_url=f"{url.scheme}://{bracketed(url.hostname)}:{port}{url.path.rstrip('/')}/v1",
            headers={} if key is None else {"authorization": key},
            timeout=options.timeout_s,
            trust_env=False,
            verify=_context(options.ca_file) if url.scheme == "https" else False,
        )
        target, secure = grpc_target(endpoint.url or "", options.grpc_url)
        self._channel = opened(target, secure=secure, ca_file=options.ca_file)
        self._stub = stub(self._channel)
        self._plain = {name: self._channel.unary_unary(f"{_SERVICE}/{name}") for name in ("Search", "BatchObjects")}

    def rest(self, method: str, *path: str, body: Any = None, params: Mapping[str, Any] | None = None) -> Any:
        """Ask the REST interface; returns what the answer's JSON holds, None if it has no content.

        Args:
            method: of HTTP.
            path: its parts behind `/v1`, which are escaped here.
            body: sent as JSON.
            params: of the query.
        """
        url = "/" + "/".join(quote(part, safe="") for part in path)
        answer = self._http.request(method, url, json=body, params=params)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def call(self, method: str, request: Any) -> Any:
        """Carry out a method of the gRPC service `weaviate.v1.Weaviate`, such as "Search"."""
        return getattr(self._stub, method)(request, timeout=self._timeout, metadata=self._metadata)

    def octets(self, method: str, request: bytes) -> bytes:
        """The same, octets in and octets out: "Search" or "BatchObjects"."""
        answer: bytes = self._plain[method](request, timeout=self._timeout, metadata=self._metadata)
        return answer

    def check_health(self) -> None:
        """Ask the gRPC port whether it serves: https://github.com/grpc/grpc/blob/master/doc/health-checking.md.

        Raises:
            ConnectionError: it does not.
        """
        # An empty request asks about the whole server.
        check = self._channel.unary_unary("/grpc.health.v1.Health/Check")
        if check(b"", timeout=self._timeout) != _SERVING:
            raise ConnectionError("its gRPC port says that it does not serve")

    def close(self) -> None:
        """Close both channels."""
        self._http.close()
        self._channel.close()


def grpc_target(url: str, grpc_url: str | None) -> tuple[str, bool]:
    """Host and port of the gRPC interface, and whether it is reached through TLS.

    https://grpc.github.io/grpc/core/md_doc_naming.html; the hosts of Weaviate Cloud are those of the official client
    (weaviate/connect/helpers.py).
    """
    rest = urlsplit(url)
    host = rest.hostname or ""
    if grpc_url is not None:
        given = urlsplit(grpc_url)
        secure = given.scheme == "https"
        return f"{bracketed(given.hostname)}:{given.port or (_TLS_PORT if secure else _GRPC_PORT)}", secure
    if host.endswith(_OLD_CLOUD):
        name, _, domain = host.partition(".")
        return f"{name}.grpc.{domain}:{_TLS_PORT}", True
    if _CLOUD.search(host):
        return f"grpc-{host}:{_TLS_PORT}", True
    return f"{bracketed(host)}:{_GRPC_PORT}", rest.scheme == "https"


def _stub_class() -> Any:
    """The client side of the gRPC service, as it comes with the official client."""
    # A package for logins by OpenID, which we have none of, warns about another one, whatever the filters say.
    with warnings.catch_warnings(record=True):
        from weaviate.proto.v1 import weaviate_pb2_grpc
    return weaviate_pb2_grpc.WeaviateStub


def _context(ca_file: Path | None) -> Any:
    import ssl

    try:
        return ssl.create_default_context(cafile=None if ca_file is None else str(certificate(ca_file)))
    except ssl.SSLError as error:
        raise ConfigurationError(f"'{ca_file}' (ca_file) is not a certificate in PEM form") from error
