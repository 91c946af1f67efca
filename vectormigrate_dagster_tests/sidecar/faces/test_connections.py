"""Checks that connections which never say what they want cost little, and are ended."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from vectormigrate_dagster.services.context import Context
from vectormigrate_dagster.sidecar import serving
from vectormigrate_dagster.sidecar.settings import Settings
from vectormigrate_dagster_tests.harness import until

PATIENCE = 240.0


class Running:
    """The sidecar's own server, in a thread, with an application that answers when it may."""

    def __init__(self) -> None:
        self.may_answer = threading.Event()
        self.asked = threading.Event()
        self.server: uvicorn.Server | None = None

    async def answer(self, _: Request) -> Response:
        self.asked.set()
        await asyncio.to_thread(self.may_answer.wait, PATIENCE)
        return PlainTextResponse("answered")

    @property
    def port(self) -> int:
        assert self.server is not None
        port: int = self.server.servers[0].sockets[0].getsockname()[1]
        return port


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    found = Running()
    app = Starlette(routes=[Route("/", found.answer)])

    class Remembered(serving._Server):
        def __init__(self, config: uvicorn.Config) -> None:
            super().__init__(config)
            found.server = self

        def capture_signals(self) -> contextlib.AbstractContextManager[None]:  # type: ignore[override]
            return contextlib.nullcontext()  # which only the main thread may do

    monkeypatch.setattr(serving, "create_app", lambda *_: app)
    monkeypatch.setattr(serving, "_Server", Remembered)
    thread = threading.Thread(target=lambda: serving.serve(Context.__new__(Context), Settings(port=0)))
    thread.start()
    until(lambda: found.server is not None and found.server.started, seconds=PATIENCE)
    try:
        yield found
    finally:
        found.may_answer.set()
        assert found.server is not None
        found.server.should_exit = True
        thread.join(PATIENCE)


def connect(running: Running) -> socket.socket:
    return socket.create_connection(("127.0.0.1", running.port), timeout=PATIENCE)


def test_a_head_without_end_is_refused_before_it_fills_the_memory(running: Running) -> None:
    with connect(running) as connection, pytest.raises(ConnectionError):
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 2**26)


def test_who_says_nothing_is_sent_away_and_who_waits_for_an_answer_is_not(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[httpx.Response] = []
    asking = threading.Thread(
        target=lambda: answers.append(httpx.get(f"http://127.0.0.1:{running.port}/", timeout=PATIENCE))
    )
    asking.start()
    assert running.asked.wait(PATIENCE)
    with connect(running) as silent, connect(running) as halfway:
        halfway.sendall(b"GET / HTTP/1.1\r\nHost: local")
        monkeypatch.setattr(serving, "_IDLE_SECONDS", 0.0)
        assert silent.recv(100) == b""
        assert halfway.recv(100) == b""
    running.may_answer.set()
    asking.join(PATIENCE)

    assert [answer.text for answer in answers] == ["answered"]
