"""Checks that `--json` prints exactly one document, errors included, of the shape that others rely on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from vectormigrate_dagster.errors import Unavailable
from vectormigrate_dagster_tests.cli.support import VERBS_WITH_JSON, Services, run


@pytest.mark.parametrize("arguments", VERBS_WITH_JSON, ids=" ".join)
def test_json_is_exactly_one_document(services: Services, arguments: tuple[str, ...]) -> None:
    for placed in ((*arguments, "--json"), (arguments[0], "--json", *arguments[1:])):
        result = run(*placed)
        assert result.exit_code == 0
        assert isinstance(json.loads(result.stdout), dict)


@pytest.mark.parametrize("arguments", VERBS_WITH_JSON, ids=" ".join)
def test_an_error_is_one_document_too(services: Services, arguments: tuple[str, ...]) -> None:
    services.answers = dict.fromkeys(services.answers, Unavailable("'h:1' does not answer"))

    result = run(*arguments, "--json")

    assert result.exit_code == 3
    assert json.loads(result.stdout) == {
        "error": {"type": "Unavailable", "message": "'h:1' does not answer", "exit_code": 3}
    }
    assert "error: 'h:1' does not answer\n" in result.stderr


def test_a_usage_error_is_one_document_too(services: Services) -> None:
    for arguments, message in (
        (("plan", "--json"), "Missing argument 'ID'."),
        (("status", "m", "--watch", "--json"), "--watch needs an ID, and cannot go with --json"),
    ):
        result = run(*arguments)
        assert result.exit_code == 2
        assert json.loads(result.stdout)["error"]["message"] == message


def test_a_defect_is_one_document_and_a_traceback(services: Services) -> None:
    services.answers["plan.plan"] = KeyError("x")

    result = run("plan", "m", "--json")

    assert json.loads(result.stdout)["error"]["type"] == "KeyError"
    assert isinstance(result.exception, KeyError)


def test_the_status_document_has_the_shape_that_others_rely_on(services: Services) -> None:
    document = json.loads(run("status", "m", "--json").stdout)

    assert document["progress"] == {"total_records": 10000, "migrated_records": 5432, "percentage": 54.32}
    assert document["started_at"] == "2026-02-22T10:00:00Z"
    assert document["ended_at"] is None
    assert document["live"] == {
        **dict.fromkeys(
            ("state", "primary", "epoch", "lag_records", "lag_seconds", "open", "unlike", "changed_by", "reason", "at")
        ),
        "compared": 0,
        "parts": 0,
        "can_cut_over": False,
        "blocked_by": [],
    }
    assert list(document) == [
        *("migration_id", "status", "phase", "progress", "batches_processed", "started_at", "ended_at"),
        *("rate_per_second", "eta_seconds", "partitions", "skipped", "refused", "vanished"),
        *("source", "target", "indexing", "loss", "validation", "live", "last_error", "stale_seconds", "runs"),
    ]


def test_what_native_code_and_children_print_stays_out_of_the_document(tmp_path: Path) -> None:
    program = (
        "import os, subprocess, sys, types\n"
        "from vectormigrate_dagster_tests.cli.support import PLAN\n"
        "from vectormigrate_dagster.cli import main\n"
        "def plan(*a, **k):\n"
        "    os.write(1, b'native\\n'); sys.stdout.write('python\\n'); subprocess.run(['echo', 'child']); return PLAN\n"
        "module = types.ModuleType('vectormigrate_dagster.services.plan'); module.plan = plan\n"
        "sys.modules[module.__name__] = module\n"
        "sys.argv = ['vectormigrate', 'plan', 'm', '--json']\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert json.loads(done.stdout)["migration_id"] == "m"
    assert sorted(done.stderr.split()) == ["child", "native", "python"]
