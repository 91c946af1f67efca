"""What guards read of a request."""

from __future__ import annotations

import ipaddress

from starlette.types import Scope

ROUTES = frozenset({"/", "/mcp", "/v1/changes", "/healthz", "/readyz", "/metrics"})
"""Our routes; what audit and metrics call "other" is any other path, which may hold anything."""


def header_values(scope: Scope, name: bytes) -> list[bytes]:
    """All values of a header; `name` in small letters."""
    return [value for key, value in scope["headers"] if key.lower() == name]


def route_of(scope: Scope) -> str:
    """Which of our routes a request is for, or "other"."""
    path = scope["path"]
    return path if path in ROUTES else "other"


def peer_of(scope: Scope) -> str:
    """The address that a request came from; of IPv6 the network of 64 bits, which is one customer's."""
    client = scope.get("client")
    if not client:
        return "-"
    try:
        address = ipaddress.ip_address(client[0])
    except ValueError:
        return "-"  # a Unix socket, or a test's client
    if address.version == 6:
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
