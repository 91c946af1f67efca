"""`POST /v1/changes`: what an application has changed while its collection moves, told without `DualWriter`."""

from __future__ import annotations

import pydantic_core
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from vectormigrate_dagster.model import IdKind
from vectormigrate_dagster.services.context import Context
from vectormigrate_dagster.services.live import report_changes
from vectormigrate_dagster.services.models import ChangesDocument
from vectormigrate_dagster.sidecar.calls import Calls
from vectormigrate_dagster.sidecar.codes import (
    FORBIDDEN,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    NOT_SO,
    PARSE_ERROR,
    UNAVAILABLE,
    UNKNOWN_MIGRATION,
)
from vectormigrate_dagster.sidecar.inputs import ChangesInput
from vectormigrate_dagster.sidecar.principal import Principal, principal_of
from vectormigrate_dagster.sidecar.problems import Problem
from vectormigrate_dagster.sidecar.tools import Tool

PATH = "/v1/changes"

_STATUS = {
    PARSE_ERROR: 400,
    INVALID_PARAMS: 400,
    FORBIDDEN: 403,
    UNKNOWN_MIGRATION: 404,
    NOT_SO: 409,
    INTERNAL_ERROR: 500,
    UNAVAILABLE: 503,
}


def changes_route(context: Context, calls: Calls) -> Route:
    """The route; ids are noted in the journal of the migration, whose database is all that is opened."""

    def note(given: ChangesInput, _: Principal) -> ChangesDocument:
        kind = None if given.kind is None else IdKind(given.kind)
        return report_changes(context, given.migration_id, given.ids, given.scope, kind)

    tool = Tool(
        name="report_changes",
        title="Report changes",
        description="Note records that the application has changed; catch-up carries them over.",
        input=ChangesInput,
        output=ChangesDocument,
        run=note,
        scope="write",
        read_only=False,
    )

    async def post(request: Request) -> Response:
        try:
            document = pydantic_core.from_json(await request.body(), allow_inf_nan=False)
        except ValueError:
            return _answer(Problem(PARSE_ERROR, "the body is not JSON"))
        return _answer(await calls.perform(tool, document, principal_of(request.scope), request.scope))

    return Route(PATH, post, methods=["POST"])


def _answer(result: object) -> Response:
    if isinstance(result, Problem):
        return JSONResponse({"error": result.document()}, status_code=_STATUS.get(result.code, 500))
    return JSONResponse(result)
