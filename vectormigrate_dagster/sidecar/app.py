"""The sidecar as one ASGI application: both faces, changes, and what operators ask, behind the same guards."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from mcp.server.lowlevel import Server
from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.routing import Route

from vectormigrate_dagster.services.context import Context
from vectormigrate_dagster.services.warm import Reader
from vectormigrate_dagster.sidecar.calls import Calls
from vectormigrate_dagster.sidecar.changes import changes_route
from vectormigrate_dagster.sidecar.counters import Counters
from vectormigrate_dagster.sidecar.guards import guards
from vectormigrate_dagster.sidecar.json_rpc import JsonRpc
from vectormigrate_dagster.sidecar.mcp_face import mcp_server
from vectormigrate_dagster.sidecar.operations import operations
from vectormigrate_dagster.sidecar.principal import LOCAL
from vectormigrate_dagster.sidecar.settings import Settings
from vectormigrate_dagster.sidecar.tools import tools

MCP_PATH = "/mcp"


McpServer = Server[Any] | MCPServer[Any]
"""Either kind of server that the SDK has."""


def create_app(
    context: Context, settings: Settings, *, server: McpServer | None = None, reader: Reader | None = None
) -> Starlette:
    """The application.

    Args:
        context: where migrations and Dagster's storage are.
        settings: how it is served.
        server: what answers at `/mcp` in place of ours; the conformance suite asks for tools that only it needs.
        reader: of the migrations, if not the usual one; closed at the end.
    """
    counters = Counters()
    reader = reader or Reader(context)
    table, calls = tools(reader, settings), Calls()
    mcp = server or mcp_server(table, reader, calls, local=LOCAL)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        with reader:
            async with mcp.session_manager.run():
                yield

    routes = [
        Route("/", JsonRpc(table, calls, batch=settings.limits.batch).__call__, methods=["POST"]),
        _mcp_route(mcp, settings),
        *operations(reader, counters),
        *([changes_route(context, calls)] if settings.enable_writes else []),
    ]
    return Starlette(routes=routes, middleware=guards(settings, counters), lifespan=lifespan)


def _mcp_route(server: McpServer, settings: Settings) -> Route:
    """MCP over HTTP, by POST alone: a stream held open by GET would belong to no session, as none is kept."""
    app = server.streamable_http_app(
        streamable_http_path=MCP_PATH,
        stateless_http=True,
        max_request_body_size=settings.limits.body_bytes,
        # Host and Origin are checked for every route by our own guards.
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )
    (endpoint,) = (route.app for route in app.routes if isinstance(route, Route) and route.path == MCP_PATH)
    route = Route(MCP_PATH, endpoint=lambda _: None, methods=["POST"])
    route.app = endpoint
    return route
