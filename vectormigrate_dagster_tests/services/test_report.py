"""Checks `validate --queries` and `--report`: a page, its data beside it, and refusals before any work is done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from vectormigrate_dagster.errors import ConfigurationError
from vectormigrate_dagster.migration_file import load_migration
from vectormigrate_dagster.services.report import check_report, write_report
from vectormigrate_dagster.services.validate import validate
from vectormigrate_dagster.validation import ValidationReport
from vectormigrate_dagster_tests.conftest import SMALL
from vectormigrate_dagster_tests.harness import ID, Workplace
from vectormigrate_dagster_tests.services.conftest import context_of


def test_the_command_searches_for_given_queries_and_writes_a_report(finished: Workplace, tmp_path: Path) -> None:
    np.save(tmp_path / "queries.npy", SMALL.vectors[:7] + 0.01)
    page = tmp_path / "report.html"
    done = finished.call("validate", ID, "--queries", str(tmp_path / "queries.npy"), "--report", str(page), "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert next(tier["checked"] for tier in told["tiers"] if tier["name"] == "search") == 7
    assert "<h1>moving</h1>" in page.read_text(encoding="utf-8")
    data = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    report = ValidationReport.model_validate(data["report"])
    assert report.compute_digest() == report.digest == told["digest"]
    assert report.tier("search").projection is not None
    assert str(finished.target.path) in data["target"]


def test_a_file_that_is_no_report_is_not_replaced(finished: Workplace, tmp_path: Path) -> None:
    other = tmp_path / "package.json"
    other.write_text('{"name": "not ours"}')
    done = finished.call("validate", ID, "--report", str(tmp_path / "package.html"))
    assert done.returncode == 2
    assert "which is something else" in done.stderr
    assert other.read_text() == '{"name": "not ours"}'
    assert not (tmp_path / "package.html").exists()
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(ConfigurationError, match="is a folder"):
        check_report(tmp_path / "folder.html")


def test_a_report_is_replaced_whole_or_not_at_all(finished: Workplace, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    migration = load_migration(finished.migrations / f"{ID}.yaml")
    report = ValidationReport.of(seconds=1.0).sealed(skipped=("half of a pair: \ud800",))
    write_report(page, migration, report)
    assert "\\ud800" in page.read_text(encoding="utf-8")
    check_report(page)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert {path.name for path in before} == {"report.html", "report.json"}

    def full_disk(self: Path, *_: Any, **__: Any) -> int:
        self.touch()
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "write_text", full_disk)
        with pytest.raises(ConfigurationError, match="No space left"):
            write_report(page, migration, report.sealed(skipped=()))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--report", "report.txt"], "its name must end in .html or .htm"),
        (["--report", "nowhere/report.html"], "there is no folder 'nowhere'"),
        (["--queries", "nothing.npy"], "there is no file 'nothing.npy'"),
    ],
)
def test_what_cannot_be_written_or_read_is_refused_first(finished: Workplace, options: list[str], message: str) -> None:
    done = finished.call("validate", ID, *options)
    assert done.returncode == 2
    assert message in done.stderr


def test_queries_of_the_migration_file_are_found_beside_it(finished: Workplace, tmp_path: Path) -> None:
    file = tmp_path / f"{ID}.yaml"
    content = yaml.safe_load((finished.migrations / f"{ID}.yaml").read_text())
    content["validation"] = {"search": {"queries_file": "queries.npy", "filter": None}}
    file.write_text(yaml.safe_dump(content))
    search = load_migration(file).validation.search
    assert (search.queries_file, search.filter) == (tmp_path / "queries.npy", None)
    original = (finished.migrations / f"{ID}.yaml").read_text()
    try:
        (finished.migrations / f"{ID}.yaml").write_text(yaml.safe_dump(content))
        with pytest.raises(ConfigurationError, match="there is no file"):
            validate(context_of(finished), ID)
    finally:
        (finished.migrations / f"{ID}.yaml").write_text(original)
