"""`export --for-import` writes what `migrate` would, in the target's own layout; a real Milvus takes it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr
from pymilvus import MilvusClient

from vectormigrate_dagster import databases
from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.databases.bulk_files import BulkFiles
from vectormigrate_dagster.errors import ConfigurationError, PlanOutdated
from vectormigrate_dagster.model import Batch, CollectionSchema, Dense, IdColumn, IdKind, IdSchema
from vectormigrate_dagster.services import bulk_writer
from vectormigrate_dagster.services.bulk_export import export_for_import
from vectormigrate_dagster.services.bulk_writer import FolderWriter
from vectormigrate_dagster.services.plan import plan
from vectormigrate_dagster_tests.conftest import SMALL, Collections
from vectormigrate_dagster_tests.emulators.pinecone import PineconeStandIn
from vectormigrate_dagster_tests.harness import COLLECTION, ID, KEY_VARIABLES, Workplace, schema, until
from vectormigrate_dagster_tests.services.conftest import context_of


@pytest.fixture
def to_pinecone(
    tmp_path: Path, small_source: Endpoint, pinecone_stand_in: PineconeStandIn, monkeypatch: pytest.MonkeyPatch
) -> Workplace:
    monkeypatch.setenv(KEY_VARIABLES["pinecone"], pinecone_stand_in.api_key)
    target = Endpoint(
        type="pinecone", url=pinecone_stand_in.url, api_key=SecretStr(pinecone_stand_in.api_key), collection="copies"
    )
    return Workplace.make(tmp_path, small_source, target)


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [row for file in sorted(folder.glob("*.parquet")) for row in pq.ParquetFile(file).read().to_pylist()]


def test_pinecones_files_hold_every_record(to_pinecone: Workplace, tmp_path: Path) -> None:
    plan(context_of(to_pinecone), ID)
    document = export_for_import(context_of(to_pinecone), ID, to=tmp_path / "out")
    assert (document.records, document.refused, document.refused_file) == (len(SMALL), 0, None)
    assert [(scope.scope, scope.folder) for scope in document.scopes] == [(None, "__default__")]
    rows = {row["id"]: row for row in rows_of(tmp_path / "out" / "import" / "__default__")}
    assert rows.keys() == {str(number) for number in range(1, len(SMALL) + 1)}
    for number in (1, 150, 300):
        row = rows[str(number)]
        assert np.asarray(row["values"], dtype=np.float32).tobytes() == SMALL.vectors[number - 1].tobytes()
        assert json.loads(row["metadata"])["name"] == f"thing {number}"
    assert document.steps[-1] == f"prove it: vectormigrate validate {ID} --full"
    assert "start_import(uri='s3://BUCKET/import/'" in document.steps[1]
    with databases.open_source(to_pinecone.target) as target, pytest.raises(Exception, match="copies"):
        target.describe()  # nothing was made there


def test_it_needs_a_plan(to_pinecone: Workplace, tmp_path: Path) -> None:
    with pytest.raises(PlanOutdated, match="has no plan"):
        export_for_import(context_of(to_pinecone), ID, to=tmp_path / "out")


def test_a_folder_with_something_in_it_is_left_alone(to_pinecone: Workplace, tmp_path: Path) -> None:
    plan(context_of(to_pinecone), ID)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(ConfigurationError, match="is not an empty folder"):
        export_for_import(context_of(to_pinecone), ID, to=tmp_path / "out")


def test_milvus_imports_them_and_validates(
    tmp_path: Path, small_source: Endpoint, milvus_collections: Collections
) -> None:
    place = Workplace.make(tmp_path, small_source, milvus_collections("imported"))
    assert place.call("plan", ID).returncode == 0
    done = place.call("export", ID, "--to", str(tmp_path / "out"), "--for-import", "--create", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["records"], document["refused"]) == (len(SMALL), 0)
    files = sorted((tmp_path / "out" / "import" / "_default").iterdir())
    insert(place.target, files)
    with databases.open_source(place.target) as target:
        until(lambda: target.count() == len(SMALL))
    validated = place.call("validate", ID, "--full", "--json")
    assert validated.returncode == 0, validated.stdout
    assert json.loads(validated.stdout)["passed"]
    with databases.open_target(place.target) as target:
        target.drop()


def insert(target: Endpoint, files: list[Path]) -> None:
    """Let the server read the files, as `pymilvus.utility.do_bulk_insert` asks it to."""
    client = MilvusClient(target.url)
    handler = client._get_connection() if hasattr(client, "_get_connection") else client._handler
    for file in files:
        task = handler.do_bulk_insert(target.collection, None, [str(file)])
        until(lambda task=task: handler.get_bulk_insert_state(task, timeout=10).state_name in ("Completed", "Failed"))  # type: ignore[misc]
        state = handler.get_bulk_insert_state(task, timeout=10)
        assert state.state_name == "Completed", state.failed_reason
    client.close()


def test_no_collection_is_made_for_what_was_taken_back(to_pinecone: Workplace, tmp_path: Path) -> None:
    plan(context_of(to_pinecone), ID)
    assert to_pinecone.call("rollback", ID, "--force").returncode == 0
    done = to_pinecone.call("export", ID, "--to", str(tmp_path / "out"), "--for-import", "--create")
    assert (done.returncode, "was rolled back" in done.stderr) == (1, True), done.stderr
    assert not (tmp_path / "out").exists()


########################################################################
# The writer
########################################################################


class Plain(BulkFiles):
    """Ids only."""

    max_file_bytes = 1000

    def folder_of(self, scope: str | None) -> str:
        return scope or "none"

    def table_of(self, batch: Batch) -> tuple[pa.Table, list[databases.Refusal]]:
        raise NotImplementedError

    def steps(self, folder: Path, scopes: Any) -> tuple[str, ...]:
        raise NotImplementedError


def plain() -> Plain:
    made = CollectionSchema(name="x", ids=IdSchema(kinds=(IdKind.I64,)))
    return Plain(Endpoint(type="milvus", url="http://there", collection="x"), made)


def test_files_and_row_groups_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_writer, "_GROUP_BYTES", 300)
    with FolderWriter(plain(), tmp_path) as writer:
        for start in range(0, 500, 10):
            writer.write("a", pa.table({"n": pa.array(range(start, start + 10), pa.int64())}))
        writer.write("b", pa.table({"n": pa.array([1], pa.int64())}))
        writer.write("c", pa.table({"n": pa.array([], pa.int64())}))
    files = [pq.ParquetFile(path) for path in sorted((tmp_path / "a").iterdir())]
    assert [row for file in files for row in file.read()["n"].to_pylist()] == list(range(500))
    groups = [file.metadata.row_group(i).num_rows for file in files for i in range(file.metadata.num_row_groups)]
    assert max(groups) == 40
    assert max(file.metadata.num_rows for file in files) * 8 <= 1000
    assert [(s.scope, s.records, s.files) for s in writer.scopes()] == [("a", 500, len(files)), ("b", 1, 1)]
    assert not (tmp_path / "c").exists()


def test_two_names_of_one_folder_do_not_overwrite_each_other(tmp_path: Path) -> None:
    """The default scope may have a name that records are addressed by, too."""
    with FolderWriter(plain(), tmp_path) as writer:
        for number, scope in enumerate((None, "none", None, "a")):
            writer.write(scope, pa.table({"n": pa.array([number], pa.int64())}))
    assert [row["n"] for row in rows_of(tmp_path / "none")] == [0, 1, 2]
    assert [(each.folder, each.records) for each in writer.scopes()] == [("a", 1), ("none", 3)]


def test_few_files_are_open_however_many_scopes_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_writer, "_OPEN", 2)
    monkeypatch.setattr(bulk_writer, "_GROUP_BYTES", 1)
    with FolderWriter(plain(), tmp_path) as writer:
        for turn in range(2):
            for scope in ("a", "b", "c", "d"):
                writer.write(scope, pa.table({"n": pa.array([turn], pa.int64())}))
                assert sum(each.writer is not None for each in writer.scopes()) <= 2
    for scope in writer.scopes():
        assert (scope.records, scope.files) == (2, 2)
        assert [row["n"] for row in rows_of(tmp_path / scope.folder)] == [0, 1]


def test_a_record_that_has_no_place_is_listed_by_its_own_id(tmp_path: Path, milvus_collections: Collections) -> None:
    source = Endpoint(type="qdrant", path=tmp_path / "strange", collection=COLLECTION)
    records = Batch(
        ids=IdColumn.of(IdKind.U64, [7, 8]),
        vectors={"embedding": Dense(SMALL.vectors[:2])},
        payloads=[{"number": 1}, {"number": 2}],
    )
    with databases.open_target(source) as database:
        database.create(schema("qdrant"))
        database.upsert(records)
    place = Workplace.make(tmp_path / "place", source, milvus_collections("strange"))
    planned = place.call("plan", ID)
    assert planned.returncode == 0, planned.stdout + planned.stderr
    with databases.open_target(source) as database:
        database.upsert(replace(records, payloads=[{"number": 1}, {"number": 2, "note": "x" * 70_000}]))
    done = place.call("export", ID, "--to", str(tmp_path / "out"), "--for-import")
    assert done.returncode == 1, done.stderr
    rows = rows_of(tmp_path / "out" / "import" / "_default")
    assert [json.loads(row["$meta"])["number"] for row in rows] == [1]
    (listed,) = map(json.loads, (tmp_path / "out" / "refused.jsonl").read_text().splitlines())
    assert (listed["id"], listed["scope"]) == ("8", None)
    assert listed["reason"] == "'note' has a text of 70000 bytes, the target holds 65535"
    assert "1 records have no place in the target" in done.stdout
