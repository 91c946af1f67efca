"""Checks what each writing tool launches and refuses to launch, against a webserver that only remembers it."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import yaml

from vectormigrate_dagster.services.webserver import Webserver
from vectormigrate_dagster.sidecar.app import create_app
from vectormigrate_dagster.sidecar.keys import Key, KeyRing
from vectormigrate_dagster_tests.harness import ID, Workplace, side_of
from vectormigrate_dagster_tests.sidecar.faces.migrated import PLANNED, UNTOUCHED, context_of, settings
from vectormigrate_dagster_tests.sidecar.faces.serving import KEY, Served, serving
from vectormigrate_dagster_tests.sidecar.faces.webserver_stand_in import StandIn, stand_in, tags_of

OTHER = "another-key-that-may-write"
MASKED = Key.of(KEY, name="tests", scope="write").masked
TOOLS = [
    *("migration_status", "list_migrations", "schema_recommendation", "start_migration", "stop_migration"),
    *("validate_migration", "rollback_migration", "cutover_migration"),
]


@pytest.fixture(scope="module")
def standing() -> Iterator[StandIn]:
    jobs = [
        f"{name}{end}" for name in (ID, "planned_only") for end in ("_plan", "", "_validate", "_rollback", "_cutover")
    ]
    with stand_in(jobs) as standing:
        yield standing


@pytest.fixture(scope="module")
def writing(migrated: Workplace, standing: StandIn) -> Iterator[Served]:
    given = settings(enable_writes=True, webserver_url=standing.url)
    keys = KeyRing([*given.keys.keys, Key.of(OTHER, name="other", scope="write")])
    with serving(create_app(context_of(migrated), replace(given, keys=keys))) as served:
        yield served


@pytest.fixture
def webserver(standing: StandIn) -> StandIn:
    """A webserver that was asked for nothing yet."""
    for asked in (standing.launched, standing.backfills, standing.cancelled):
        asked.clear()
    return standing


@pytest.fixture
def server(writing: Served, webserver: StandIn) -> Served:
    """A sidecar that writes, asked with the key of the original's examples."""
    writing.key = KEY
    return writing


def test_tools_that_write_are_listed_where_they_are_enabled(server: Served) -> None:
    assert server.error("unknown")["data"]["methods"] == sorted(TOOLS)


def test_start_launches_the_plan_that_its_load_follows(server: Served, webserver: StandIn) -> None:
    done = server.call("start_migration", migration_id=PLANNED)

    assert (done["outcome"], done["runs"], bool(done["plan"])) == ("launched", ["run-1"], True)
    (params,) = webserver.launched
    assert params["selector"]["pipelineName"] == "planned_only_plan"
    assert params["selector"]["repositoryLocationName"] == "location"
    assert tags_of(params) == {
        "vectormigrate/migration": PLANNED,
        "vectormigrate/principal": MASKED,
        "vectormigrate/continue": "load",
    }


def test_user_and_password_of_the_webserver_are_sent_and_not_shown(webserver: StandIn) -> None:
    client = Webserver(webserver.url.replace("http://", "http://me:hunter%402@"))

    assert client.backfills({}) == []
    assert webserver.authorization == f"Basic {base64.b64encode(b'me:hunter@2').decode()}"
    assert client.url == webserver.url.rstrip("/")


def test_start_of_what_is_loaded_does_nothing(server: Served, webserver: StandIn) -> None:
    assert server.call("start_migration", migration_id=ID)["outcome"] == "nothing_to_do"
    assert webserver.launched == []


def test_start_of_a_job_that_the_webserver_does_not_know(server: Served) -> None:
    error = server.error("start_migration", migration_id=UNTOUCHED)

    assert error["code"] == -32013
    assert "reload the code location" in error["message"]


def test_start_takes_names_and_nothing_else(server: Served, webserver: StandIn) -> None:
    for more in ({"source_url": "http://10.0.0.1"}, {"api_key": "x"}, {"migration_id": "http://10.0.0.1"}):
        assert server.error("start_migration", **{"migration_id": ID, **more})["code"] == -32602
    assert webserver.launched == []


def test_start_after_the_file_was_changed_says_so(server: Served, migrated: Workplace, webserver: StandIn) -> None:
    path = migrated.migrations / f"{PLANNED}.yaml"
    before = path.read_text()
    file = {**yaml.safe_load(before), "source": {**side_of(migrated.source), "collection": "others"}}
    try:
        path.write_text(yaml.safe_dump(file))
        error = server.error("start_migration", migration_id=PLANNED)
    finally:
        path.write_text(before)

    assert (error["code"], error["data"]["type"]) == (-32013, "PlanOutdated")
    assert webserver.launched == []


@pytest.mark.parametrize(
    ("given", "config"),
    [
        ({}, {"sample_size": 1000}),
        ({"sample_size": "50", "seed": 3.0}, {"sample_size": 50, "seed": 3}),
        ({"full": True}, None),
        ({"full": True, "seed": 4}, {"seed": 4}),
    ],
)
def test_validate(server: Served, webserver: StandIn, given: dict[str, Any], config: dict[str, Any] | None) -> None:
    done = server.call("validate_migration", migration_id=ID, **given)

    assert (done["action"], done["outcome"]) == ("validate", "launched")
    (params,) = webserver.launched
    assert params["selector"]["pipelineName"] == f"{ID}_validate"
    ops = {} if config is None else {"validate_all": {"config": config}}
    assert params["runConfigData"] == {"ops": ops}


def test_validate_needs_a_plan(server: Served) -> None:
    assert server.error("validate_migration", migration_id=UNTOUCHED)["data"]["type"] == "PlanOutdated"


def test_stop_of_what_does_not_run(server: Served, webserver: StandIn) -> None:
    done = server.call("stop_migration", migration_id=ID)

    assert done["outcome"] == "nothing_to_do"
    assert webserver.cancelled == []


def test_rollback_needs_the_token_of_its_first_call(server: Served, webserver: StandIn) -> None:
    shown = server.call("rollback_migration", migration_id=ID)
    assert (shown["outcome"], len(shown["steps"])) == ("to_confirm", 3)
    token = shown["confirmation"]["token"]

    server.key = OTHER
    assert server.error("rollback_migration", migration_id=ID, confirmation_token=token)["code"] == -32013
    server.key = KEY
    # Whoever tries a token uses it up.
    assert server.error("rollback_migration", migration_id=ID, confirmation_token=token)["code"] == -32013
    assert webserver.backfills == {}

    token = server.call("rollback_migration", migration_id=ID)["confirmation"]["token"]
    done = server.call("rollback_migration", migration_id=ID, confirmation_token=token)
    assert (done["outcome"], done["backfill"]) == ("launched", "backfill-1")
    params = webserver.backfills["backfill-1"]
    assert params["selector"]["partitionSetName"] == f"{ID}_rollback_partition_set"
    assert len(params["partitionNames"]) == 4
    assert tags_of(params)["vectormigrate/principal"] == MASKED
    again = server.call("rollback_migration", migration_id=ID)
    assert (again["outcome"], again["backfill"]) == ("already_running", "backfill-1")
    # And stopping ends the backfill.
    server.call("stop_migration", migration_id=ID)
    assert webserver.backfills == {}


def test_cutover_says_what_blocks_it_and_gives_no_token(server: Served, webserver: StandIn) -> None:
    shown = server.call("cutover_migration", migration_id=ID)

    assert (shown["outcome"], shown["confirmation"]) == ("to_confirm", None)
    assert shown["blocked_by"]
    assert shown["steps"]
    assert webserver.launched == []


def test_changes_are_noted_by_those_who_may_write(server: Served) -> None:
    answer = server.post("/v1/changes", {"migration_id": ID, "ids": [17, "18", 17]})
    assert (answer.status_code, answer.json()["noted"]) == (200, 2)

    def code(body: Any) -> tuple[int, int]:
        answer = server.post("/v1/changes", body)
        return answer.status_code, answer.json()["error"]["code"]

    assert code({"migration_id": ID, "ids": ["not-an-id"]}) == (400, -32602)
    assert code({"migration_id": ID, "ids": []}) == (400, -32602)
    assert code({"migration_id": "nobody", "ids": ["1"]}) == (404, -32012)
    assert code({"migration_id": UNTOUCHED, "ids": ["1"]}) == (409, -32013)
    assert code(b"{") == (400, -32700)
    server.key = "only-reads"
    assert code({"migration_id": ID, "ids": ["1"]}) == (403, -32011)


def test_stop_before_there_is_a_plan(server: Served, webserver: StandIn) -> None:
    done = server.call("stop_migration", migration_id=UNTOUCHED)

    assert (done["outcome"], done["plan"]) == ("nothing_to_do", None)
    assert webserver.cancelled == []
