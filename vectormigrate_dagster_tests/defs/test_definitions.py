"""What Dagster loads from a folder of migration files: everything, without one secret and without one connection."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

import vectormigrate_dagster.definitions as definitions
from vectormigrate_dagster.config import Migration
from vectormigrate_dagster_tests.harness import environment

FILE = """\
source: {type: qdrant, url: "http://localhost:1", collection: a, api_key_env: NOT_SET_ANYWHERE}
target: {type: milvus, path: ./b.db, collection: b}
schedule: {cron: "0 3 * * *"}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VECTORMIGRATE_MIGRATIONS", str(tmp_path))
    monkeypatch.delenv("NOT_SET_ANYWHERE", raising=False)
    return tmp_path


def load() -> dg.Definitions:
    return importlib.reload(definitions).defs


def test_everything_of_a_migration(folder: Path) -> None:
    (folder / "shop-items.v2.yaml").write_text(FILE)
    repository = load().get_repository_def()
    assert sorted(job.name for job in repository.get_all_jobs() if not job.name.startswith("__")) == [
        "shop_items_v2",
        "shop_items_v2_catch_up",
        "shop_items_v2_cutover",
        "shop_items_v2_plan",
        "shop_items_v2_repair",
        "shop_items_v2_rollback",
        "shop_items_v2_validate",
    ]
    assert sorted(sensor.name for sensor in repository.sensor_defs) == [
        "shop_items_v2_catch_up",
        "shop_items_v2_continue",
    ]
    assert [schedule.name for schedule in repository.schedule_defs] == ["shop_items_v2_missing"]
    assert sorted(key.to_user_string() for key in repository.assets_defs_by_key) == [
        "shop_items_v2",
        "shop_items_v2/changes",
        "shop_items_v2/plan",
        "shop_items_v2/state",
    ]
    checks = sorted(key.name for key in repository.asset_graph.asset_check_keys)
    assert checks == ["count", "ids", "records", "sample", "search"]


def test_every_job_asset_and_check_has_a_description(folder: Path) -> None:
    (folder / "m.yaml").write_text(FILE)
    repository = load().get_repository_def()
    for job in repository.get_all_jobs():
        if not job.name.startswith("__"):
            assert job.description
            assert all(node.definition.description for node in job.graph.nodes)
    assert all(repository.asset_graph.get(key).description for key in repository.asset_graph.get_all_asset_keys())


def test_a_broken_file_is_shown_and_spoils_nothing(folder: Path) -> None:
    (folder / "good.yaml").write_text(FILE)
    (folder / "bad.yaml").write_text(FILE.replace("target", "taget"))
    repository = load().get_repository_def()
    assert repository.has_job("good")
    broken = [key for key in repository.assets_defs_by_key if "broken" in key.to_user_string()]
    assert len(broken) == 1
    description = repository.asset_graph.get(broken[0]).description
    assert "taget" in str(description)
    assert "bad.yaml" in str(description)


def test_ids_that_become_one_job_name_are_both_refused(folder: Path) -> None:
    (folder / "a-b.yaml").write_text(FILE)
    (folder / "a.b.yaml").write_text(FILE)
    repository = load().get_repository_def()
    assert not repository.has_job("a_b")
    texts = " ".join(str(repository.asset_graph.get(key).description) for key in repository.assets_defs_by_key)
    assert "a-b.yaml" in texts
    assert "a.b.yaml" in texts


def test_no_folder_is_an_empty_location(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VECTORMIGRATE_MIGRATIONS", str(folder / "none"))
    assert not load().get_repository_def().assets_defs_by_key


def test_h30_the_launchpad_shows_the_name_of_a_secret_never_its_value(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOT_SET_ANYWHERE", "s3cr3t-value")
    (folder / "m.yaml").write_text(FILE)
    job = load().get_repository_def().get_job("m")
    snapshot = (
        json.dumps(dg.serialize_value(job.get_job_snapshot()))
        if hasattr(dg, "serialize_value")
        else repr(job.get_job_snapshot())
    )
    assert "NOT_SET_ANYWHERE" in snapshot
    assert "s3cr3t-value" not in snapshot


def test_loading_definitions_imports_no_database_client(folder: Path) -> None:
    (folder / "m.yaml").write_text(FILE)
    code = (
        "import sys, vectormigrate_dagster.definitions\n"
        "print([name for name in ('qdrant_client','pymilvus','weaviate','pinecone') if name in sys.modules])"
    )
    env = {**environment(), "VECTORMIGRATE_MIGRATIONS": str(folder)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert done.stdout.strip() == "[]"


def test_tags_let_dagster_queue_runs_on_embedded_folders(folder: Path) -> None:
    (folder / "m.yaml").write_text(FILE)
    (folder / "servers.yaml").write_text(FILE.replace("path: ./b.db", 'url: "http://localhost:2"'))
    repository = load().get_repository_def()
    assert repository.get_job("m").tags["vectormigrate/embedded"] == "yes"
    assert "vectormigrate/embedded" not in repository.get_job("servers").tags
    assert repository.get_job("m_plan").tags["vectormigrate/phase"] == "plan"


def test_definitions_of_is_all_that_the_folder_needs() -> None:
    migration = Migration.model_validate(
        {
            "id": "x",
            "source": {"type": "qdrant", "path": "/a", "collection": "c"},
            "target": {"type": "milvus", "path": "/b", "collection": "c"},
        }
    )
    assert definitions.definitions_of(migration).get_job_def("x").name == "x"
