"""One Qdrant server or folder behind the official client: how it is reached, what it is, and what its errors mean."""

from __future__ import annotations

import logging
import math
import warnings
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from vectormigrate_dagster.databases.client import ClientDatabase, Doing
from vectormigrate_dagster.databases.endpoint import DEFAULT_PORTS, Endpoint, QdrantOptions
from vectormigrate_dagster.databases.qdrant import errors
from vectormigrate_dagster.databases.qdrant.capabilities import EMBEDDED, SERVER, at, missing
from vectormigrate_dagster.databases.qdrant.folder import ENGINE
from vectormigrate_dagster.databases.version import Version, version_of
from vectormigrate_dagster.errors import (
    AuthenticationFailed,
    ConfigurationError,
    DatabaseError,
    SchemaMismatch,
    Unavailable,
)
from vectormigrate_dagster.model import Capabilities, CollectionSchema

_log = logging.getLogger(__name__)

_GRPC_PORT = 6334
_REACHED_SECONDS = 5.0
"""What a gRPC port may take for its first answer before it is taken for closed."""

_told: set[str] = set()
"""Addresses of which it was said that nobody answers there."""

# Qdrant's own default for messages is 4 MB here and there; pages are bounded by us, so no limit is set on this side.
_UNLIMITED = {
    "grpc.max_receive_message_length": -1,
    "grpc.max_send_message_length": -1,
    # A server that is back is tried again within a second, not after a back-off of up to two minutes.
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 1000,
    # A peer that vanished without a word is noticed while a call waits for it.
    "grpc.keepalive_time_ms": 30_000,
    "grpc.keepalive_timeout_ms": 10_000,
}


class QdrantConnection(ClientDatabase):
    """What a Qdrant collection is reached through."""

    capabilities = SERVER
    embedded_capabilities = EMBEDDED
    engine = ENGINE
    options_model = QdrantOptions
    options: QdrantOptions

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self._version: Version = (0, 0)
        self._clustered = False

    def _connect(self) -> Any:
        """A client; over REST if the server answers there, and not at its gRPC address."""
        client = client_of(self.endpoint, self.options)
        if self.options.grpc_url is None or _answers_grpc(client):
            return client
        plain = self.options.model_copy(update={"grpc_url": None})
        rest = client_of(self.endpoint, plain)
        if not _answers_rest(rest):
            rest.close()
            return client  # nobody is there at all, which the first call will say
        client.close()
        if self.options.grpc_url not in _told:
            _told.add(self.options.grpc_url)
            _log.warning(
                "%s does not answer at %s (grpc_url), so its records go over REST, which takes several times as long; "
                "open that port, or correct 'grpc_url'",
                self.endpoint,
                self.options.grpc_url,
            )
        self.options = plain
        return rest

    def _probe(self) -> Capabilities:
        with self._client("read") as client:
            client.get_collections()  # the version is told to anybody, a wrong key is noticed here
            text = client.info().version
        try:
            self._version = version_of(text)
        except ValueError as error:
            raise DatabaseError(f"{self.endpoint} does not tell its version ({error}); is it a Qdrant?") from error
        self._clustered = self._has_cluster()
        return at(self._version, clustered=self._clustered)

    def _has_cluster(self) -> bool:
        """Whether the server is in cluster mode; asked over REST, as gRPC has no such call."""
        try:
            with self._client("read") as client:
                return str(client.cluster_status().status) == "enabled"
        except (AuthenticationFailed, Unavailable):
            # A key for one collection, or a closed REST port: nobody says, so the server itself will at creation.
            return True

    def _require_version(self, schema: CollectionSchema) -> None:
        lacks = missing(schema, self._version, clustered=self._clustered)
        if lacks:
            raise SchemaMismatch(
                f"{self.endpoint} is a server {'.'.join(map(str, self._version))} and cannot hold collection "
                f"'{schema.name}': {'; '.join(lacks)}"
            )

    def _require_applied(self, status: str) -> None:
        """Take no other status than `completed` for an acknowledgement.

        `acknowledged` and `wait_timeout` mean that the change is in the log and may still fail to apply:
        https://api.qdrant.tech/api-reference/points/upsert-points
        """
        if status != "completed":
            raise Unavailable(f"{self.endpoint} has not applied a change yet (status '{status}'); it is sent again")

    def _translate(self, error: Exception, doing: Doing) -> DatabaseError:
        return errors.translate(
            error,
            self.endpoint,
            doing,
            refused=lambda reason: self._refused(reason, doing),
            of_code=lambda code, reason: self._grpc(code, reason, doing),
        )


def _answers_grpc(client: Any) -> bool:
    from grpc import RpcError, StatusCode
    from qdrant_client import grpc

    try:
        client._client.grpc_root.HealthCheck(grpc.HealthCheckRequest(), timeout=_REACHED_SECONDS)
    except RpcError as error:
        return error.code() not in (StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED)
    return True


def _answers_rest(client: Any) -> bool:
    from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

    try:
        client.info()
    except ResponseHandlingException:
        return False
    except UnexpectedResponse:
        return True  # and says something that a call of its own is to hear
    return True


def client_of(endpoint: Endpoint, options: QdrantOptions) -> Any:
    """A client of the server at `endpoint.url`; nothing is called yet.

    Raises:
        ConfigurationError: the addresses do not fit together, or the certificate cannot be read.
    """
    from qdrant_client import QdrantClient

    url = urlsplit(endpoint.url or "")
    rest = options.grpc_url is None
    with warnings.catch_warnings():
        # A key over http is the owner's choice (a private network); the client's advice must not end the work.
        warnings.filterwarnings("ignore", message="Api key is used with an insecure connection", category=UserWarning)
        return QdrantClient(
            url=f"{url.scheme}://{url.netloc}",
            port=url.port or DEFAULT_PORTS["qdrant"][url.scheme],
            prefix=url.path.rstrip("/") or None,
            api_key=endpoint.api_key.get_secret_value() if endpoint.api_key is not None else None,
            timeout=max(1, math.ceil(options.timeout_s)),
            # Its thread would warn about versions that we ask about ourselves; see `Qdrant.probe`.
            check_compatibility=False,
            **({} if rest else _grpc(endpoint, options)),
            **({} if options.ca_file is None else {"verify": _context(options.ca_file)}),
        )


def _grpc(endpoint: Endpoint, options: QdrantOptions) -> dict[str, Any]:
    grpc, http = urlsplit(options.grpc_url or ""), urlsplit(endpoint.url or "")
    if grpc.hostname != http.hostname:
        raise ConfigurationError(
            f"'grpc_url' is on host '{grpc.hostname}', 'url' on '{http.hostname}'; one Qdrant is on one host"
        )
    if grpc.scheme != http.scheme:
        raise ConfigurationError(
            f"'grpc_url' is {grpc.scheme}, 'url' is {http.scheme}; Qdrant encrypts both of its ports or none"
        )
    certificate = options.ca_file
    trusted = {} if certificate is None else {"root_certificates": _readable(certificate).read_bytes()}
    return {
        "prefer_grpc": True,
        "grpc_port": grpc.port or _GRPC_PORT,
        "grpc_options": {**_UNLIMITED, **trusted},
    }


def _context(certificate: Path) -> Any:
    import ssl

    try:
        return ssl.create_default_context(cafile=str(_readable(certificate)))
    except ssl.SSLError as error:
        raise ConfigurationError(f"'{certificate}' (ca_file) is not a certificate in PEM form") from error


def _readable(certificate: Path) -> Path:
    if not certificate.is_file():
        raise ConfigurationError(f"there is no certificate '{certificate}' (ca_file)")
    return certificate
