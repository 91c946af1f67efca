"""Folders of embedded databases: one process at a time, one client per folder, nothing made by reading."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vectormigrate_dagster.databases import embedded, keep_open, open_source, open_target
from vectormigrate_dagster.errors import NotFound, SchemaMismatch, Stopped, Unavailable
from vectormigrate_dagster.model import IdColumn, Split
from vectormigrate_dagster_tests.databases.conftest import EMBEDDED, DatabaseCase, Opener, records
from vectormigrate_dagster_tests.databases.waits import Waits


@pytest.fixture(params=EMBEDDED, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> DatabaseCase:
    return request.param


HOLDER = """
import sys
from pathlib import Path
from vectormigrate_dagster.databases import Endpoint, open_target
with open_target(Endpoint(type=sys.argv[1], path=Path(sys.argv[2]), collection="things")) as database:
    database.count()
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_process_holding(case: DatabaseCase, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A child that has the case's folder open until its standard input ends."""
    path = case.endpoint(folder, "things").address
    command = [sys.executable, "-c", HOLDER, case.capabilities.type, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        try:
            yield child
        finally:
            child.communicate()


def impatient(case: DatabaseCase, folder: Path, wait_s: float = 0.0):
    endpoint = case.endpoint(folder, "things")
    options = type(open_target(endpoint)).options_model(folder_wait_s=wait_s)
    return open_target(type(endpoint)(type=endpoint.type, path=endpoint.path, collection="things", options=options))


def made(case: DatabaseCase, folder: Path, n: int = 3) -> None:
    with open_target(case.endpoint(folder, "things")) as database:
        database.create(case.schema())
        database.upsert(records(case, list(range(n)), case.kinds[0]))


########################################################################
# Another process
########################################################################


def test_a_folder_in_use_is_unavailable_and_named(case: DatabaseCase, tmp_path: Path) -> None:
    made(case, tmp_path)
    with another_process_holding(case, tmp_path):
        database = impatient(case, tmp_path)
        with pytest.raises(Unavailable, match="in use by another process") as error:
            database.count()
        assert str(database.endpoint.path) in str(error.value)
        database.close()
    with open_target(case.endpoint(tmp_path, "things")) as database:
        assert database.count() == 3


def test_waits_until_the_other_process_ends(case: DatabaseCase, tmp_path: Path) -> None:
    made(case, tmp_path)
    waits = []
    with another_process_holding(case, tmp_path) as child, impatient(case, tmp_path, wait_s=600) as database:

        def wait(seconds: float) -> None:
            waits.append(seconds)
            child.communicate()

        database.sleep = wait
        assert database.count() == 3
    assert len(waits) == 1


def test_a_folder_is_not_waited_for_once_the_work_is_to_end(case: DatabaseCase, tmp_path: Path) -> None:
    made(case, tmp_path)
    with another_process_holding(case, tmp_path), impatient(case, tmp_path, wait_s=600) as database:
        database.sleep = waits = Waits(3)
        with pytest.raises(Stopped):
            database.count()
    assert waits.seconds == [embedded.POLL_SECONDS] * 4


def test_closing_gives_the_folder_back(case: DatabaseCase, tmp_path: Path) -> None:
    made(case, tmp_path)
    with open_target(case.endpoint(tmp_path, "things")) as database:
        assert database.count() == 3
    with another_process_holding(case, tmp_path):
        pass


########################################################################
# This process
########################################################################


def test_source_and_target_share_a_folder(case: DatabaseCase, opened: Opener, tmp_path: Path) -> None:
    made(case, tmp_path, n=12)
    target = opened("copy")
    with open_source(case.endpoint(tmp_path, "things")) as source:
        target.create(case.schema())
        for batch in source.scan(Split(kind=case.kinds[0]), batch_records=5):
            target.upsert(batch)
    assert target.count() == 12
    assert opened("things").count() == 12


def test_the_last_user_closes_the_folder(case: DatabaseCase, tmp_path: Path) -> None:
    made(case, tmp_path)
    first, second = (open_target(case.endpoint(tmp_path, "things")) for _ in range(2))
    first.count()
    second.count()
    first.close()
    assert second.count() == 3
    assert len(embedded._folders) == 1
    second.close()
    assert embedded._folders == {}
    with pytest.raises(Unavailable, match="closed"):
        second.count()


def test_another_spelling_of_the_path_is_the_same_folder(case: DatabaseCase, opened: Opener, tmp_path: Path) -> None:
    made(case, tmp_path)
    link = tmp_path / "link"
    link.symlink_to(tmp_path, target_is_directory=True)
    one, other = opened(), impatient(case, link)
    assert one.count() == other.count() == 3
    other.close()


def test_keep_open_pays_for_opening_once(case: DatabaseCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = case.endpoint(tmp_path, "things")
    opens = []
    original = embedded._open
    monkeypatch.setattr(embedded, "_open", lambda *args: opens.append(args) or original(*args))
    with keep_open(endpoint):
        assert not os.path.lexists(endpoint.address)
        made(case, tmp_path)
        for _ in range(3):
            with open_target(endpoint) as database:
                assert database.count() == 3
        assert len(opens) == 1
    assert embedded._folders == {}
    with another_process_holding(case, tmp_path):
        pass


def test_reading_and_writing_threads_do_not_disturb_each_other(case: DatabaseCase, opened: Opener) -> None:
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    kind = case.kinds[0]
    database = opened()
    database.create(case.schema())
    with ThreadPoolExecutor(4) as pool:
        writes = [pool.submit(database.upsert, records(case, list(range(i, i + 5)), kind)) for i in range(0, 60, 5)]
        reads = [pool.submit(lambda: list(database.scan(Split(kind=kind)))) for _ in range(6)]
        assert [write.result() for write in writes] == [[]] * 12
        for read in reads:
            read.result()
    assert database.count() == 60


########################################################################
# Folders that are none
########################################################################


def test_reading_a_missing_folder_makes_nothing(case: DatabaseCase, opened: Opener, tmp_path: Path) -> None:
    database = opened()
    path = database.endpoint.path
    asked = IdColumn.of(case.kinds[0], [1])
    for read in (
        database.describe,
        database.count,
        database.scopes,
        lambda: database.plan_splits(10),
        lambda: list(database.scan(Split(kind=case.kinds[0]))),
        lambda: database.fetch(asked),
        lambda: database.delete(asked),
    ):
        with pytest.raises(NotFound, match="there is no embedded") as error:
            read()
        assert str(path) in str(error.value)
    database.drop()
    database.ping()
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_counts_as_missing(case: DatabaseCase, opened: Opener) -> None:
    database = opened()
    Path(database.endpoint.address).mkdir()
    with pytest.raises(NotFound):
        database.count()
    assert list(Path(database.endpoint.address).iterdir()) == []
    database.create(case.schema())
    assert database.count() == 0


def test_a_folder_of_another_database_is_refused(case: DatabaseCase, opened: Opener) -> None:
    database = opened()
    path = Path(database.endpoint.address)
    other = next(each for each in EMBEDDED if each.name != case.name)
    path.mkdir()
    made(other, path)
    (path / f"{other.capabilities.type}.db").rename(path.with_name("elsewhere"))
    path.rmdir()
    path.with_name("elsewhere").rename(path)
    before = sorted(p.name for p in path.iterdir())
    for attempt in (database.describe, lambda: database.create(case.schema()), database.drop):
        with pytest.raises(SchemaMismatch, match="is not a folder of embedded"):
            attempt()
    assert sorted(p.name for p in path.iterdir()) == before


def test_a_file_is_refused(case: DatabaseCase, opened: Opener) -> None:
    database = opened()
    Path(database.endpoint.address).write_bytes(b"SQLite format 3\x00")
    with pytest.raises(SchemaMismatch, match="is a file"):
        database.count()
