"""The handle that tests hold: a stand-in on threads of this process, which other processes may call too."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from vectormigrate_dagster_tests.emulators.http_server import Listener
from vectormigrate_dagster_tests.emulators.pinecone.engine import Engine
from vectormigrate_dagster_tests.emulators.pinecone.faults import Fault, Faults
from vectormigrate_dagster_tests.emulators.pinecone.http_face import Service, listening
from vectormigrate_dagster_tests.emulators.pinecone.routes import WRITES
from vectormigrate_dagster_tests.emulators.pinecone.settings import Settings
from vectormigrate_dagster_tests.emulators.stand_in import Handle


@dataclass(frozen=True)
class PineconeServer:
    """Where a control plane is that tests may use, real or not; no faults can be ordered from it."""

    url: str
    api_key: str
    grpc_url: str | None = None


class PineconeStandIn(Handle):
    """A stand-in for Pinecone. Its data outlive `stop` and `restart`.

    Args:
        settings: how the server is set up.
        faults: what goes wrong from the beginning.
        port: where it listens; 0 for a free port.
        grpc: it listens for gRPC too, on a port of its own.
    """

    def __init__(
        self, settings: Settings | None = None, faults: Iterable[Fault] = (), port: int = 0, *, grpc: bool = False
    ) -> None:
        self.settings = settings or Settings()
        self.port = port
        self.grpc_port = 0
        self._grpc: Any = None
        self._with_grpc = grpc
        self._service = Service(Engine(self.settings), Faults(faults))
        self._listener: Listener | None = None
        self.start()

    @property
    def url(self) -> str:
        """Address of the control plane; the client's `host`."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def grpc_url(self) -> str | None:
        """Address of the data planes' gRPC; None if there is none."""
        return f"http://127.0.0.1:{self.grpc_port}" if self._with_grpc else None

    @property
    def api_key(self) -> str:
        return self.settings.api_key

    def start(self) -> None:
        """Listen; after a stop on the same port as before."""
        self._listener = Listener(listening(self._service, self.port))
        self.port = self._listener.port
        if self._with_grpc:
            # It costs a moment to import; only those who ask for it pay.
            from vectormigrate_dagster_tests.emulators.pinecone import grpc_face  # noqa: PLC0415

            self._grpc, self.grpc_port = grpc_face.listening(self._service, self.grpc_port)

    def stop(self) -> None:
        """End all connections and listen no more; may be repeated."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.stop()
        if self._grpc is not None:
            self._grpc.stop(grace=None).wait()
            self._grpc = None

    # Orders

    def fault(self, what: Any, method: str = "*", **details: Any) -> None:
        """Order a fault: see `faults.Fault`."""
        self._service.faults.add(Fault(what, method, **details))

    def clear_faults(self) -> None:
        """Forget all faults, and how often methods and paths were called."""
        self._service.faults.clear()

    def calls(self) -> dict[str, int]:
        """How often each method was called since the last `clear_faults`."""
        return self._service.faults.calls()

    def writes(self) -> dict[str, int]:
        """Of these calls, those of methods that change something."""
        return {method: count for method, count in self.calls().items() if method in WRITES}

    def paths(self) -> dict[str, int]:
        """How often each path was called since then, like "GET /vectors/list", of all indexes together."""
        return self._service.faults.paths()
