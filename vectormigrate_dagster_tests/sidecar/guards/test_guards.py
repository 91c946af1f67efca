"""Checks the guards one by one: keys, rotation, limits by the clock, bodies, and the last resort."""

from __future__ import annotations

import logging
from pathlib import Path

import anyio
import pytest
from starlette.types import Message

from vectormigrate_dagster.sidecar.authentication import _LOOK_AGAIN_SECONDS
from vectormigrate_dagster.sidecar.counters import Counters
from vectormigrate_dagster.sidecar.keys import Key, KeyRing, generate, read_keys
from vectormigrate_dagster.sidecar.settings import Limits, Settings
from vectormigrate_dagster_tests.sidecar.guards.asking import HOST, Clock, running, scope_of
from vectormigrate_dagster_tests.sidecar.guards.guarded import READER, WRITER, key_file, telling, with_key

########
# Keys
########


def test_a_key_tells_who_calls() -> None:
    with running(telling(with_key())) as ask:
        assert ask(key=READER).json == {"name": "ada", "scope": "read", "bytes": 0}
        assert ask(key=WRITER, body=b"{}").json == {"name": "eve", "scope": "write", "bytes": 2}
        assert ask(headers=[HOST, (b"AUTHORIZATION", b"bEARER  " + READER.encode() + b" ")]).status == 200


@pytest.mark.parametrize("path", ["/", "/mcp", "/v1/changes", "/nowhere", "/healthz/", "//healthz", "/metrics/x"])
def test_without_a_valid_key_nothing_is_served(path: str) -> None:
    with running(telling(with_key())) as ask:
        for headers in (
            [],
            [(b"authorization", b"Bearer wrong")],
            [(b"authorization", b"Basic " + READER.encode())],
            [(b"authorization", b"Bearer")],
            [(b"authorization", b"Bearer \xff\xfe")],
            [(b"authorization", READER.encode())],
            [(b"authorization", f"Bearer {READER}".encode()), (b"authorization", b"Bearer other")],
            [(b"x-api-key", READER.encode())],
        ):
            found = ask(path=path, headers=[HOST, *headers])
            assert found.status == 401
            assert found.headers["www-authenticate"].startswith("Bearer realm=")
            assert "resource_metadata" not in found.headers["www-authenticate"]  # clients would begin OAuth
            assert READER not in found.body.decode()


def test_where_no_key_is_configured_everybody_may_read() -> None:
    with running(telling(Settings())) as ask:
        assert ask(key="anything").json["scope"] == "read"
        assert ask().json["name"] == "local"


def test_probes_need_no_key_and_figures_do() -> None:
    with running(telling(with_key())) as ask:
        for path in ("/healthz", "/readyz"):
            assert ask("GET", path, peer="203.0.113.9").status == 200
        # Even from this machine: a proxy on it need not say for whom it asks.
        for peer in ("127.0.0.1", "::1", "203.0.113.9", None):
            assert ask("GET", "/metrics", peer=peer).status == 401
            assert ask("GET", "/metrics", peer=peer, key=READER).status == 200
    for settings in (with_key(metrics_public=True), Settings()):
        with running(telling(settings)) as ask:
            assert ask("GET", "/metrics", peer="203.0.113.9").status == 200


def test_keys_are_rotated_without_a_restart(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (old, first), (new, second) = generate("ci", "write"), generate("ci", "write")
    environment = Key.of("of-the-environment", name="default", scope="read")
    file = key_file(tmp_path / "keys", first)
    settings = Settings(
        keys=KeyRing([environment, Key(first.name, first.scope, first.digest, from_file=True)]), keys_file=file
    )
    clock = Clock()

    with running(telling(settings, clock)) as ask:

        def served() -> list[int]:
            clock.pass_by(_LOOK_AGAIN_SECONDS)
            return [ask(key=key).status for key in (old, new, "of-the-environment")]

        assert served() == [200, 401, 200]
        key_file(file, first, second)
        assert served() == [200, 200, 200]  # both, while the callers change over
        key_file(file, second)
        assert served() == [401, 200, 200]
        file.write_text("a mistake\n")
        assert served() == [401, 200, 200]  # locks nobody out
        assert "the keys stay as they were" in caplog.text
        file.write_text("")
        assert served() == [401, 401, 200]


def test_a_key_that_is_taken_back_while_the_server_starts_is_not_valid(tmp_path: Path) -> None:
    token, key = generate("ci", "write")
    file = key_file(tmp_path / "keys", key)
    settings = Settings(keys=read_keys(file), keys_file=file)
    file.write_text("")
    clock = Clock()
    with running(telling(settings, clock)) as ask:
        clock.pass_by(_LOOK_AGAIN_SECONDS)
        assert ask(key=token).status == 401


def test_a_file_that_loses_all_its_keys_opens_nothing(tmp_path: Path) -> None:
    token, key = generate("ci", "write")
    file = key_file(tmp_path / "keys", key)
    clock = Clock()
    settings = Settings(keys=read_keys(file), keys_file=file)
    with running(telling(settings, clock)) as ask:
        assert ask(key=token).status == 200
        file.write_text("")
        clock.pass_by(_LOOK_AGAIN_SECONDS)
        assert ask(key=token).status == 401
        assert ask().status == 401


########
# How often
########


def test_a_key_is_served_a_hundred_times_a_minute() -> None:
    clock = Clock()
    with running(telling(with_key(), clock)) as ask:
        assert [ask(key=READER).status for _ in range(101)] == [200] * 100 + [429]
        refused = ask(key=READER)
        assert (refused.headers["retry-after"], refused.json["error"]["code"]) == ("1", -32010)
        assert ask(key=WRITER).status == 200  # another key is another caller
        assert ask("GET", "/healthz").status == 200
        clock.pass_by(0.61)
        assert [ask(key=READER).status for _ in range(2)] == [200, 429]
        clock.pass_by(60)
        assert [ask(key=READER).status for _ in range(101)] == [200] * 100 + [429]


def test_a_batch_costs_as_many_calls_as_it_holds() -> None:
    with running(telling(with_key(), Clock())) as ask:
        batch = b"[" + b",".join([b'{"a":[1,2,",[,"]}'] * 50) + b"]"
        assert [ask(key=READER, body=batch).status for _ in range(3)] == [200, 200, 429]
        assert ask(key=READER, body=b"[1,2]").status == 429


def test_whoever_guesses_is_sent_away_even_with_the_right_key() -> None:
    clock = Clock()
    with running(telling(with_key(), clock)) as ask:
        wrong = [ask(key=f"guess{number}", peer="203.0.113.9").status for number in range(31)]
        assert wrong == [401] * 30 + [429]
        assert ask(key=READER, peer="203.0.113.9").status == 429
        assert int(ask(key=READER, peer="203.0.113.9").headers["retry-after"]) >= 1
        assert ask(key=READER, peer="203.0.113.10").status == 200
        clock.pass_by(2.1)
        assert ask(key=READER, peer="203.0.113.9").status == 200


def test_addresses_of_one_ipv6_network_are_one_guesser() -> None:
    with running(telling(with_key(), Clock())) as ask:
        wrong = [ask(key="guess", peer=f"2001:db8:0:1::{number:x}").status for number in range(31)]
        assert wrong == [401] * 30 + [429]
        assert ask(key="guess", peer="2001:db8:0:2::1").status == 401


########
# Bodies
########

SMALL = Limits(body_bytes=1000, depth=5, batch=3)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"x" * 1000, 200),
        (b"x" * 1001, 413),
        ([b"x" * 600, b"x" * 600, b""], 413),
        (b"[[[[[]]]]]", 200),
        (b"[[[[[[", 400),
        (b'{"a":{"a":{"a":{"a":{"a":{', 400),
        (b'{"a":"[[[[[[[[[[[["}', 200),
        (b'{"a":"\\"[[[[[[[[[[[["}', 200),
        (b'{"a":"\\\\"}[[[[[[[', 400),
        (b'"never ends [[[[[[[[', 200),
        (b"[1,2,3]", 200),
        (b" \n[1,2,3,4]", 400),
        (b'["a,b,c,d,e", [1,2,3,4]]', 200),
        (b'{"a":1,"b":2,"c":3,"d":4}', 200),
        (b"9" * 400, 200),
        (b"9" * 401, 400),
        # A letter of UTF-16 may hold the byte of a quote, behind which no bracket would be seen.
        ('["\u2200",[[[[[[[[[[]]]]]]]]]]]'.encode("utf-16-le"), 400),
        (b'"' + b"9" * 401 + b'"', 200),
        (b"]]]]]]]]][[", 200),
        (b"\xff\xfe", 200),
    ],
)
def test_bodies_are_measured_before_they_are_parsed(body: bytes | list[bytes], status: int) -> None:
    with running(telling(with_key(limits=SMALL))) as ask:
        found = ask(key=READER, body=body)
    assert found.status == status
    whole = b"".join(body if isinstance(body, list) else [body])
    if status == 200:
        assert found.json["bytes"] == len(whole)  # and handed on as it came
    else:
        assert found.json["error"]["code"] in {-32600, -32017}


@pytest.mark.parametrize("length", [b"1001", b"9" * 30, b"-1", b"0x10", b"1e9", b""])
def test_a_length_that_is_too_much_or_makes_no_sense_is_refused_unread(length: bytes) -> None:
    with running(telling(with_key(limits=SMALL))) as ask:
        headers = [HOST, (b"content-length", length)]
        assert ask(key=READER, headers=headers, body=b"").status == 413


def test_a_body_that_never_comes_is_given_up() -> None:
    app = telling(with_key(limits=Limits(body_seconds=0.01)))
    scope = scope_of("POST", "/", [HOST, (b"authorization", f"Bearer {READER}".encode())], "127.0.0.1")
    sent: list[Message] = []

    async def call() -> None:
        async def receive() -> Message:
            await anyio.sleep_forever()
            raise AssertionError

        async def send(message: Message) -> None:
            sent.append(message)

        await app(scope, receive, send)

    with running(app) as ask:
        ask.portal.call(call)
    assert sent[0]["status"] == 408


def test_text_full_of_quotes_and_backslashes_is_measured_in_one_go() -> None:
    body = b'"' + b'\\"' * 400_000 + b"[" * 100
    with running(telling(with_key())) as ask:
        assert ask(key=READER, body=body).status == 200
        assert ask(key=READER, body=b'"\\' * 400_000).status == 200


########
# The last resort, and what is counted
########


def test_an_error_that_nobody_caught_is_a_number_and_no_more(caplog: pytest.LogCaptureFixture) -> None:
    counters = Counters()
    with running(telling(with_key(), counters=counters)) as ask:
        found = ask(path="/fall", key=READER, body=b"payload-of-mine")

    assert found.status == 500
    number = found.headers["x-request-id"]
    assert number in found.json["error"]["message"]
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert f"request {number} failed: ZeroDivisionError at guarded.py:" in line
    for shown in (found.body.decode(), caplog.text):
        assert "hunter2" not in shown
        assert "payload-of-mine" not in shown
    assert counters.requests() == {("other", 500): 1}
    assert counters.refusals() == {"defect": 1}


def test_every_refusal_is_counted_by_reason() -> None:
    counters = Counters()
    limits = Limits(requests_per_minute=1, failures_per_minute=2, body_bytes=10)
    with running(telling(with_key(limits=limits), counters=counters)) as ask:
        ask()
        ask(key="wrong")
        ask(headers=[(b"host", b"evil.example")])
        ask(headers=[HOST, (b"origin", b"http://evil.example")])
        ask(key=READER, body=b"x" * 11)
        ask(key=READER)
        ask(key=READER)
        ask(key="wrong")
        ask(key="wrong")
    reasons = {"no_key": 1, "wrong_key": 2, "host": 1, "origin": 1, "body": 1, "rate": 1, "guessing": 1}
    assert counters.refusals() == reasons
    assert counters.requests()["/", 200] == 1


def test_websockets_are_closed() -> None:
    sent: list[Message] = []

    async def call() -> None:
        async def receive() -> Message:
            return {"type": "websocket.connect"}

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {**scope_of("GET", "/mcp", [HOST], "127.0.0.1"), "type": "websocket"}
        await app(scope, receive, send)

    app = telling(with_key())
    with running(app) as ask:
        ask.portal.call(call)
    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_whoever_goes_before_the_body_ends_is_not_answered() -> None:
    sent: list[Message] = []

    async def call() -> None:
        async def receive() -> Message:
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            sent.append(message)

        await app(scope_of("GET", "/healthz", [HOST], "127.0.0.1"), receive, send)

    app = telling(with_key())
    with running(app) as ask:
        ask.portal.call(call)
    assert sent == []
