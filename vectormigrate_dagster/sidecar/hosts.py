"""Host and Origin of every request: what keeps web pages from reaching a server of their reader's machine."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from vectormigrate_dagster.sidecar.codes import FORBIDDEN, WRONG_HOST
from vectormigrate_dagster.sidecar.middleware import Guard
from vectormigrate_dagster.sidecar.refusals import Refusal
from vectormigrate_dagster.sidecar.requests import header_values
from vectormigrate_dagster.sidecar.settings import HOSTS_VARIABLE, LOOPBACK_HOSTS, ORIGINS_VARIABLE, Settings

_WILDCARDS = {"0.0.0.0", "::", "[::]", ""}  # noqa: S104  (recognised, not listened on)

_HOST = Refusal(
    421, WRONG_HOST, "host", f"this server does not go by that name; its operator can add it to {HOSTS_VARIABLE}"
)
_ORIGIN = Refusal(
    403, FORBIDDEN, "origin", f"pages of that origin may not call; the operator can add it to {ORIGINS_VARIABLE}"
)


class HostGuard(Guard):
    """Let through only requests whose Host is a name of ours and whose Origin, if any, is allowed.

    A browser sends the name that its user followed: a page of another name, made to point to this machine (DNS
    rebinding), is told by it. The MCP specification asks for the check of Origin (transports, security warning).
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        super().__init__(app)
        own = () if settings.host in _WILDCARDS else (settings.host, f"[{settings.host}]")
        self._hosts = _names((*LOOPBACK_HOSTS, *own, *settings.allowed_hosts))
        self._origins = {origin.rstrip("/").lower() for origin in settings.allowed_origins}

    async def _guard(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._host_is_ours(header_values(scope, b"host")):
            await _HOST.answer(scope, send)
        elif not all(self._may_call(origin) for origin in header_values(scope, b"origin")):
            await _ORIGIN.answer(scope, send)
        else:
            await self._app(scope, receive, send)

    def _host_is_ours(self, given: list[bytes]) -> bool:
        return len(given) == 1 and self._is_ours(given[0].decode("latin-1").strip().lower())

    def _is_ours(self, host: str) -> bool:
        return host in self._hosts or _without_port(host) in self._hosts

    def _may_call(self, given: bytes) -> bool:
        origin = given.decode("latin-1").strip().lower()
        if origin in self._origins:
            return True
        try:
            parts = urlsplit(origin)
        except ValueError:
            return False
        bare = parts.scheme in {"http", "https"} and origin == f"{parts.scheme}://{parts.netloc}"
        return bare and _without_port(parts.netloc) in LOOPBACK_HOSTS


def _names(hosts: Iterable[str]) -> frozenset[str]:
    return frozenset(host.lower() for host in hosts)


def _without_port(host: str) -> str:
    """The name of `name:port`; anything else as it is."""
    name, colon, port = host.rpartition(":")
    return name if colon and port.isascii() and port.isdigit() else host
