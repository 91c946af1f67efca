"""The handle that tests hold: a stand-in on threads of this process, or in a child process."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.request import Request, urlopen

import grpc

from vectormigrate_dagster_tests.emulators.http_server import Server
from vectormigrate_dagster_tests.emulators.weaviate.faults import Fault
from vectormigrate_dagster_tests.emulators.weaviate.rest import CONTROL, Handler
from vectormigrate_dagster_tests.emulators.weaviate.service import Service, Settings

MODULE = "vectormigrate_dagster_tests.emulators.weaviate"


@dataclass(frozen=True)
class WeaviateServer:
    """Where a server is that tests may use, real or not; no faults can be ordered from it."""

    url: str
    grpc_url: str
    api_key: str | None = None


class Faces:
    """REST and gRPC over one service, on threads of this process.

    Args:
        service: the engine and its settings.
        port: of REST; 0 for a free one.
        grpc_port: of gRPC; 0 for a free one.
    """

    def __init__(self, service: Service, port: int = 0, grpc_port: int = 0) -> None:
        # The official client costs a second to import; only those who start a stand-in pay.
        from vectormigrate_dagster_tests.emulators.weaviate.grpc_face import add_services  # noqa: PLC0415

        self.service = service
        settings = service.settings
        handler = type("BoundHandler", (Handler,), {"service": service})
        self._rest = Server(handler, port, settings.certificate, settings.key)
        self.port = self._rest.server_port
        # The server's limit counts for what it receives; what it sends is checked by `grpc_face.py`.
        sizes = [
            ("grpc.max_receive_message_length", settings.grpc_max_message_size),
            ("grpc.max_send_message_length", -1),
        ]
        self._grpc = grpc.server(ThreadPoolExecutor(16), options=[*sizes, ("grpc.so_reuseport", 0)])
        add_services(self._grpc, service)
        self.grpc_port = self._listen(f"127.0.0.1:{grpc_port}")
        self._thread = threading.Thread(target=self._rest.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        self._grpc.start()

    def _listen(self, address: str) -> int:
        settings = self.service.settings
        if settings.certificate is None or settings.key is None:
            return self._grpc.add_insecure_port(address)
        pair = (Path(settings.key).read_bytes(), Path(settings.certificate).read_bytes())
        return self._grpc.add_secure_port(address, grpc.ssl_server_credentials([pair]))

    def stop(self) -> None:
        """Stop listening and end all connections."""
        self._rest.shutdown()
        self._rest.server_close()
        self._thread.join()
        self._grpc.stop(grace=None).wait()


class WeaviateStandIn:
    """A stand-in for a Weaviate server.

    In this process its data outlive `stop` and `restart`, as those of a server with a disk do; a child process keeps
    them in memory only.

    Args:
        settings: how the server is set up.
        child: run in a process of its own, which ends with this one.
    """

    def __init__(self, settings: Settings | None = None, *, child: bool = False) -> None:
        self.settings = settings or Settings()
        self.port = self.grpc_port = 0
        self._service = None if child else Service(self.settings)
        self._faces: Faces | None = None
        self._process: subprocess.Popen[str] | None = None
        self.start()

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
            self._faces = Faces(self._service, self.port, self.grpc_port)
            self.port, self.grpc_port = self._faces.port, self._faces.grpc_port
            return
        command = [sys.executable, "-m", MODULE, "--port", str(self.port), "--grpc-port", str(self.grpc_port)]
        self._process = subprocess.Popen(
            [*command, "--settings", json.dumps(asdict(self.settings))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[3],
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the stand-in ended at once, with exit code {self._process.wait()}")
        ports = json.loads(line)
        self.port, self.grpc_port = ports["port"], ports["grpc_port"]

    def stop(self) -> None:
        """Stop in order; may be repeated."""
        if self._faces is not None:
            faces, self._faces = self._faces, None
            faces.stop()
        if self._process is not None:
            self._process.terminate()
            self._ended()

    def kill(self) -> None:
        """End at once."""
        if self._process is None:
            self.stop()
            return
        self._process.kill()
        self._ended()

    def restart(self) -> None:
        """Stop and start again, on the same ports."""
        self.stop()
        self.start()

    def _ended(self) -> None:
        process, self._process = self._process, None
        assert process is not None
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()

    # Orders

    def fault(self, what: Any, method: str = "*", **details: Any) -> None:
        """Order a fault: see `faults.Fault`."""
        self._control("POST", asdict(Fault(what, method, **details)))

    def clear_faults(self) -> None:
        """Forget all faults, and how often methods were called."""
        self._control("DELETE")

    def calls(self) -> dict[str, int]:
        """How often each method was called since the last `clear_faults`."""
        return dict(self._control("GET")["calls"])

    def _control(self, method: str, body: Any = None) -> Any:
        if self._service is not None:
            faults = self._service.faults
            if method == "POST":
                faults.add(Fault(**body))
            elif method == "DELETE":
                faults.clear()
            return {"calls": faults.calls()}
        data = None if body is None else json.dumps(body).encode()
        with urlopen(Request(f"{self.url}{CONTROL}faults", data=data, method=method), timeout=30) as answer:
            return json.loads(answer.read())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
