"""Checks the demos: real packages from Qdrant to Milvus Lite, each as in its file, or as an application left it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.services.context import Context
from vectormigrate_dagster.services.demo import _packages, demo
from vectormigrate_dagster.services.demo_live import Moment, demo_live
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


@pytest.mark.timeout(600)
def test_the_live_demo_loses_nothing_there_and_back(tmp_path: Path) -> None:
    moments: list[Moment] = []
    shown = demo_live(Context(tmp_path / "migrations", tmp_path / "home"), tell=moments.append, ahead_seconds=1.0)
    assert shown.live is not None
    assert shown.validation.passed
    assert shown.validation.tiers == {"count": True, "ids": True, "records": True}
    assert shown.records_source == shown.records_target > 0
    assert (shown.live.lost, shown.live.writes > shown.live.writes_after_cutover > 0) == (0, True)
    assert {"moving", "cutting over", "writing to the new side", "going back"} <= {one.doing for one in moments}
    assert moments[0].primary == moments[-1].primary == "source"
    assert "target" in {one.primary for one in moments}

    source, target = (
        read_everything(Endpoint(type=kind, path=tmp_path / "data" / name, collection="packages"))
        for kind, name in (("qdrant", "qdrant-live"), ("milvus", "milvus-live.db"))
    )
    read, written = (sorted(side.values(), key=lambda record: str(record[0])) for side in (source, target))
    assert [payload for payload, _ in read] == [payload for payload, _ in written]
    for (_, one), (_, two) in zip(read, written, strict=True):  # the source scales what is written back to length 1
        pair = [np.frombuffer(vectors["embedding"] or b"", np.float32) for vectors in (one, two)]
        np.testing.assert_allclose(*pair, rtol=1e-6)
    assert any("revision" in payload for payload, _ in read)
