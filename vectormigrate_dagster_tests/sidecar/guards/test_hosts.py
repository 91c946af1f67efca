"""Checks Host and Origin on every route of the product: only names of ours, only pages that are allowed."""

from __future__ import annotations

import pytest

from vectormigrate_dagster.sidecar.requests import ROUTES
from vectormigrate_dagster.sidecar.settings import Settings
from vectormigrate_dagster_tests.sidecar.guards.asking import HOST, Asker, Header, running
from vectormigrate_dagster_tests.sidecar.guards.guarded import READER, telling, with_key

PATHS = [*sorted(ROUTES), "/nowhere"]
OURS = [b"127.0.0.1", b"127.0.0.1:8080", b"localhost:1", b"LOCALHOST", b"[::1]", b"[::1]:8080", b" localhost "]
FOREIGN = [
    *(b"evil.example", b"evil.example:8080", b"127.0.0.1.evil.example", b"localhost.evil.example", b"", b":8080"),
    *(
        b"localhost:8080:evil",
        b"localhost:",
        b"localhost:x",
        b"::1",
        b"localhost@evil.example",
        b"\xff",
        b"localhost/..",
    ),
    *(b"localhost,evil.example", b"0.0.0.0", "loc\u0430lhost".encode(), b"localhost:\xb2"),
]
ALLOWED = [
    b"http://localhost",
    b"http://localhost:3000",
    b"https://127.0.0.1",
    b"http://[::1]:8080",
    b"HTTP://LOCALHOST",
]
REFUSED = [
    *(b"http://evil.example", b"https://localhost.evil.example", b"null", b"", b"file://", b"localhost"),
    *(b"ftp://localhost", b"http://localhost/path", b"http://user@localhost", b"http://localhost:3000/", b"\xff"),
    *(b"http://[", b"http://localhost http://evil.example", b"chrome-extension://localhost"),
]


def asked(ask: Asker, path: str, *headers: Header) -> int:
    return ask("POST", path, key=READER, headers=headers, body=b"{}").status


@pytest.mark.parametrize("path", PATHS)
def test_a_host_that_is_not_ours_is_sent_away(product: Asker, path: str) -> None:
    for host in OURS:
        assert asked(product, path, (b"host", host)) not in {421, 403}, host
    for host in FOREIGN:
        assert asked(product, path, (b"host", host)) == 421, host
    assert asked(product, path) == 421
    assert asked(product, path, HOST, HOST) == 421
    assert asked(product, path, HOST, (b"Host", b"evil.example")) == 421
    assert asked(product, path, HOST, (b"x-forwarded-host", b"evil.example")) not in {421, 403}


@pytest.mark.parametrize("path", PATHS)
def test_a_page_that_is_not_allowed_is_sent_away(product: Asker, path: str) -> None:
    for origin in ALLOWED:
        assert asked(product, path, HOST, (b"origin", origin)) not in {421, 403}, origin
    for origin in REFUSED:
        assert asked(product, path, HOST, (b"origin", origin)) == 403, origin
    assert asked(product, path, HOST, (b"origin", ALLOWED[0]), (b"Origin", b"http://evil.example")) == 403


@pytest.mark.parametrize("path", PATHS)
def test_no_key_helps_a_foreign_host_and_every_method_is_checked(product: Asker, path: str) -> None:
    for method in ("GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"):
        assert product(method, path, headers=[(b"host", b"evil.example")]).status == 421
        answer = product(method, path, headers=[HOST, (b"origin", b"http://evil.example")])
        assert answer.status == 403
        assert "access-control-allow-origin" not in answer.headers


def test_other_names_and_pages_are_allowed_by_settings() -> None:
    settings = with_key(
        host="192.168.1.7",
        allowed_hosts=("Sidecar.example", "other.example:8443"),
        allowed_origins=("https://App.example", "http://app.example:3000/"),
    )
    with running(telling(settings)) as ask:
        for host in (b"sidecar.example", b"SIDECAR.example:99", b"other.example:8443", b"192.168.1.7:8080", *OURS):
            assert asked(ask, "/", (b"host", host)) == 200, host
        for host in (b"other.example", b"other.example:1", b"192.168.1.8"):
            assert asked(ask, "/", (b"host", host)) == 421, host
        for origin in (b"https://app.example", b"http://app.example:3000"):
            assert asked(ask, "/", HOST, (b"origin", origin)) == 200, origin
        for origin in (b"http://app.example", b"https://app.example:1", b"https://app.example.evil.example"):
            assert asked(ask, "/", HOST, (b"origin", origin)) == 403, origin


def test_listening_on_all_addresses_allows_no_name() -> None:
    with running(telling(with_key(host="0.0.0.0"))) as ask:
        assert asked(ask, "/", (b"host", b"0.0.0.0:8080")) == 421
    with running(telling(Settings(host="::1"))) as ask:
        assert asked(ask, "/", (b"host", b"[::1]:8080")) == 200
