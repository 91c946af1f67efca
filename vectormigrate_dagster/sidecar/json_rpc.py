"""JSON-RPC 2.0 at `POST /`, as the original tool is called: notifications and batches included."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pydantic_core
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from vectormigrate_dagster.sidecar.calls import Calls
from vectormigrate_dagster.sidecar.codes import INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, PARSE_ERROR
from vectormigrate_dagster.sidecar.principal import principal_of
from vectormigrate_dagster.sidecar.problems import Problem
from vectormigrate_dagster.sidecar.tools import Tool

_MCP_METHODS = ("initialize", "ping", "server/", "tools/", "resources/", "prompts/", "completion/", "notifications/")
_SHOWN = 64


class JsonRpc:
    """Answers requests by the table of tools.

    Args:
        table: the tools by name, which are the methods.
        calls: runs them.
        batch: requests in one batch at the most.
    """

    def __init__(self, table: Mapping[str, Tool], calls: Calls, *, batch: int) -> None:
        self._table = table
        self._calls = calls
        self._batch = batch

    async def __call__(self, request: Request) -> Response:
        """Answer one HTTP request."""
        body = await request.body()
        try:
            # Not `json.loads`, which has no limit to the depth but the stack of the interpreter.
            document = pydantic_core.from_json(body, allow_inf_nan=False)
        except ValueError:
            return _json(_failed(None, Problem(PARSE_ERROR, "the body is not JSON")), status=400)
        if not isinstance(document, list):
            answer = await self._answer(document, request.scope)
            return _json(answer, status=_status(answer))
        if not 1 <= len(document) <= self._batch:
            many = Problem(INVALID_REQUEST, f"a batch holds 1 to {self._batch} requests, not {len(document)}")
            return _json(_failed(None, many), status=400)
        answers = [await self._answer(each, request.scope) for each in document]
        return _json([answer for answer in answers if answer is not None] or None)

    async def _answer(self, asked: Any, scope: Scope) -> dict[str, Any] | None:
        """The answer to one request; None to a notification, even to one that fails."""
        if not isinstance(asked, dict) or not _is_request(asked):
            given = asked.get("id") if isinstance(asked, dict) else None
            wrong = (
                "a request is an object with 'jsonrpc': '2.0', a text 'method', and an 'id' that is a text or a number"
            )
            return _failed(given if _is_id(given) else None, Problem(INVALID_REQUEST, wrong))
        result = await self._result(asked["method"], asked.get("params"), scope)
        if "id" not in asked:
            return None
        if isinstance(result, Problem):
            return _failed(asked["id"], result)
        return {"jsonrpc": "2.0", "id": asked["id"], "result": result}

    async def _result(self, method: str, params: Any, scope: Scope) -> dict[str, Any] | Problem:
        tool = self._table.get(method)
        if tool is None:
            return self._unknown(method)
        if params is not None and not isinstance(params, dict):
            return Problem(INVALID_PARAMS, "invalid params: give them by name, as an object")
        return await self._calls.perform(tool, params, principal_of(scope), scope)

    def _unknown(self, method: str) -> Problem:
        if method.startswith(_MCP_METHODS):
            return Problem(
                METHOD_NOT_FOUND,
                "MCP is served at /mcp; here methods are called by their own names",
                {"endpoint": "/mcp"},
            )
        shown = method[:_SHOWN].encode("ascii", "backslashreplace").decode()
        return Problem(METHOD_NOT_FOUND, f"there is no method '{shown}'", {"methods": sorted(self._table)})


def _is_request(asked: dict[str, Any]) -> bool:
    return asked.get("jsonrpc") == "2.0" and isinstance(asked.get("method"), str) and _is_id(asked.get("id"))


def _is_id(id: Any) -> bool:
    # 1e400 is JSON, becomes infinity, and could not be sent back.
    return id is None or isinstance(id, str) or (isinstance(id, int | float) and _is_number(id))


def _is_number(id: float) -> bool:
    return not isinstance(id, bool) and (isinstance(id, int) or math.isfinite(id))


def _failed(id: Any, problem: Problem) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "error": problem.document()}


def _status(answer: dict[str, Any] | None) -> int:
    """HTTP's word for an answer: what was asked could not be understood, or it was answered, with an error or not."""
    unreadable = answer is not None and "error" in answer and answer["error"]["code"] == INVALID_REQUEST
    return 400 if unreadable else 200


def _json(document: Any, *, status: int = 200) -> Response:
    """A document, or where there is nothing to say HTTP's word for that."""
    return Response(status_code=202) if document is None else JSONResponse(document, status_code=status)
