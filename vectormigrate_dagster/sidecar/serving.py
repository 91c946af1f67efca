"""Run the sidecar until it is asked to end: over HTTP, or on standard input and output."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import uvicorn
from mcp.server.stdio import stdio_server

from vectormigrate_dagster.services.context import Context
from vectormigrate_dagster.services.warm import Reader
from vectormigrate_dagster.sidecar.app import create_app
from vectormigrate_dagster.sidecar.calls import Calls
from vectormigrate_dagster.sidecar.mcp_face import mcp_server
from vectormigrate_dagster.sidecar.principal import Principal
from vectormigrate_dagster.sidecar.settings import Settings
from vectormigrate_dagster.sidecar.tools import tools
from vectormigrate_dagster.sidecar.tracing import traced

_GRACE_SECONDS = 10
"""How long requests that are under way may take after the wish to end."""
_IDLE_SECONDS = 30
"""How long a connection may be there without a whole head of a request; also between two requests."""
_CONNECTIONS = 1000
"""Requests at a time; more of them are told to come back."""

_OWNER = Principal("local", "write", "local")
"""Whoever started this process and holds the other ends of its standard input and output."""


def serve(context: Context, settings: Settings) -> None:
    """Serve HTTP; SIGTERM and SIGINT let requests that are under way end."""
    config = uvicorn.Config(
        create_app(context, settings),
        host=settings.host,
        port=settings.port,
        # Not httptools, which keeps a head of any length; h11 refuses one of more than 64 KiB.
        http="h11",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        # Whom a proxy names is not whom we may count refusals of.
        proxy_headers=False,
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    with traced():
        _Server(config).run()


class _Server(uvicorn.Server):
    """A server that ends connections which say nothing, and that a signal ends in peace.

    The usual one waits forever for the head of a request, and lets the signal kill the process once all is done.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._silent: dict[tuple[Any, Any], float] = {}

    async def on_tick(self, counter: int) -> bool:
        """End what was silent for too long; called ten times a second."""
        if counter % 10 == 0:
            self._end_the_silent(time.monotonic())
        return await super().on_tick(counter)

    def _end_the_silent(self, now: float) -> None:
        # By connection and its last request: one that asks and asks is seen between two requests now and then.
        connections: Iterable[Any] = self.server_state.connections
        silent = {
            (connection, connection.cycle)
            for connection in connections
            if connection.cycle is None or connection.cycle.response_complete
        }
        self._silent = {each: self._silent.get(each, now) for each in silent}
        for (connection, _), since in self._silent.items():
            if now - since >= _IDLE_SECONDS:
                connection.transport.close()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take the wish to end as one; a second SIGINT does not wait for anybody."""
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def serve_stdio(context: Context, settings: Settings) -> None:
    """Serve MCP on standard input and output until the input ends; nothing else is ever written to the output."""
    with traced():
        anyio.run(_stdio, context, settings)


async def _stdio(context: Context, settings: Settings) -> None:
    with Reader(context) as reader:
        server = mcp_server(tools(reader, settings), reader, Calls(), local=_OWNER)
        async with stdio_server() as (incoming, outgoing):
            await server.run(incoming, outgoing, server.create_initialization_options())
