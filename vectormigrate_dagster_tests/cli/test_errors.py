"""Checks exit codes, and that errors are one line that says what to do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from vectormigrate_dagster.cli import cli
from vectormigrate_dagster.errors import ConfigurationError, NotSo, PlanRefused, Stopped, Throttled, Unavailable
from vectormigrate_dagster.services.models import (
    DemoValidation,
)
from vectormigrate_dagster_tests.cli.support import DEMO, IMPORT_FILES, LOOKUP, STATUS, VALIDATION, Services, run


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigurationError("x"), 2),
        (PlanRefused("x"), 2),
        (NotSo("x"), 1),
        (Throttled("x"), 3),
        (Unavailable("x"), 3),
        (Stopped("x"), 130),
        (KeyboardInterrupt(), 130),
    ],
)
def test_each_error_has_its_exit_code(services: Services, error: BaseException, code: int) -> None:
    services.answers["plan.plan"] = error

    result = run("plan", "m")

    assert result.exit_code == code
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


def test_the_traceback_is_shown_on_request(services: Services) -> None:
    services.answers["plan.plan"] = NotSo("not so")

    assert run("plan", "m").stderr == "error: not so\n"
    shown = run("plan", "m", "--verbose").stderr
    assert shown.startswith("Traceback")
    assert shown.endswith("error: not so\n")


@pytest.mark.parametrize("error", [Unavailable("no route"), Stopped("stopped on request")])
def test_what_was_noted_on_an_error_is_told(services: Services, error: Exception) -> None:
    """Such as that indexing of the target is still put off, whatever else went wrong."""
    error.add_note("and the index is put off")
    services.answers["migrate.migrate"] = error

    told = run("migrate", "m").stderr.splitlines()[-1]
    assert told.startswith(f"error: {error}; ")
    assert told.endswith("; and the index is put off")
    document = json.loads(run("migrate", "m", "--json").stdout)
    assert document["error"]["message"].endswith("; and the index is put off")


@pytest.mark.parametrize(
    ("name", "answer", "arguments", "code"),
    [
        ("validate.validate", VALIDATION.model_copy(update={"passed": False}), ("validate", "m"), 1),
        ("migrate.migrate", STATUS.model_copy(update={"status": "failed"}), ("migrate", "m"), 1),
        ("migrate.migrate", STATUS.model_copy(update={"status": "stopped"}), ("migrate", "m"), 130),
        ("migrate.migrate", STATUS.model_copy(update={"status": "planned"}), ("migrate", "m", "--dry-run"), 0),
        ("status.status", STATUS.model_copy(update={"status": "failed"}), ("status", "m"), 0),
        ("lookup.lookup", LOOKUP.model_copy(update={"source": LOOKUP.target}), ("lookup", "m", "17"), 1),
        (
            "bulk_export.export_for_import",
            IMPORT_FILES.model_copy(update={"refused": 2, "refused_file": "/out/refused.jsonl"}),
            ("export", "m", "--to", "out", "--for-import"),
            1,
        ),
        (
            "demo.demo",
            DEMO.model_copy(update={"validation": DemoValidation(passed=False, tiers={"ids": False})}),
            ("demo",),
            1,
        ),
    ],
)
def test_an_answer_that_is_not_so_has_its_exit_code(
    services: Services, name: str, answer: Any, arguments: tuple[str, ...], code: int
) -> None:
    services.answers[name] = answer

    assert run(*arguments).exit_code == code
    assert run(*arguments, "--json").exit_code == code


@pytest.mark.parametrize(
    "arguments",
    [
        *(("nonsense",), ("plan",), ("plan", "m", "--nonsense"), ("plan", "m", "--adopt"), ("throttle", "m")),
        *(("throttle", "m", "--rate", "0"), ("throttle", "m", "--rate", "nan"), ("throttle", "m", "--rate", "x")),
        *(("validate", "m", "--full", "--sample-size", "5"), ("validate", "m", "--sample-size", "0")),
        *(("status", "--watch"), ("export", "m"), ("export", "m", "--to", "x", "--create"), ("ui", "--port", "0")),
        *(("migrate", "m", "--source-type", "qdrant"), ("--nonsense",), ()),
    ],
    ids=" ".join,
)
def test_usage_errors_exit_2_and_call_nothing(services: Services, arguments: tuple[str, ...]) -> None:
    result = run(*arguments)

    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Usage: " in result.stderr
    assert services.calls == []


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (KeyboardInterrupt(), 130),
        (Stopped("stopped on request; go on with 'vectormigrate migrate m'"), 130),
        (Unavailable("'h' does not answer"), 3),
    ],
)
def test_what_interrupts_a_migration_says_how_to_go_on(services: Services, error: BaseException, code: int) -> None:
    services.answers["migrate.migrate"] = error

    result = run("--home", "my home", "migrate", "m")

    assert result.exit_code == code
    assert result.stderr.count("go on with") == 1
    assert "go on with: vectormigrate '--home=my home' migrate m" in result.stderr


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Stopped("reading was stopped")], ids=["at once", "asked"])
@pytest.mark.parametrize(
    ("name", "arguments", "line"),
    [
        ("plan.plan", ("plan", "m"), "there is no new plan; plan again with: vectormigrate plan m"),
        (
            "plan.plan",
            ("plan", "m", "--replan", "--adopt"),
            "there is no new plan; plan again with: vectormigrate plan m --replan --adopt",
        ),
        ("repair.repair", ("repair", "m"), "what was written is right; go on with: vectormigrate repair m"),
        ("validate.validate", ("validate", "m"), "nothing is recorded; validate again with: vectormigrate validate m"),
        (
            "validate.validate",
            ("validate", "m", "--full"),
            "what was compared is recorded; go on with: vectormigrate validate m --full",
        ),
    ],
)
def test_what_interrupts_a_look_says_how_to_begin_again(
    services: Services, error: BaseException, name: str, arguments: tuple[str, ...], line: str
) -> None:
    services.answers[name] = error

    result = run(*arguments)

    assert result.exit_code == 130
    assert result.stderr == f"error: interrupted; {line}\n"


########
# The process
########


def vectormigrate(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-c", "from vectormigrate_dagster.cli import main; main()", *arguments]
    return subprocess.run(program, capture_output=True, text=True, check=False, **options)


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from vectormigrate_dagster.cli import cli\n"
        "try: cli(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'dagster', 'numpy', 'pydantic', 'yaml', 'pyarrow', 'qdrant_client', 'pymilvus', 'rich'}\n"
        "heavy &= set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert "Exit codes:" in done.stdout


def test_errors_of_a_real_process(tmp_path: Path) -> None:
    unknown = vectormigrate("init", "a/b", cwd=tmp_path)
    assert unknown.returncode == 2
    assert unknown.stderr.startswith("error: 'a/b' cannot be the id of a migration")
    assert unknown.stdout == ""

    missing = vectormigrate("status", "nothing", "--json", cwd=tmp_path)
    assert missing.returncode == 2
    assert json.loads(missing.stdout)["error"]["type"] == "UnknownMigration"
    assert "there is no migration 'nothing'" in missing.stderr


def test_every_verb_has_help() -> None:
    for name, command in cli.commands.items():
        shown = run(name, "--help")
        assert shown.exit_code == 0
        assert command.help
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, (name, parameter.name)
