"""An application behind the guards that tells who called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from vectormigrate_dagster.sidecar.audit import note_call
from vectormigrate_dagster.sidecar.counters import Counters
from vectormigrate_dagster.sidecar.guards import guards
from vectormigrate_dagster.sidecar.keys import Key, KeyRing, generate
from vectormigrate_dagster.sidecar.principal import principal_of
from vectormigrate_dagster.sidecar.settings import Settings
from vectormigrate_dagster_tests.sidecar.guards.asking import Clock

READER, READER_KEY = generate("ada", "read")
WRITER, WRITER_KEY = generate("eve", "write")
KEYS = KeyRing([READER_KEY, WRITER_KEY])


async def tell(request: Request) -> Response:
    """Who called, and how long the body is that arrived."""
    note_call(request.scope, "migration_status", migration_id="things")
    principal = principal_of(request.scope)
    return JSONResponse({"name": principal.name, "scope": principal.scope, "bytes": len(await request.body())})


async def fall(request: Request) -> Response:
    raise ZeroDivisionError(f"https://user:hunter2@db.example {await request.body()!r}")


def telling(settings: Settings, clock: Clock | None = None, counters: Counters | None = None) -> Starlette:
    """An application behind the guards."""
    paths = ("/", "/mcp", "/v1/changes", "/healthz", "/readyz", "/metrics")
    routes = [Route(path, tell, methods=["GET", "POST"]) for path in paths]
    middleware = guards(settings, counters, clock=clock or Clock())
    return Starlette(routes=[*routes, Route("/fall", fall, methods=["POST"])], middleware=middleware)


def with_key(**more: Any) -> Settings:
    """Settings with a reader's and a writer's key."""
    return Settings(keys=KEYS, **more)


def key_file(path: Path, *keys: Key) -> Path:
    """Write a key file."""
    path.write_text("".join(f"{key.line}\n" for key in keys))
    return path
