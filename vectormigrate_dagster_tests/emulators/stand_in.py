"""The handle that tests hold: a stand-in on threads of this process, or in a child process."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import asdict
from types import TracebackType
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar
from urllib.request import Request, urlopen

from vectormigrate_dagster_tests.emulators.faces import Faces, FaceSettings
from vectormigrate_dagster_tests.emulators.process import Child
from vectormigrate_dagster_tests.emulators.service import CONTROL, Service


class Handle(ABC):
    """Something that runs, and is stopped in the end."""

    @abstractmethod
    def start(self) -> None:
        """Listen; after a stop on the same ports as before."""

    @abstractmethod
    def stop(self) -> None:
        """Stop in order; may be repeated."""

    def restart(self) -> None:
        """Stop and start again, on the same ports."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


class StandInSettings(FaceSettings, Protocol):
    """The settings that a handle looks at, of a dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def api_key(self) -> str | None: ...


SomeSettings = TypeVar("SomeSettings", bound=StandInSettings)
SomeService = TypeVar("SomeService", bound=Service[Any])


class StandIn(Handle, Generic[SomeSettings, SomeService]):
    """A stand-in for a server with two faces, REST and gRPC.

    In this process its data outlive `stop` and `restart`, as those of a server with a disk do; a child process keeps
    them in memory only, so `kill` loses them.

    Args:
        settings: how the server is set up.
        service: the server in this process; None to run a child, which ends with this process.
    """

    module: ClassVar[str]
    """What a child runs."""

    def __init__(self, settings: SomeSettings, service: SomeService | None) -> None:
        self.settings = settings
        self.port = self.grpc_port = 0
        self._service = service
        self._running: Faces | Child | None = None
        self.start()

    @abstractmethod
    def _faces(self, service: SomeService) -> Faces:
        """Faces of the service that listen on `port` and `grpc_port`."""

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}"

    @property
    def grpc_url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.grpc_port}"

    @property
    def api_key(self) -> str | None:
        return self.settings.api_key

    @property
    def _scheme(self) -> str:
        return "https" if self.settings.certificate else "http"

    def start(self) -> None:
        """Listen; after a stop on the same ports as before."""
        if self._service is not None:
            self._running = self._faces(self._service)
        else:
            self._running = Child(self.module, self.port, self.grpc_port, asdict(self.settings))
        self.port, self.grpc_port = self._running.port, self._running.grpc_port

    def stop(self) -> None:
        """Stop in order; may be repeated."""
        running, self._running = self._running, None
        if running is not None:
            running.stop()

    def kill(self) -> None:
        """End at once."""
        if isinstance(self._running, Child):
            child, self._running = self._running, None
            child.kill()
        else:
            self.stop()

    # Orders

    def fault(self, what: Any, method: str = "*", **details: Any) -> None:
        """Order a fault: see `faults.Fault`."""
        self._order("POST", {"what": what, "method": method, **details})

    def clear_faults(self) -> None:
        """Forget all faults, and how often methods were called."""
        self._order("DELETE")

    def calls(self) -> dict[str, int]:
        """How often each method was called since the last `clear_faults`."""
        return dict(self._order("GET")["calls"])

    def _order(self, method: str, order: dict[str, Any] | None = None) -> dict[str, Any]:
        body = b"" if order is None else json.dumps(order).encode()
        if self._service is not None:
            return self._service.obey(method, body)
        with urlopen(Request(f"{self.url}{CONTROL}", data=body or None, method=method), timeout=30) as answer:
            return dict(json.loads(answer.read()))
