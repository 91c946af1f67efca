"""The last resort: what nobody else has caught becomes a number, here and in the log, and nothing more."""

from __future__ import annotations

import logging

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vectormigrate_dagster.sidecar.audit import REQUEST_ID
from vectormigrate_dagster.sidecar.codes import INTERNAL_ERROR
from vectormigrate_dagster.sidecar.refusals import Refusal

_LOG = logging.getLogger("vectormigrate.sidecar")


class LastResort:
    """Answer 500 with the request's number; the log gets the number, the kind of the error and where it was raised.

    An error's text may hold what a caller sent or what a database said, so neither answer nor log repeats it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let everything through but WebSockets, and answer what goes wrong."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        begun = False

        async def noticed(message: Message) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, noticed)
        except Exception as error:
            if scope["type"] != "http":
                raise
            number = scope[REQUEST_ID]
            _LOG.error("request %s failed: %s at %s", number, type(error).__name__, place_of(error))
            if begun:
                raise ConnectionAbortedError(f"request {number} failed while it was answered") from None
            message = f"something went wrong here; the operator finds it in the log as '{number}'"
            await Refusal(500, INTERNAL_ERROR, "defect", message).answer(scope, send)


def place_of(error: BaseException) -> str:
    """File, line and function of each step, without the values that a traceback's text may show."""
    steps, trace = [], error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        steps.append(f"{code.co_filename.rsplit('/', 1)[-1]}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return " < ".join(reversed(steps))
