"""Checks `export`: what is written reads back bit for bit, scope by scope, and nothing is overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest

from vectormigrate_dagster import databases
from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.errors import ConfigurationError
from vectormigrate_dagster.model import CollectionSchema, IdKind
from vectormigrate_dagster.model.compare import compare
from vectormigrate_dagster.model.parquet import read_batches
from vectormigrate_dagster.services.context import Context
from vectormigrate_dagster.services.export import export
from vectormigrate_dagster_tests.collections_of_everything import PAYLOADS, milvus_lattice, qdrant_lattice
from vectormigrate_dagster_tests.harness import COLLECTION, ID, Workplace
from vectormigrate_dagster_tests.services.conftest import context_of


@pytest.mark.parametrize("type", ["qdrant", "milvus"])
def test_it_reads_back_bit_for_bit(tmp_path: Path, type: str) -> None:
    source = Endpoint(type=type, path=tmp_path / "source.db", collection=COLLECTION)
    if type == "qdrant":
        qdrant_lattice(source)
    else:
        milvus_lattice(source, IdKind.TEXT, partitions=True)
    place = Workplace.make(tmp_path, source, "qdrant")
    to = tmp_path / "out" / "here"
    document = export(context_of(place), ID, to=to)
    assert (document.records, document.to) == (len(PAYLOADS), str(to))
    assert document.bytes == sum(file.stat().st_size for file in to.rglob("*.parquet")) > 0
    written = {
        scope.folder: [batch for file in sorted((to / scope.folder).iterdir()) for batch in read_batches(file)]
        for scope in document.scopes
    }
    assert sum(len(batch) for batches in written.values() for batch in batches) == len(PAYLOADS)
    with databases.open_source(source) as opened:
        assert CollectionSchema.model_validate_json((to / "schema.json").read_text()) == opened.describe()
        assert [scope.scope for scope in document.scopes] == (opened.scopes() or [None])
        for scope in document.scopes:
            assert sum(map(len, written[scope.folder])) == scope.records == opened.count(scope.scope)
            for batch in written[scope.folder]:
                assert batch.scope == scope.scope
                assert compare(opened.fetch(batch.ids, batch.scope).batch, batch).equal


@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_is_there_is_not_overwritten(context: Context, tmp_path: Path, what: str) -> None:
    to = tmp_path / "out"
    kept = to if what == "file" else to / "kept"
    kept.parent.mkdir(exist_ok=True)
    kept.write_text("mine")
    with pytest.raises(ConfigurationError, match=r"'.*out' is not an empty folder; name a new one"):
        export(context, ID, to=to)
    assert kept.read_text() == "mine"
    assert [path.name for path in kept.parent.iterdir() if path.name == "schema.json"] == []


def test_an_empty_folder_will_do(context: Context, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert export(context, ID, to=tmp_path / "out").records == 300
