"""Checks that what hangs costs its caller a bounded time and the server a bounded number of threads."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest

from vectormigrate_dagster.services.context import Context
from vectormigrate_dagster.services.models import Status
from vectormigrate_dagster.services.warm import Reader
from vectormigrate_dagster.sidecar import calls
from vectormigrate_dagster.sidecar.app import create_app
from vectormigrate_dagster.sidecar.patience import Workers
from vectormigrate_dagster_tests.harness import ID, Workplace
from vectormigrate_dagster_tests.sidecar.guards.asking import running
from vectormigrate_dagster_tests.sidecar.guards.conftest import UNLIMITED
from vectormigrate_dagster_tests.sidecar.guards.guarded import READER, with_key

PATIENCE = 240.0


def test_calls_that_hang_hold_their_threads_and_no_more() -> None:
    async def hang() -> list[str]:
        workers, go_on, begun = Workers(2), threading.Event(), list[int]()

        def hanging() -> str:
            begun.append(1)
            go_on.wait()
            return "done"

        for _ in range(5):
            with pytest.raises(TimeoutError):
                await workers.run(hanging, 0.05)
        assert len(begun) == 2
        go_on.set()
        # Whoever has hung makes room again.
        return [await workers.run(lambda: "next", PATIENCE) for _ in range(4)]

    assert asyncio.run(hang()) == ["next"] * 4


def test_what_is_raised_is_raised_and_makes_room() -> None:
    async def fail() -> str:
        workers = Workers(1)
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                await workers.run(lambda: 1 // 0, PATIENCE)
        return await workers.run(lambda: "next", PATIENCE)

    assert asyncio.run(fail()) == "next"


class Hanging(Reader):
    """A reader whose storage hangs until it is let go."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.go_on = threading.Event()
        self.asked = 0

    def status(self, migration_id: str) -> Status:
        self.asked += 1
        self.go_on.wait()
        return super().status(migration_id)


def test_a_storage_that_hangs_is_told_in_time(unmoved: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "READ_SECONDS", 0.05)
    monkeypatch.setattr(calls, "THREADS", 2)
    reader = Hanging(Context(unmoved.migrations, unmoved.home))

    body = json.dumps(
        {"jsonrpc": "2.0", "id": 1, "method": "migration_status", "params": {"migration_id": ID}}
    ).encode()

    with running(create_app(reader.context, with_key(limits=UNLIMITED), reader=reader)) as ask:
        try:
            for _ in range(4):
                told = ask(key=READER, body=body).json["error"]
                assert (told["code"], "did not answer in time" in told["message"]) == (-32014, True)
            assert reader.asked == 2
            assert ask("GET", "/healthz").status == 200
        finally:
            reader.go_on.set()
