"""Checks a cutover that is asked for, shown, confirmed and made: what the sidecar launches is run here, in process."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.defs.cutting_over import cutover_job
from vectormigrate_dagster.services.context import Context
from vectormigrate_dagster.services.migrate import migrate
from vectormigrate_dagster.services.status import status
from vectormigrate_dagster.services.validate import validate
from vectormigrate_dagster.sidecar.app import create_app
from vectormigrate_dagster.sidecar.keys import Key
from vectormigrate_dagster_tests.harness import ID, Workplace
from vectormigrate_dagster_tests.sidecar.faces.migrated import context_of, settings
from vectormigrate_dagster_tests.sidecar.faces.serving import KEY, Served, serving
from vectormigrate_dagster_tests.sidecar.faces.webserver_stand_in import StandIn, stand_in, tags_of

MASKED = Key.of(KEY, name="tests", scope="write").masked


@pytest.fixture
def context(tmp_path: Path, small_source: Endpoint) -> Context:
    """A migration that is loaded and validated, of a source of its own."""
    assert small_source.path is not None
    source = replace(small_source, path=Path(shutil.copytree(small_source.path, tmp_path / "source")))
    place = Workplace.make(tmp_path, source, "milvus")
    place.write(validation={"search": {"queries": 0}})
    assert migrate(context_of(place), ID).status == "completed"
    assert validate(context_of(place), ID, full=True).passed
    return context_of(place)


@pytest.fixture
def webserver() -> Iterator[StandIn]:
    with stand_in([f"{ID}_cutover"]) as standing:
        yield standing


@pytest.fixture
def server(context: Context, webserver: StandIn) -> Iterator[Served]:
    with serving(create_app(context, settings(enable_writes=True, webserver_url=webserver.url))) as served:
        yield served


def run_what_was_launched(context: Context, webserver: StandIn) -> None:
    """Run the job as a code server does."""
    params = webserver.launched.pop()
    assert params["selector"]["pipelineName"] == f"{ID}_cutover"
    with context.instance() as instance:
        done = cutover_job(context.migration(ID)).execute_in_process(
            run_config=params["runConfigData"], tags=tags_of(params), instance=instance
        )
    assert done.success


def confirmed(server: Served, move: str, **more: str) -> None:
    """Ask for a move in two steps."""
    shown = server.call("cutover_migration", migration_id=ID, move=move)
    assert (shown["outcome"], shown["blocked_by"], bool(shown["steps"])) == ("to_confirm", [], True)
    token = shown["confirmation"]["token"]
    done = server.call("cutover_migration", migration_id=ID, move=move, confirmation_token=token, **more)
    assert (done["outcome"], len(done["runs"])) == ("launched", 1)


def test_there_and_back(server: Served, context: Context, webserver: StandIn) -> None:
    token = server.call("cutover_migration", migration_id=ID)["confirmation"]["token"]
    for other in ({"move": "reverse"}, {"move": "complete"}):  # a token is for what was shown
        found = server.post(
            "/",
            {
                "jsonrpc": "2.0",
                "id": 1,
                "method": "cutover_migration",
                "params": {"migration_id": ID, "confirmation_token": token, **other},
            },
        ).json()
        assert "error" in found or found["result"]["outcome"] != "launched"
    assert webserver.launched == []

    confirmed(server, "cutover", reason="it is time")
    run_what_was_launched(context, webserver)

    live = status(context, ID).live
    assert (live.primary, live.changed_by, live.reason) == ("target", MASKED, "it is time")
    assert server.call("cutover_migration", migration_id=ID)["outcome"] == "nothing_to_do"

    confirmed(server, "reverse")
    run_what_was_launched(context, webserver)

    assert status(context, ID).live.primary == "source"
