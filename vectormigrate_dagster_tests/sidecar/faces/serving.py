"""The sidecar as it is served: a real HTTP server on a port of its own, in a thread of this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import uvicorn
from starlette.types import ASGIApp

KEY = "your-secret-key"
"""The key of the original's examples."""


@dataclass
class Served:
    """A server that runs.

    Args:
        url: where, without a path.
    """

    url: str
    key: str = KEY
    _numbers: Iterator[int] = field(default_factory=lambda: iter(range(1, 1_000_000)))

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        """Send JSON, or bytes as they are."""
        content = {"content": body} if isinstance(body, bytes) else {"json": body}
        return httpx.post(f"{self.url}{path}", headers={**self.headers, **headers}, timeout=60, **content)

    def call(self, method: str, **params: Any) -> Any:
        """The result of a JSON-RPC call."""
        number = next(self._numbers)
        answer = self.post("/", {"jsonrpc": "2.0", "id": number, "method": method, "params": params}).json()
        assert answer["id"] == number
        assert "error" not in answer, answer
        return answer["result"]

    def error(self, method: str, **params: Any) -> Any:
        """The error of a JSON-RPC call."""
        answer = self.post("/", {"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        assert answer.status_code == 200
        assert "result" not in answer.json()
        return answer.json()["error"]


@contextmanager
def serving(app: ASGIApp) -> Iterator[Served]:
    """Serve an application until the block ends."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, access_log=False, ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Served(f"http://127.0.0.1:{port}")
    finally:
        server.should_exit = True
        thread.join(60)
    assert not thread.is_alive()
