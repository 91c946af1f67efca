"""Dagster's webserver, which launches and cancels runs: storage alone cannot, since a run begins in a code server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx

from vectormigrate_dagster.defs import names
from vectormigrate_dagster.errors import NotSo, Unavailable

_SECONDS = 30.0

_FIND = """
query { repositoriesOrError { __typename
  ... on RepositoryConnection { nodes { name location { name } pipelines { name } } }
  ... on PythonError { message } } }
"""
_LAUNCH = """
mutation ($params: ExecutionParams!) { launchRun(executionParams: $params) { __typename
  ... on LaunchRunSuccess { run { runId } }
  ... on RunConfigValidationInvalid { errors { message } }
  ... on PythonError { message }
  ... on PipelineNotFoundError { message }
  ... on UnauthorizedError { message } } }
"""
_BACKFILL = """
mutation ($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) { __typename
  ... on LaunchBackfillSuccess { backfillId }
  ... on PartitionKeysNotFoundError { message }
  ... on PartitionSetNotFoundError { message }
  ... on PythonError { message }
  ... on UnauthorizedError { message } } }
"""
_BACKFILLS = """
query ($filters: BulkActionsFilter!) { partitionBackfillsOrError(filters: $filters, limit: 100) { __typename
  ... on PartitionBackfills { results { id tags { key value } } }
  ... on PythonError { message } } }
"""
_CANCEL_BACKFILL = """
mutation ($id: String!) { cancelPartitionBackfill(backfillId: $id) { __typename
  ... on PythonError { message }
  ... on UnauthorizedError { message } } }
"""
_CANCEL_RUNS = """
mutation ($ids: [String!]!) { terminateRuns(runIds: $ids, terminatePolicy: SAFE_TERMINATE) { __typename
  ... on PythonError { message } } }
"""


class Webserver:
    """A webserver by its address; every call is one request, or two, and no state is kept between them.

    Args:
        url: as a browser has it, `http://127.0.0.1:3000`; a path before `/graphql` is kept. User and password in it are
            sent and never shown.

    Raises (every method):
        Unavailable: it does not answer, or not as a webserver of Dagster does.
        NotSo: it refuses.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url.rstrip("/"))
        given, _, host = parts.netloc.rpartition("@")
        user, _, password = given.partition(":")
        self.url = parts._replace(netloc=host).geturl()
        self._auth = (unquote(user), unquote(password)) if given else None

    def launch(self, job: str, *, tags: Mapping[str, str], ops: Mapping[str, Any] | None = None) -> str:
        """Launch a run of a job, without a partition; return its id.

        Args:
            ops: name of an op -> its configuration.
        """
        config = {"ops": {name: {"config": settings} for name, settings in (ops or {}).items()}}
        params = {
            "selector": {**self._repository_of(job), "pipelineName": job},
            "mode": "default",
            "runConfigData": config,
            "executionMetadata": {"tags": _pairs(tags)},
        }
        return str(self._ask(_LAUNCH, "LaunchRunSuccess", params=params)["run"]["runId"])

    def backfill(self, job: str, keys: Sequence[str], *, tags: Mapping[str, str], title: str) -> str:
        """Launch a run of a job for each of some partitions, as "Launch backfill" does; return the backfill's id."""
        params = {
            "selector": {
                "partitionSetName": names.partition_set_name(job),
                "repositorySelector": self._repository_of(job),
            },
            "partitionNames": list(keys),
            "tags": _pairs(tags),
            "title": title,
        }
        return str(self._ask(_BACKFILL, "LaunchBackfillSuccess", params=params)["backfillId"])

    def backfills(self, tags: Mapping[str, str]) -> list[str]:
        """Backfills with these tags that still launch runs."""
        found = self._ask(_BACKFILLS, "PartitionBackfills", filters={"statuses": ["REQUESTED"]})
        wanted = tags.items()
        return [
            str(each["id"])
            for each in found["results"]
            if wanted <= {tag["key"]: tag["value"] for tag in each["tags"]}.items()
        ]

    def cancel_backfill(self, id: str) -> None:
        """Launch no more runs of a backfill and end those that it has launched."""
        self._ask(_CANCEL_BACKFILL, "CancelBackfillSuccess", id=id)

    def cancel(self, runs: Sequence[str]) -> None:
        """End runs; one that waits in the queue ends at once."""
        if runs:
            self._ask(_CANCEL_RUNS, "TerminateRunsResult", ids=list(runs))

    def _repository_of(self, job: str) -> dict[str, str]:
        found = self._ask(_FIND, "RepositoryConnection")
        for node in found["nodes"]:
            if any(pipeline["name"] == job for pipeline in node["pipelines"]):
                return {"repositoryName": node["name"], "repositoryLocationName": node["location"]["name"]}
        raise NotSo(
            f"Dagster's webserver at '{self.url}' knows no job '{job}'; if its migration file is new, reload the code "
            "location there, and see that it reads the same folder of migrations"
        )

    def _ask(self, query: str, expected: str, **variables: Any) -> dict[str, Any]:
        """The one field of a GraphQL answer, which must be of the type `expected`."""
        try:
            asked = {"query": query, "variables": variables}
            answer = httpx.post(f"{self.url}/graphql", json=asked, auth=self._auth, timeout=_SECONDS)
            answer.raise_for_status()
            document = answer.json()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise Unavailable(
                f"Dagster's webserver at '{self.url}' does not answer: {error}; start it with 'vectormigrate ui', or "
                "set DAGSTER_WEBSERVER_URL to where it is"
            ) from error
        if not isinstance(document, dict) or not document.get("data"):
            raise Unavailable(f"'{self.url}' does not answer as Dagster's webserver does: {str(document)[:300]}")
        (field,) = document["data"].values()
        if field is None:
            raise Unavailable(f"Dagster's webserver at '{self.url}' failed: {str(document.get('errors'))[:300]}")
        if field["__typename"] != expected:
            why = field.get("message") or "; ".join(each["message"] for each in field.get("errors", ()))
            raise NotSo(f"Dagster's webserver refuses: {field['__typename']}: {why}")
        return dict(field)


def _pairs(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in tags.items()]
