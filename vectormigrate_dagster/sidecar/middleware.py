"""What every guard is made of."""

from __future__ import annotations

from abc import ABC, abstractmethod

from starlette.types import ASGIApp, Receive, Scope, Send


class Guard(ABC):
    """ASGI middleware that looks at HTTP requests; what else a server sends (its lifespan) goes through."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Guard a request."""
        if scope["type"] == "http":
            await self._guard(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    @abstractmethod
    async def _guard(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let it through to `self._app`."""
