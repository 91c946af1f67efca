"""Checks that options work on both sides of the verb and reach the services, also those that write a migration file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from vectormigrate_dagster_tests.cli.support import Services, run


def test_options_work_before_and_after_the_verb(services: Services, tmp_path: Path) -> None:
    for arguments in (
        ("--home", "h", "--migrations", "f", "plan", "m"),
        ("plan", "m", "--home", "h", "--migrations", "f"),
        ("--home", "h", "plan", "--migrations", "f", "m"),
        ("--home", "other", "plan", "m", "--home", "h", "--migrations", "f"),
    ):
        assert run(*arguments).exit_code == 0
        assert (services.context.migrations, services.context.home) == (tmp_path / "f", tmp_path / "h")


def test_folders_come_from_the_environment_or_the_current_folder(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("status", "m")
    assert (services.context.migrations, services.context.home) == (tmp_path / "migrations", tmp_path / ".dagster")
    monkeypatch.setenv("DAGSTER_HOME", "/h")
    monkeypatch.setenv("VECTORMIGRATE_MIGRATIONS", "/f")
    run("status", "m")
    assert (services.context.migrations, services.context.home) == (Path("/f"), Path("/h"))


def test_the_demo_is_wholly_inside_a_home_that_is_given(services: Services, tmp_path: Path) -> None:
    shown = run("demo", "--home", "h")
    assert (services.context.migrations, services.context.home) == (tmp_path / "h" / "migrations", tmp_path / "h")
    assert "vectormigrate --migrations=h/migrations --home=h status demo" in shown.stderr
    run("demo")
    assert (services.context.migrations, services.context.home) == (tmp_path / "migrations", tmp_path / ".dagster")


@pytest.mark.parametrize(
    ("arguments", "name", "expected"),
    [
        (("plan", "m", "--replan", "--adopt"), "plan.plan", {"profile": "sample", "replan": True, "adopt": True}),
        (("plan", "m", "--profile", "full"), "plan.plan", {"profile": "full", "replan": False, "adopt": False}),
        (("throttle", "m", "--rate", "2.5"), "control.throttle", {"rate": 2.5}),
        (("throttle", "m", "--rate", "none"), "control.throttle", {"rate": None}),
        (("validate", "m", "--full"), "validate.validate", {"sample_size": None, "full": True}),
        (
            ("validate", "m", "--full", "--workers", "2", "--again", "--seed", "3"),
            "validate.validate",
            {"full": True, "workers": 2, "again": True, "seed": 3},
        ),
        (("validate", "m", "--sample-size", "9"), "validate.validate", {"sample_size": 9, "full": False}),
        (("status", "--limit", "3", "--status", "failed"), "status.list_migrations", {"limit": 3, "status": "failed"}),
        (("ui", "--port", "4000"), "ui.ui", {"port": 4000}),
        (
            ("migrate", "m", "--dry-run", "--workers", "2", "--batch-size", "7", "--validate-every", "0"),
            "migrate.migrate",
            {"dry_run": True, "workers": 2, "batch_size": 7, "max_retries": None, "validate_every": 0},
        ),
    ],
)
def test_flags_reach_the_service(
    services: Services, arguments: tuple[str, ...], name: str, expected: dict[str, Any]
) -> None:
    assert run(*arguments).exit_code == 0
    called, _, given = services.calls[-1]
    assert called == name
    assert {key: given[key] for key in expected} == expected


########
# From flags
########

FLAGS = (
    *("--source-type", "qdrant", "--source-url", "http://h:6333", "--source-index", "films"),
    *("--target-type", "milvus", "--target-path", "data/milvus.db", "--target-index", "films"),
)


@pytest.fixture
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for side in ("SOURCE", "TARGET"):
        monkeypatch.setenv(f"VECTORMIGRATE_MIG_1_{side}_API_KEY", "old")


@pytest.mark.usefixtures("no_keys")
@pytest.mark.parametrize("way", ["-", "@key.txt", "s3cret"])
def test_a_key_reaches_the_process_and_never_the_file(services: Services, tmp_path: Path, way: str) -> None:
    (tmp_path / "key.txt").write_text("s3cret\n")

    result = run("migrate", "mig-1", *FLAGS, "--source-api-key", way, "--target-api-key", "", stdin="s3cret\n")

    text = (tmp_path / "migrations" / "mig-1.yaml").read_text()
    assert result.exit_code == 0
    assert os.environ["VECTORMIGRATE_MIG_1_SOURCE_API_KEY"] == "s3cret"
    assert "api_key_env: VECTORMIGRATE_MIG_1_SOURCE_API_KEY" in text
    assert "TARGET_API_KEY" not in text
    assert "s3cret" not in text + result.output
    assert "$VECTORMIGRATE_MIG_1_SOURCE_API_KEY" in result.stderr
    assert ("warning" in result.stderr) == (way == "s3cret")
    assert f'path: "{tmp_path / "data" / "milvus.db"}"' in text


@pytest.mark.usefixtures("no_keys")
def test_two_keys_come_from_standard_input_line_by_line(services: Services) -> None:
    run("migrate", "mig-1", *FLAGS, "--target-api-key", "-", "--source-api-key", "-", stdin="one\ntwo\n")

    keys = [os.environ[f"VECTORMIGRATE_MIG_1_{side}_API_KEY"] for side in ("SOURCE", "TARGET")]
    assert keys == ["one", "two"]


@pytest.mark.parametrize(("way", "stdin"), [("-", "\n"), ("-", ""), ("@none.txt", "")])
def test_a_key_that_is_not_there_is_an_error_and_writes_no_file(
    services: Services, tmp_path: Path, way: str, stdin: str
) -> None:
    assert run("migrate", "mig-1", *FLAGS, "--source-api-key", way, stdin=stdin).exit_code == 2
    assert not (tmp_path / "migrations").exists()
    assert services.calls == []


def test_the_original_tools_command_line_works_twice(services: Services, tmp_path: Path) -> None:
    tuning = ("--batch-size", "100", "--max-retries", "3", "--validate-every", "10")
    first = run("migrate", "mig-1", *FLAGS, *tuning)
    again = run("migrate", "mig-1", *FLAGS, "--batch-size", "50")
    other = run("migrate", "mig-1", *FLAGS, "--target-index", "other")

    assert (first.exit_code, again.exit_code, other.exit_code) == (0, 0, 2)
    assert "wrote" in first.stderr
    assert "using" in again.stderr
    assert "batch_size: 100" in (tmp_path / "migrations" / "mig-1.yaml").read_text()
    assert "names another target" in other.stderr


def test_init_writes_a_file_once(services: Services, tmp_path: Path) -> None:
    first, again = run("init", "films"), run("init", "films")

    assert str(tmp_path / "migrations" / "films.yaml") in first.stdout
    assert "vectormigrate plan films" in first.stdout
    assert again.exit_code == 2
    assert "exists already" in again.stderr
