"""What the HTTP faces of stand-ins share: kept connections, each on a thread of its own, that tests can cut."""

from __future__ import annotations

import socket
import ssl
import struct
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Connection(BaseHTTPRequestHandler):
    """One connection; a subclass answers its requests."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body in one packet

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent."""

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def drain(self, length: int) -> None:
        """Read a body and forget it, so that its sender is there to hear the answer."""
        while length > 0:
            length -= len(self.rfile.read(min(length, 1 << 20))) or length

    def send(self, status: int, content: bytes, type: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        head = {"content-type": type} if content else {}
        for name, value in {**head, "content-length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        self.wfile.flush()

    def cut(self) -> None:
        """End the connection with a reset."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()


class Server(ThreadingHTTPServer):
    """Listens on 127.0.0.1; ends its connections when it is closed.

    Args:
        handler: makes the handler of a connection.
        port: 0 for a free one.
        certificate, key: PEM files, for TLS.
    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(
        self, handler: type[Connection], port: int, certificate: str | None = None, key: str | None = None
    ) -> None:
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), handler)
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, key)
            # The handshake is made by the connection's own thread, at its first read.
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Show what went wrong; a client that goes away is no news."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def server_close(self) -> None:
        super().server_close()
        for connection in list(self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # it has ended by itself


class Listener:
    """Runs a server on a thread of this process."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.port = server.server_port
        self._thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Listen no more and end all connections."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
