"""A webserver of Dagster that launches nothing and remembers what it was asked to launch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from vectormigrate_dagster_tests.sidecar.faces.serving import serving


@dataclass
class StandIn:
    """What it was asked.

    Args:
        jobs: jobs that it knows.
        launched: parameters of runs, in order.
        backfills: parameters of backfills by their ids; those that were cancelled are gone.
        cancelled: runs that were cancelled.
        authorization: what the last request was signed with.
    """

    jobs: list[str]
    url: str = ""
    launched: list[dict[str, Any]] = field(default_factory=list)
    backfills: dict[str, dict[str, Any]] = field(default_factory=dict)
    cancelled: list[str] = field(default_factory=list)
    authorization: str | None = None

    async def answer(self, request: Request) -> JSONResponse:
        asked = await request.json()
        self.authorization = request.headers.get("authorization")
        query, given = asked["query"], asked["variables"]
        (name, result) = self._result(query, given)
        return JSONResponse({"data": {name: result}})

    def _result(self, query: str, given: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        if "repositoriesOrError" in query:
            node = {
                "name": "repository",
                "location": {"name": "location"},
                "pipelines": [{"name": job} for job in self.jobs],
            }
            return "repositoriesOrError", {"__typename": "RepositoryConnection", "nodes": [node]}
        if "launchRun" in query:
            self.launched.append(given["params"])
            return "launchRun", {"__typename": "LaunchRunSuccess", "run": {"runId": f"run-{len(self.launched)}"}}
        if "launchPartitionBackfill" in query:
            number = f"backfill-{len(self.backfills) + 1}"
            self.backfills[number] = given["params"]
            return "launchPartitionBackfill", {"__typename": "LaunchBackfillSuccess", "backfillId": number}
        if "partitionBackfillsOrError" in query:
            results = [{"id": each, "tags": params["tags"]} for each, params in self.backfills.items()]
            return "partitionBackfillsOrError", {"__typename": "PartitionBackfills", "results": results}
        if "cancelPartitionBackfill" in query:
            del self.backfills[given["id"]]
            return "cancelPartitionBackfill", {"__typename": "CancelBackfillSuccess"}
        self.cancelled += given["ids"]
        return "terminateRuns", {"__typename": "TerminateRunsResult"}


@contextmanager
def stand_in(jobs: list[str]) -> Iterator[StandIn]:
    """A stand-in that runs until the block ends."""
    webserver = StandIn(jobs)
    app = Starlette(routes=[Route("/prefix/graphql", webserver.answer, methods=["POST"])])
    with serving(app) as served:
        webserver.url = f"{served.url}/prefix/"
        yield webserver


def tags_of(params: dict[str, Any]) -> dict[str, str]:
    """Tags of what was launched."""
    tags = params["tags"] if "tags" in params else params["executionMetadata"]["tags"]
    return {tag["key"]: tag["value"] for tag in tags}
