"""Checks real `vectormigrate` processes: a load and catch-up beside an application that writes lose no update."""

from __future__ import annotations

import signal
import threading
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from vectormigrate_dagster import databases
from vectormigrate_dagster.databases import Database, Endpoint
from vectormigrate_dagster.live.dual_writer import DualWriter
from vectormigrate_dagster.model import Batch, Dense, IdColumn, IdKind
from vectormigrate_dagster_tests.emulators.qdrant import QdrantStandIn
from vectormigrate_dagster_tests.harness import COLLECTION, DIM, ID, Records, Workplace, arrived, fill, until

COUNT = 1500
JOURNAL = {"start_seconds": 5, "request_seconds": 2, "margin_seconds": 1}


class Application(threading.Thread):
    """Updates, deletes and inserts records one after the other, and remembers what it made of each."""

    def __init__(self, writer: DualWriter, source: Database) -> None:
        super().__init__(daemon=True)
        self._writer = writer
        self._source = source
        self._random = np.random.default_rng(7)
        self.end = threading.Event()
        self.now: dict[int, float | None] = {}
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            while not self.end.is_set():
                self._write(int(self._random.integers(1, COUNT + 50)), float(self._random.integers(1, 1000)))
        except Exception as error:  # noqa: BLE001  # the test raises it
            self.error = error

    def _write(self, number: int, value: float) -> None:
        ids = IdColumn.of(IdKind.U64, [number])
        if value < 250:
            self._writer.delete([number], source=lambda: self._source.delete(ids))
            self.now[number] = None
            return
        vectors = {"embedding": Dense(np.full((1, DIM), value, np.float32))}
        batch = Batch(ids, None, vectors, [Records.payload(number)])
        self._writer.upsert([number], source=lambda: self._source.upsert(batch))
        self.now[number] = value


def test_an_application_writes_while_processes_load_and_catch_up(
    tmp_path: Path, qdrant_stand_in: QdrantStandIn
) -> None:
    records = Records.of(COUNT)
    source = Endpoint(type="qdrant", url=qdrant_stand_in.url, collection=COLLECTION)
    target = Endpoint(type="qdrant", url=qdrant_stand_in.url, collection="copied")
    fill(source, records)
    place = Workplace.make(tmp_path, source, target)
    transfer = {"partition_records": 500, "batch_size": 50, "workers": 1}
    place.write(journal=JOURNAL, transfer=transfer)
    assert place.call("plan", ID).returncode == 0
    with ExitStack() as stack:
        opened = stack.enter_context(databases.open_target(source))
        writer = DualWriter(f"sqlite:///{place.home / 'journal.db'}", ID)
        stack.callback(writer.close)
        application = Application(writer, opened)
        application.start()
        loading = place.start("migrate", ID)
        until(lambda: place.status()["live"]["state"] is not None or loading.poll() is not None, seconds=240)
        following = place.start("catch-up", ID, "--follow")
        told = loading.communicate(timeout=240)
        assert loading.returncode == 0, told[1]
        before = len(application.now)
        until(lambda: len(application.now) > before + 5 or not application.is_alive(), seconds=240)
        application.end.set()
        application.join(timeout=60)
        assert application.error is None
        following.send_signal(signal.SIGTERM)
        told = following.communicate(timeout=120)
        assert following.returncode == 130, told[1]
    done = place.run("catch-up", ID, "--json")
    assert done.returncode == 0, done.stderr
    expected = application.now
    found = {number: vector for number, vector, _ in arrived(target)}
    untouched = set(range(1, COUNT + 1)) - expected.keys()
    assert found.keys() == untouched | {number for number, value in expected.items() if value is not None}
    wrong = [number for number in untouched if found[number].tobytes() != records.vectors[number - 1].tobytes()]
    wrong += [number for number, value in expected.items() if value is not None and not (found[number] == value).all()]
    assert wrong == []
