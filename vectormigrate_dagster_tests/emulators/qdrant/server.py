"""The handle that tests hold: a stand-in on threads of this process, or in a child process."""

from __future__ import annotations

from dataclasses import dataclass

from vectormigrate_dagster_tests.emulators import faces
from vectormigrate_dagster_tests.emulators.qdrant.grpc_face import add_services
from vectormigrate_dagster_tests.emulators.qdrant.rest import listening
from vectormigrate_dagster_tests.emulators.qdrant.service import Service, Settings
from vectormigrate_dagster_tests.emulators.stand_in import StandIn


@dataclass(frozen=True)
class QdrantServer:
    """Where a server is that tests may use, real or not; no faults can be ordered from it."""

    url: str
    grpc_url: str | None = None
    api_key: str | None = None


class Faces(faces.Faces):
    """REST and gRPC over one service, on threads of this process.

    Args:
        service: the engine and its settings.
        port: of REST; 0 for a free one.
        grpc_port: of gRPC; 0 for a free one.
    """

    def __init__(self, service: Service, port: int = 0, grpc_port: int = 0) -> None:
        rest = listening(service, port)
        super().__init__(service.settings, rest, lambda server: add_services(server, service), grpc_port)


class QdrantStandIn(StandIn[Settings, Service]):
    """A stand-in for a Qdrant server; see `StandIn`.

    Args:
        settings: how the server is set up.
        child: run in a process of its own, which ends with this one.
    """

    module = "vectormigrate_dagster_tests.emulators.qdrant"

    def __init__(self, settings: Settings | None = None, *, child: bool = False) -> None:
        settings = settings or Settings()
        super().__init__(settings, None if child else Service(settings))

    def _faces(self, service: Service) -> Faces:
        return Faces(service, self.port, self.grpc_port)

    def kill(self) -> None:
        """End at once: what was acknowledged with wait=false and not applied is lost."""
        if self._service is not None:
            self._service.engine.close()
        super().kill()

    def lost(self) -> list[str]:
        """Why changes failed that were acknowledged before."""
        return list(self._order("GET")["lost"])
