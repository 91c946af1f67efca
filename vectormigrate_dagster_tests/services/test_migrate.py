"""Checks `migrate`: what it refuses, what a dry run leaves alone, settings for one time, records that stood there."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vectormigrate_dagster import databases
from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.databases.milvus.database import Milvus
from vectormigrate_dagster.errors import ConfigurationError
from vectormigrate_dagster.model import Batch, Dense, IdColumn
from vectormigrate_dagster.services.context import Context
from vectormigrate_dagster.services.migrate import migrate
from vectormigrate_dagster.services.models import Status
from vectormigrate_dagster.services.validate import validate
from vectormigrate_dagster.transfer.throttle import Throttle
from vectormigrate_dagster.transfer.writer import BatchWriter
from vectormigrate_dagster_tests.collections_of_everything import Everything, read_everything
from vectormigrate_dagster_tests.conftest import SMALL
from vectormigrate_dagster_tests.harness import (
    COLLECTION,
    DIM,
    ID,
    NOTHING,
    Records,
    Workplace,
    differences,
    fill,
    schema,
    wait_for,
)


def test_it_moves_everything_and_again_moves_nothing(context: Context, place: Workplace) -> None:
    seen: list[Status] = []
    done = migrate(context, ID, progress=seen.append)
    assert (done.status, done.progress.percentage, done.partitions.done) == ("completed", 100.0, done.partitions.total)
    assert all(status.status in ("not_started", "planned", "in_progress", "stopped", "completed") for status in seen)
    assert differences(place.target, SMALL) == NOTHING
    writes = len(place.history())
    again = migrate(context, ID)
    assert (again.status, again.progress) == (done.status, done.progress)
    assert len(place.history()) == writes


def test_h11_run_twice_into_the_same_target_the_count_is_equal(context: Context, place: Workplace) -> None:
    """Ids are made from the record alone: a second load of everything replaces, it adds nothing."""
    place.write(mapping={"ids": {"policy": "uuid5"}}, transfer={"partition_records": 150, "on_conflict": "skip"})
    migrate(context, ID)
    first = read_everything(place.target)
    assert len(first) == len(SMALL)
    place.home.rename(place.folder / "forgotten")
    again = migrate(context, ID)
    assert (again.skipped, again.progress.migrated_records) == (len(SMALL), 0)
    assert read_everything(place.target) == first


@pytest.mark.parametrize("where", ["flag", "file"])
def test_more_workers_than_an_embedded_folder_allows_is_a_usage_error(
    context: Context, place: Workplace, where: str
) -> None:
    if where == "file":
        place.write(transfer={"workers": 3})
    with pytest.raises(ConfigurationError, match=r"3 workers were asked for, but '.*' is an embedded qdrant") as told:
        migrate(context, ID, workers=3 if where == "flag" else None)
    assert told.value.exit_code == 2
    assert not place.target.path.exists()  # type: ignore[union-attr]


def test_a_dry_run_plans_and_writes_nothing_to_the_target(context: Context, place: Workplace) -> None:
    shown = migrate(context, ID, dry_run=True)
    assert (shown.status, shown.progress.total_records, shown.progress.migrated_records) == ("planned", 300, 0)
    assert shown.partitions.total >= 3
    assert not place.target.path.exists()  # type: ignore[union-attr]


def test_settings_of_a_run_win_over_the_file(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    read_back: list[int] = []
    throttles: list[dict[str, Any]] = []
    upsert, verify, throttle_of = Milvus.upsert, BatchWriter._verify, Throttle.of

    def upserting(self: Milvus, batch: Batch) -> Any:
        written.append(len(batch))
        return upsert(self, batch)

    def verifying(self: BatchWriter, sent: Batch, *others: Any) -> None:
        read_back.append(len(sent))
        verify(self, sent, *others)

    def throttling(**settings: Any) -> Throttle:
        throttles.append(settings)
        return throttle_of(**settings)

    monkeypatch.setattr(Milvus, "upsert", upserting)
    monkeypatch.setattr(BatchWriter, "_verify", verifying)
    monkeypatch.setattr(Throttle, "of", throttling)
    migrate(context, ID, batch_size=17, max_retries=2, validate_every=3)
    assert (max(written), sum(written)) == (17, 300)
    assert len(written) > 17
    assert 3 <= len(read_back) <= len(written) // 3
    assert 2 in {settings["max_retries"] for settings in throttles}


########
# Records that stood in the target before
########

THEIRS = [*range(1, 60), *range(290, 320)]
"""Ids of which 59 + 11 are in the source too; 19 are not."""


def fill_theirs(target: Endpoint) -> Everything:
    """Somebody else's records, some under ids of ours."""
    with databases.open_target(target) as database:
        made = schema(target.type)
        database.create(made)
        values = np.full((len(THEIRS), DIM), 0.125, dtype=np.float32)
        payloads = [{"number": -number, "whose": "theirs"} for number in THEIRS]
        ids = IdColumn.of(made.ids.kinds[0], THEIRS)
        database.upsert(Batch(ids, None, {"embedding": Dense(values)}, payloads))
    return read_everything(target)


def check_theirs_and_ours(target: Endpoint, theirs: Everything, records: Records) -> None:
    found = read_everything(target)
    assert {key: found[key] for key in theirs} == theirs
    ours = {int(id_): record for (_, _, id_), record in found.items() if int(id_) not in THEIRS}
    assert sorted(ours) == sorted(set(range(1, len(records) + 1)) - set(THEIRS))
    for number, (_, vectors) in ours.items():
        assert vectors["embedding"] == records.vectors[number - 1].tobytes()


SKIP = {"partition_records": 100, "batch_size": 20, "checkpoint_seconds": 0, "on_conflict": "skip"}


@pytest.mark.parametrize("type", ["milvus", "qdrant"])
def test_h25_records_that_stood_there_stay_byte_equal(tmp_path: Path, small_source: Endpoint, type: str) -> None:
    place = Workplace.make(tmp_path, small_source, type, transfer=SKIP)
    theirs = fill_theirs(place.target)
    moved = place.call("migrate", ID)
    assert moved.returncode == 0, moved.stderr
    check_theirs_and_ours(place.target, theirs, SMALL)
    status = place.status()
    assert (status["skipped"], status["progress"]["migrated_records"]) == (70, 230)
    assert (status["status"], status["progress"]["percentage"]) == ("completed", 100.0)
    for size in (("--full",), ("--sample-size", "50")):
        proof = place.call("validate", ID, *size)
        assert proof.returncode == 0, proof.stdout + proof.stderr
    again = place.call("migrate", ID)
    assert again.returncode == 0, again.stderr
    check_theirs_and_ours(place.target, theirs, SMALL)


def test_h25_after_a_stop_our_own_records_are_not_taken_for_theirs(tmp_path: Path, small_source: Endpoint) -> None:
    place = Workplace.make(tmp_path, small_source, "milvus", transfer={**SKIP, "rate_limit": 60})
    theirs = fill_theirs(place.target)
    process = place.start("migrate", ID)
    assert wait_for(place.lease("g0001-00001"), process)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert 0 < place.status()["progress"]["migrated_records"] < 230
    place.write(transfer={**SKIP, "rate_limit": 100_000})
    again = place.call("migrate", ID)
    assert again.returncode == 0, again.stderr
    check_theirs_and_ours(place.target, theirs, SMALL)
    status = place.status()
    assert (status["skipped"], status["progress"]["migrated_records"]) == (70, 230)
    assert validate(Context(place.migrations, place.home), ID, full=True).passed


def test_a_target_that_holds_records_is_refused_and_left_alone(tmp_path: Path, small_source: Endpoint) -> None:
    place = Workplace.make(tmp_path, small_source, "milvus")
    theirs = fill_theirs(place.target)
    refused = place.call("migrate", ID)
    assert refused.returncode == 2, refused.stderr
    assert f"collection '{COLLECTION}' in the target holds 89 records; set transfer.on_conflict" in refused.stderr
    assert read_everything(place.target) == theirs


########
# More migrations at once
########


def test_h20_two_migrations_at_once_end_each_by_itself(tmp_path: Path, small_source: Endpoint) -> None:
    """They share a home; one ending forgets nothing of the other."""
    other = tmp_path / "other" / "source"
    records = Records.of(120)
    fill(Endpoint(type="milvus", path=other, collection=COLLECTION), records)
    place = Workplace.make(tmp_path, small_source, "milvus", transfer=SKIP)
    second = Workplace(
        tmp_path,
        Endpoint(type="milvus", path=other, collection=COLLECTION),
        Endpoint(type="milvus", path=tmp_path / "second.db", collection=COLLECTION),
    )
    first_file = (place.migrations / f"{ID}.yaml").read_text()
    second.write(transfer={**SKIP, "rate_limit": 60})
    (place.migrations / f"{ID}.yaml").rename(place.migrations / "second.yaml")
    (place.migrations / f"{ID}.yaml").write_text(first_file)
    slow = place.start("migrate", "second")
    quick = place.run("migrate", ID)
    assert quick.returncode == 0, quick.stderr
    _, errors = slow.communicate(timeout=120)
    assert slow.returncode == 0, errors
    assert differences(place.target, SMALL) == NOTHING
    assert differences(second.target, records) == NOTHING
    assert place.status()["progress"]["migrated_records"] == len(SMALL)
    for name in (ID, "second"):
        again = place.call("migrate", name, "--json")
        assert again.returncode == 0, again.stderr
