"""A plan of a billion records: a few hundred splits that tile, in a number of calls that follows the splits."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from vectormigrate_dagster import databases
from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.databases import Endpoint, Source
from vectormigrate_dagster.mapping.plan import Plan, make_plan
from vectormigrate_dagster_tests.huge_databases import DATABASES, Counted, opened

CASES = [(name, kind) for name, simulated in DATABASES.items() for kind in simulated.kinds]


def planned(source: Counted, folder: Path, *, partition_records: int | None = None) -> Plan:
    target = Endpoint(type="milvus", path=folder / "target.db", collection="huge")
    file = {
        "id": "huge",
        "source": {"type": source.endpoint.type, "url": source.endpoint.url, "collection": "huge"},
        "target": {"type": "milvus", "path": str(target.path), "collection": "huge"},
        "transfer": {} if partition_records is None else {"partition_records": partition_records},
    }
    with databases.open_source(target) as there:
        return make_plan(Source(source), there, Migration.model_validate(file), generation=1)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_a_billion_records_are_planned_in_few_calls(name: str, kind: str, tmp_path: Path) -> None:
    simulated = DATABASES[name]
    source = opened(name, kind, simulated.total)
    plan = planned(source, tmp_path)
    assert plan.source_records == simulated.total
    assert simulated.splits[0] <= len(plan.splits) <= simulated.splits[1]
    assert source.calls.total() <= simulated.once + simulated.calls_per_split * len(plan.splits)
    assert plan.profile.records >= 5000
    assert len(plan.model_dump_json().encode()) < 2 * 2**20  # it is stored as one event


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_splits_of_a_billion_records_tile_and_are_about_equal(name: str, kind: str, tmp_path: Path) -> None:
    simulated = DATABASES[name]
    total = simulated.total
    source = opened(name, kind, total)
    splits = [p.split for p in planned(source, tmp_path).splits if p.split.kind is source.huge.kind.kind]
    assert splits[0].after is None
    assert splits[-1].last is None
    assert all(low.last == high.after for low, high in itertools.pairwise(splits))
    places = [0, *(source.huge.upto(split.upper) for split in splits[:-1]), total]
    fair = total / len(splits)
    for low, high in itertools.pairwise(places):
        assert simulated.even[0] * fair <= high - low <= simulated.even[1] * fair


@pytest.mark.parametrize("name", list(DATABASES))
def test_calls_follow_splits_and_not_records(name: str, tmp_path: Path) -> None:
    calls = []
    simulated = DATABASES[name]
    for total in (simulated.total // 100, simulated.total // 10, simulated.total):
        source = opened(name, next(iter(simulated.kinds)), total)
        plan = planned(source, tmp_path, partition_records=total // 50)
        calls.append(source.calls.total() - simulated.once)
        assert 50 <= len(plan.splits) <= (52 if simulated.even[0] > 0.5 else 104)  # where sizes are estimates
    assert max(calls) <= simulated.calls_per_split * 52
