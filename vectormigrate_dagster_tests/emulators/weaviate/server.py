"""The handle that tests hold: a stand-in on threads of this process, or in a child process."""

from __future__ import annotations

from dataclasses import dataclass

from vectormigrate_dagster_tests.emulators import faces
from vectormigrate_dagster_tests.emulators.http_server import Server
from vectormigrate_dagster_tests.emulators.stand_in import StandIn
from vectormigrate_dagster_tests.emulators.weaviate.rest import Handler
from vectormigrate_dagster_tests.emulators.weaviate.service import Service, Settings


@dataclass(frozen=True)
class WeaviateServer:
    """Where a server is that tests may use, real or not; no faults can be ordered from it."""

    url: str
    grpc_url: str
    api_key: str | None = None


class Faces(faces.Faces):
    """REST and gRPC over one service, on threads of this process.

    Args:
        service: the engine and its settings.
        port: of REST; 0 for a free one.
        grpc_port: of gRPC; 0 for a free one.
    """

    def __init__(self, service: Service, port: int = 0, grpc_port: int = 0) -> None:
        # The official client costs a second to import; only those who start a stand-in pay.
        from vectormigrate_dagster_tests.emulators.weaviate.grpc_face import add_services  # noqa: PLC0415

        settings = service.settings
        handler = type("BoundHandler", (Handler,), {"service": service})
        super().__init__(
            settings,
            Server(handler, port, settings.certificate, settings.key),
            lambda server: add_services(server, service),
            grpc_port,
            # The server's limit counts for what it receives; what it sends is checked by `grpc_face.py`.
            max_receive=settings.grpc_max_message_size,
        )


class WeaviateStandIn(StandIn[Settings, Service]):
    """A stand-in for a Weaviate server; see `StandIn`.

    Args:
        settings: how the server is set up.
        child: run in a process of its own, which ends with this one.
    """

    module = "vectormigrate_dagster_tests.emulators.weaviate"

    def __init__(self, settings: Settings | None = None, *, child: bool = False) -> None:
        settings = settings or Settings()
        super().__init__(settings, None if child else Service(settings))

    def _faces(self, service: Service) -> Faces:
        return Faces(service, self.port, self.grpc_port)
