"""One Pinecone index behind the official client: how it is reached, what it is, and what errors mean."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from vectormigrate_dagster.databases.client import ClientDatabase, Doing
from vectormigrate_dagster.databases.endpoint import Endpoint, PineconeOptions
from vectormigrate_dagster.databases.pinecone import errors
from vectormigrate_dagster.databases.pinecone.answers import prepare_answers
from vectormigrate_dagster.databases.pinecone.api import IndexApi
from vectormigrate_dagster.databases.pinecone.capabilities import DOCUMENTS, SERVER
from vectormigrate_dagster.databases.pinecone.documents import DocumentsApi
from vectormigrate_dagster.databases.pinecone.grpc_vectors import GrpcVectorsApi
from vectormigrate_dagster.databases.pinecone.schema import (
    embeds_in_the_old_way,
    is_document_index,
    is_pod_index,
    vectors_in,
    vectors_of,
)
from vectormigrate_dagster.databases.pinecone.vectors import VectorsApi
from vectormigrate_dagster.databases.pinecone.wire import Wire, speaks_grpc
from vectormigrate_dagster.errors import ConfigurationError, DatabaseError, NotFound, Unavailable
from vectormigrate_dagster.model import Capabilities, VectorSchema

_log = logging.getLogger(__name__)
_told: set[str] = set()
"""Addresses of which was said that nobody speaks gRPC there."""

_CONNECTIONS = 64
"""Most requests at once: writers of a transfer times pieces of a batch."""


@dataclass
class Session:
    """The client of the control plane, and one of the data plane for each host that was asked for.

    Args:
        control: the client of the control plane.
        settings: of every client, by its address.
        wire_to: makes a channel to the index at an address.
    """

    control: Any
    settings: Callable[[str], dict[str, Any]]
    wire_to: Callable[[str], Wire]
    _wires: dict[str, Wire] = field(default_factory=dict)
    _indexes: dict[str, Any] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def index(self, host: str) -> Any:
        """The client of the index at `host`, without retries of its own."""
        from pinecone import Index

        with self._lock:
            if host not in self._indexes:
                with _quiet():
                    index = _without_retries(Index(host=host, **self.settings(host)))
                index.documents  # noqa: B018  # imports what is imported late
                prepare_answers()
                self._indexes[host] = index
            return self._indexes[host]

    def wire(self, host: str) -> Wire:
        """A channel to the index at `host`."""
        with self._lock:
            if host not in self._wires:
                self._wires[host] = self.wire_to(host)
            return self._wires[host]

    def close(self) -> None:
        """Give back all connections."""
        with self._lock:
            for wire in self._wires.values():
                wire.close()
            self._wires.clear()
            for index in self._indexes.values():
                index.close()
            self._indexes.clear()
        self.control.close()


class PineconeConnection(ClientDatabase):
    """What a Pinecone index is reached through."""

    capabilities = SERVER
    options_model = PineconeOptions
    options: PineconeOptions

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self._found: IndexApi | None = None
        self._finding = threading.Lock()

    @property
    def _name(self) -> str:
        return self.endpoint.collection

    def _connect(self) -> Session:
        return session_of(self.endpoint, self.options)

    def _probe(self) -> Capabilities:
        """Ask whether the key is good. What there is to differ is the kind of an index that exists already."""
        self.ping()
        try:
            documents = isinstance(self._api(), DocumentsApi)
        except NotFound:
            documents = False
        return DOCUMENTS if documents else self.capabilities

    def _model(self) -> Any:
        """What the control plane says of the index (the client's `IndexModel`)."""
        with self._client("read") as session:
            return session.control.indexes.describe(self._name)

    def _api(self) -> IndexApi:
        """The index's own API, as its schema demands; looked up once, until `_forget`."""
        with self._finding:
            if self._found is None:
                host = self.options.host
                self._found = self._described() if host is None else self._stated(host)
            return self._found

    def _described(self) -> IndexApi:
        model = self._model()
        if model.host is None:
            raise Unavailable(f"{self.endpoint} has no address yet (it is {model.status.state})")
        if embeds_in_the_old_way(model):
            return self._stated(model.host)
        with self._client("read") as session:
            vectors, lists = vectors_of(model), not is_pod_index(model)
            if is_document_index(model):
                return DocumentsApi(session.index(model.host), vectors, lists=lists)
            return self._vectors_api(session, model.host, vectors, lists=lists)

    def _stated(self, host: str) -> IndexApi:
        """The vector index at `host`, by what it says of itself."""
        with self._client("read") as session:
            vectors = vectors_in(session.index(host).describe_index_stats())
            return self._vectors_api(session, host, vectors, lists=self.options.id_list is None)

    def _vectors_api(
        self, session: Session, host: str, vectors: tuple[VectorSchema, ...], *, lists: bool
    ) -> VectorsApi:
        """The vectors API over gRPC, or over REST where nobody speaks gRPC; that is said once for each address."""
        index = session.index(host)
        if not speaks_grpc(host, self.options):
            return VectorsApi(index, vectors, lists=lists)
        wire = session.wire(host)
        if (reason := wire.unreachable()) is None:
            return GrpcVectorsApi(index, vectors, wire, lists=lists)
        if wire.target not in _told:
            _told.add(wire.target)
            _log.warning(
                "%s does not answer over gRPC at %s (%s): records go over REST, which takes about three times as long",
                self.endpoint,
                wire.target,
                reason,
            )
        return VectorsApi(index, vectors, lists=lists)

    def _forget(self) -> None:
        """Forget what was read of the index, which has changed."""
        with self._finding:
            self._found = None

    def _translate(self, error: Exception, doing: Doing) -> DatabaseError:
        refused = partial(self._refused, doing=doing)
        return errors.translate(error, self.endpoint, doing, refused, partial(self._grpc, doing=doing))


def session_of(endpoint: Endpoint, options: PineconeOptions) -> Session:
    """The client of the control plane at `endpoint.url`; nothing is called yet.

    Raises:
        ConfigurationError: there is no key, or it is none, or a certificate or an address cannot be used.
    """
    from pinecone import Pinecone, RetryConfig
    from pinecone.errors import PineconeValueError

    if endpoint.api_key is None:
        raise ConfigurationError(f"{endpoint} needs a key; name the variable that holds it under 'api_key_env'")
    if options.ca_file is not None and not options.ca_file.is_file():
        raise ConfigurationError(f"there is no certificate '{options.ca_file}' (ca_file)")
    if options.host is not None and not urlsplit(options.host).hostname:
        raise ConfigurationError(f"'{options.host}' (host) is no address")
    key = endpoint.api_key.get_secret_value()
    settings = partial(_settings, key, options)
    wire_to = partial(Wire, key=key, options=options)
    url = endpoint.url or ""
    try:
        control = Pinecone(host=url, retry_config=RetryConfig(max_retries=0), **settings(url))
        control.indexes  # noqa: B018  # imports what is imported late
        prepare_answers()
        return Session(control, settings, wire_to)
    except PineconeValueError as error:
        raise ConfigurationError(f"{endpoint} cannot be reached so: {error}") from error


def _settings(key: str, options: PineconeOptions, url: str) -> dict[str, Any]:
    """What both clients are made with."""
    return {
        "api_key": key,
        "timeout": options.timeout_s,
        "ssl_ca_certs": None if options.ca_file is None else str(options.ca_file),
        # Without TLS there is nothing to verify, and the public certificates take a tenth of a second to read.
        "ssl_verify": not url.startswith("http://"),
        "connection_pool_maxsize": _CONNECTIONS,
    }


def _without_retries(index: Any) -> Any:
    """The client of an index, which repeats no call: how often and when is ours to decide (`transfer.throttle`).

    `retry_config` reaches only the control plane and gRPC (https://sdk.pinecone.io/python/guides/retries.html), so the
    setting is changed where the client keeps it; `test_a_call_is_made_once` notices when that place moves.
    """
    transport = index._http._client._transport
    transport._config = replace(transport._config, max_retries=0)
    return index


def _quiet() -> warnings.catch_warnings[Any]:
    """Leave out the client's advice on a key over http, which is the owner's choice (a private network)."""
    return warnings.catch_warnings(action="ignore", category=RuntimeWarning)
