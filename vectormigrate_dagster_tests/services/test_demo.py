"""Checks the demo: 2,992 real packages from Qdrant to Milvus Lite, each as in the file they come from."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.services.context import Context
from vectormigrate_dagster.services.demo import _packages, demo
from vectormigrate_dagster.services.status import status
from vectormigrate_dagster_tests.collections_of_everything import as_json, read_everything


def test_the_demo_moves_and_proves_everything_and_does_so_again(tmp_path: Path) -> None:
    context = Context(tmp_path / "migrations", tmp_path / "home")
    shown = demo(context)
    assert (shown.records_source, shown.records_target) == (2992, 2992)
    assert shown.validation.passed
    assert shown.validation.tiers == {"count": True, "ids": True, "records": True, "search": True}
    assert shown.records_per_second > 0
    assert status(context, "demo").progress.migrated_records == 2992

    found = read_everything(Endpoint(type="milvus", path=tmp_path / "data" / "milvus.db", collection="packages"))
    assert len(found) == 2992
    for number, row in enumerate(_packages().to_pylist(), start=1):
        payload, vectors = found[None, "i64", str(number)]
        embedding = np.array(row.pop("embedding"), dtype=np.float32)
        assert payload == as_json(row)
        np.testing.assert_allclose(np.frombuffer(vectors["embedding"] or b"", np.float32), embedding, atol=1e-7)

    again = demo(context)
    assert again.validation == shown.validation
    assert (again.records_source, again.records_target) == (2992, 2992)
