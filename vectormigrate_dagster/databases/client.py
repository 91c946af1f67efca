"""What databases have in common that are reached through a client: opened late, closed once, errors translated."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Literal

from vectormigrate_dagster.databases.base import Database
from vectormigrate_dagster.databases.embedded import Connection, Engine, exists, open_folder
from vectormigrate_dagster.databases.endpoint import Endpoint, Options
from vectormigrate_dagster.databases.watch import about_to_write
from vectormigrate_dagster.errors import (
    AuthenticationFailed,
    DatabaseError,
    InvalidRecord,
    NotFound,
    SchemaMismatch,
    Throttled,
    Unavailable,
    VectorMigrateError,
)
from vectormigrate_dagster.model import Capabilities

Doing = Literal["read", "write", "create"]
"""What a call is for; decides what a refusal means: an impossible request, a bad record, or a bad schema."""

_SYSTEM_ERROR = "[Errno "
"""How a reason starts that Milvus Lite passes on from the operating system (a full disk), whatever its code."""


class ClientDatabase(Database):
    """A database behind an official client, which is made at the first call."""

    engine: Engine
    options: Options

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self.options = self.options_model.model_validate(endpoint.options.model_dump(exclude_unset=True))
        self._connection: Connection | None = None
        self._closed = False
        self._opening = threading.Lock()
        self._probed = False
        self._probing = threading.Lock()

    def probe(self) -> Capabilities:
        """See `Database.probe`."""
        with self._probing:
            if not self._probed and not self.endpoint.embedded:
                self.capabilities = self._probe()
                self._probed = True
            return self.capabilities

    def close(self) -> None:
        """See `Database.close`."""
        with self._opening:
            self._closed = True
            if self._connection is not None:
                connection, self._connection = self._connection, None
                connection.close()

    def _probe(self) -> Capabilities:
        """Ask the server what it is, and return what it can do; all that is declared, where versions do not differ."""
        return self.capabilities

    @abstractmethod
    def _connect(self) -> Any:
        """Make a client of the server at `endpoint.url`; it has a method `close`."""

    @abstractmethod
    def _translate(self, error: Exception, doing: Doing) -> DatabaseError:
        """Say what a client's exception means in the words of `errors`."""

    @property
    def _missing_folder(self) -> bool:
        return self.endpoint.path is not None and not exists(self.engine, self.endpoint.path)

    @contextmanager
    def _client(self, doing: Doing) -> Iterator[Any]:
        """The client, for this thread alone if it is an embedded one; its errors leave translated."""
        connection = self._connected(doing)
        with connection.lock:
            if doing == "write":
                about_to_write()
            with self._translated(doing):
                yield connection.client

    def _connected(self, doing: Doing) -> Connection:
        with self._opening:
            if self._closed:
                raise Unavailable(f"{self.endpoint} was closed; open it again")
            if self._connection is None:
                with self._translated("read"):  # whatever the client says now, no record is to blame
                    self._connection = self._open(doing)
            return self._connection

    def _open(self, doing: Doing) -> Connection:
        if self.endpoint.path is None:
            client = self._connect()
            return Connection(client, nullcontext(), client.close)
        if doing != "create" and self._missing_folder:
            raise NotFound(
                f"there is no embedded {self.engine.title} database in folder '{self.endpoint.path}'; "
                "check 'path' in the migration file"
            )
        return open_folder(self.engine, self.endpoint.path, self.options.folder_wait_s, self.sleep)

    @contextmanager
    def _translated(self, doing: Doing) -> Iterator[None]:
        try:
            yield
        except VectorMigrateError:
            raise
        except Exception as error:
            raise self._translate(error, doing) from error

    def _refused(self, reason: str, doing: Doing) -> DatabaseError:
        """The error for a request that the database understood and does not carry out."""
        if reason.startswith(_SYSTEM_ERROR):
            return self._failed(reason)
        if doing == "write":
            return InvalidRecord(f"{self.endpoint} refuses these records: {reason}")
        if doing == "create":
            return SchemaMismatch(f"{self.endpoint} cannot be created: {reason}")
        return DatabaseError(f"{self.endpoint} refuses a request: {reason}")

    def _failed(self, reason: str) -> DatabaseError:
        """The error for a request that failed for a reason that neither blames it nor promises to pass."""
        if reason.startswith(_SYSTEM_ERROR):
            return DatabaseError(f"{self.endpoint} cannot use its disk: {reason}; make room or mend it")
        return DatabaseError(f"{self.endpoint} failed: {reason}; mend that, then run the migration again")

    def _grpc(self, code: str, reason: str, doing: Doing) -> DatabaseError:
        """The error for a gRPC status code, by its name.

        https://grpc.io/docs/guides/status-codes/
        """
        if code in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
            return AuthenticationFailed(f"{self.endpoint} does not accept the key: {reason}")
        if code == "RESOURCE_EXHAUSTED":
            return Throttled(f"{self.endpoint} asks us to slow down: {reason}")
        if code == "NOT_FOUND":
            return NotFound(f"{self.endpoint}: {reason}")
        if code in ("INVALID_ARGUMENT", "OUT_OF_RANGE"):
            return self._refused(reason, doing)
        if code in ("FAILED_PRECONDITION", "ALREADY_EXISTS", "UNIMPLEMENTED"):
            return self._failed(reason) if doing == "write" else self._refused(reason, doing)
        return Unavailable(f"{self.endpoint} does not answer: {reason}")
