"""REST and gRPC over one service, on threads of this process: what the stand-ins for servers with both faces share."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import grpc

from vectormigrate_dagster_tests.emulators.http_server import Listener, Server

# By default, gRPC ends the connection of a client that pings often, with GOAWAY too_many_pings. Qdrant, on tonic, lets
# clients ping. Weaviate, in Go, has gRPC's default; but the library's own pings must not end calls on a busy machine.
_PINGS = [
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 0),
    ("grpc.http2.max_ping_strikes", 0),
]


class FaceSettings(Protocol):
    """The settings that faces look at: PEM files, for TLS."""

    @property
    def certificate(self) -> str | None: ...

    @property
    def key(self) -> str | None: ...


class Faces:
    """Two servers that listen.

    Args:
        settings: of the server that is played.
        rest: the server of REST, ready to be run.
        add_services: adds the services to the server of gRPC.
        grpc_port: 0 for a free one.
        max_receive: bytes of a message that gRPC takes; -1 for no limit. What is sent has none.
    """

    def __init__(
        self,
        settings: FaceSettings,
        rest: Server,
        add_services: Callable[[grpc.Server], None],
        grpc_port: int,
        *,
        max_receive: int = -1,
    ) -> None:
        sizes = [("grpc.max_receive_message_length", max_receive), ("grpc.max_send_message_length", -1)]
        self._grpc = grpc.server(ThreadPoolExecutor(16), options=[*sizes, *_PINGS, ("grpc.so_reuseport", 0)])
        add_services(self._grpc)
        self.grpc_port = self._listen(settings, f"127.0.0.1:{grpc_port}")
        self._rest = Listener(rest)
        self.port = self._rest.port
        self._grpc.start()

    def _listen(self, settings: FaceSettings, address: str) -> int:
        if settings.certificate is None or settings.key is None:
            return self._grpc.add_insecure_port(address)
        pair = (Path(settings.key).read_bytes(), Path(settings.certificate).read_bytes())
        return self._grpc.add_secure_port(address, grpc.ssl_server_credentials([pair]))

    def stop(self) -> None:
        """Stop listening and end all connections."""
        self._rest.stop()
        self._grpc.stop(grace=None).wait()
