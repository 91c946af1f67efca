"""How the guards say no: one JSON shape for every route."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic_core import to_json
from starlette.types import Scope, Send

from vectormigrate_dagster.sidecar.codes import RATE_LIMITED

REFUSED = "vectormigrate.refused"
"""Under which key of the ASGI scope the reason of a refusal stands, for the audit."""


@dataclass(frozen=True)
class Refusal:
    """An answer that sends a request away.

    Args:
        reason: one word of ours, which audit and metrics count by.
        message: what was found and what to do; never what the caller sent.
    """

    status: int
    code: int
    reason: str
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)

    async def answer(self, scope: Scope, send: Send) -> None:
        """Answer the request with this."""
        scope[REFUSED] = self.reason
        body = to_json({"jsonrpc": "2.0", "id": None, "error": {"code": self.code, "message": self.message}})
        headers = {"content-type": "application/json", "content-length": str(len(body)), **self.headers}
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": raw})
        await send({"type": "http.response.body", "body": body})


def too_often(reason: str, message: str, wait: float) -> Refusal:
    """429 with the whole seconds until it is worth trying again."""
    return Refusal(429, RATE_LIMITED, reason, message, {"Retry-After": str(max(1, math.ceil(wait)))})
