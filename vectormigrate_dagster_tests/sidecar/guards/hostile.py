"""Requests as somebody would send them who wants the sidecar to break, for hypothesis to combine."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from hypothesis import strategies as st

from vectormigrate_dagster_tests.harness import ID
from vectormigrate_dagster_tests.sidecar.guards.asking import HOST, Header
from vectormigrate_dagster_tests.sidecar.guards.guarded import READER, WRITER

MODERN = "2026-07-28"
_META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
_TOOLS = (
    *("migration_status", "list_migrations", "schema_recommendation", "start_migration", "stop_migration"),
    *("validate_migration", "rollback_migration", "cutover_migration"),
)


@dataclass(frozen=True)
class Hostile:
    """A request.

    Args:
        body: as one piece; may be anything.
    """

    method: str
    path: str
    headers: tuple[Header, ...]
    body: bytes


########
# What is sent
########

_IDS = st.sampled_from(
    [ID, "other", "", "../x", "a" * 300, "\x00", "%00", "things\n", "\u202e", "\ud800", "${x}", "'; --"]
)
_NUMBERS = st.sampled_from([0, -1, 2**31, 2**63, 2**64, -(2**63) - 1, 10**300, 1e308, -0.0, 1e-320, 10**380])
_LEAVES = st.one_of(st.none(), st.booleans(), _NUMBERS, st.integers(), st.floats(), st.text(max_size=20), _IDS)
_VALUES = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | _IDS, inner, max_size=4),
    max_leaves=12,
)
_ARGUMENTS = st.dictionaries(
    st.sampled_from(
        [
            *("migration_id", "status", "limit", "offset", "sort_by", "sort_order", "source_type", "target_type"),
            *("source_schema", "confirmation_token", "sample_size", "full", "__class__", "_meta", ""),
        ]
    ),
    _VALUES | st.just({"year": "int"}) | st.sampled_from(["qdrant", "milvus", "completed", "asc"]),
    max_size=6,
)
_GOOD_ARGUMENTS = st.sampled_from(
    [{"migration_id": ID}, {"limit": 1}, {"source_type": "qdrant", "target_type": "milvus"}, {}]
)


def _json(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


@st.composite
def _json_rpc(draw: st.DrawFn) -> Any:
    """A request of the face at `/`, right, nearly right, or nothing like it."""
    request = {
        "jsonrpc": draw(st.just("2.0") | _VALUES),
        "id": draw(st.integers() | _VALUES),
        "method": draw(st.sampled_from([*_TOOLS, "tools/list", "initialize", "__init__", "rpc.x"]) | _VALUES),
        "params": draw(_GOOD_ARGUMENTS | _ARGUMENTS | _VALUES),
    }
    return {key: value for key, value in request.items() if draw(st.integers(0, 9))}


@st.composite
def _mcp(draw: st.DrawFn) -> Any:
    """A request of the face at `/mcp`."""
    method = draw(
        st.sampled_from(
            [
                *("tools/call", "tools/call", "tools/list", "resources/read", "resources/list", "prompts/get"),
                *(
                    "prompts/list",
                    "initialize",
                    "server/discover",
                    "ping",
                    "notifications/cancelled",
                    "logging/setLevel",
                ),
                *("completion/complete", "resources/templates/list", "resources/subscribe", "tasks/get", "x"),
            ]
        )
    )
    params = {
        "name": draw(st.sampled_from(_TOOLS) | _VALUES),
        "arguments": draw(_GOOD_ARGUMENTS | _ARGUMENTS | _VALUES),
        "uri": draw(_IDS.map("migration://{}".format) | _VALUES),
        "protocolVersion": draw(st.sampled_from(["2025-11-25", MODERN, "1", ""]) | _VALUES),
        "capabilities": draw(st.just({}) | _VALUES),
        "clientInfo": draw(st.just({"name": "x", "version": "1"}) | _VALUES),
        "_meta": draw(st.just(_META) | _VALUES),
    }
    params = {key: value for key, value in params.items() if draw(st.integers(0, 9))}
    request = {"jsonrpc": "2.0", "id": draw(st.integers() | _VALUES), "method": method, "params": params}
    return {key: value for key, value in request.items() if draw(st.integers(0, 19))}


def _deep(kind: bytes) -> st.SearchStrategy[bytes]:
    closing = {b"[": b"]", b'{"a":': b"}"}[kind]
    return st.builds(
        lambda depth, closed: kind * depth + b"1" + closing * (depth if closed else 0),
        st.sampled_from([10, 31, 32, 33, 200, 5000, 100_000]),
        st.booleans(),
    )


_ODD = st.one_of(
    _deep(b"["),
    _deep(b'{"a":'),
    st.binary(max_size=200),
    st.sampled_from(
        [
            *(
                b"",
                b" ",
                b"null",
                b"[]",
                b"{}",
                b'""',
                b"0",
                b"NaN",
                b"Infinity",
                b"-",
                b"\xef\xbb\xbf{}",
                b"\xff\xfe{}",
            ),
            *(b"1" * 399, b"1e999999999", b"-" + b"9" * 5000, b"0." + b"1" * 3000, b'"' + b"\\u0000" * 1000 + b'"'),
            *(b'{"a":1,"a":2}', b'"\\ud800"', b'{"jsonrpc":"2.0","id":1e400,"method":"list_migrations"}'),
            *(b'{"jsonrpc":"2.0","id":' + b"9" * 390 + b',"method":"list_migrations"}', b"[" + b"1," * 60 + b"1]"),
            *(b"x" * (1 << 20), b"x" * ((1 << 20) + 1), b'"' + b'\\"' * 300_000),
        ]
    ),
)


_PIECES = (
    *(
        b"[",
        b"{",
        b"]",
        b"}",
        b'"',
        b",",
        b":",
        b"\\",
        b"\x00",
        b"\xff",
        b"\xed\xa0\x80",
        b"null",
        b"-",
        b"1e400",
        b"NaN",
    ),
    *(b"[" * 40, b'{"a":' * 40, b"9" * 500, b'"\\ud800"', b"\xe2\x80\xae", b"true", b"\n", b"/*", b"1" * 20, b"{}"),
)


_TOKEN = re.compile(rb'"[^"]*"|-?\d+|true|false|null')
_TOKENS = (
    *(
        b"null",
        b"true",
        b"0",
        b"-1",
        b"1e308",
        b"1e400",
        b"9" * 30,
        b"9" * 390,
        b"0.1",
        b"[]",
        b"{}",
        b"[[]]",
        b'{"a":1}',
    ),
    *(b'""', b'"\\u0000"', b'"\\ud800"', b'"../../x"', b'"' + b"a" * 3000 + b'"', b'"tools/list"', b'"2.0"', b'"asc"'),
)


def mutate(body: bytes, random: Random) -> bytes:
    """A body with some of its words exchanged, or with some of its bytes changed, lost, doubled, put in or cut off."""
    mutant = bytearray(body)
    if random.random() < 0.5:  # what stays JSON gets further
        for _ in range(random.randint(1, 3)):
            places = list(_TOKEN.finditer(mutant))
            if places:
                place = random.choice(places)
                mutant[place.start() : place.end()] = random.choice(_TOKENS)
        return bytes(mutant)
    for _ in range(random.choice((1, 1, 2, 5))):
        at = random.randint(0, len(mutant))
        match random.randrange(5):
            case 0:
                mutant[at : at + 1] = bytes([random.randrange(256)])
            case 1:
                del mutant[at : at + random.randint(1, 8)]
            case 2:
                mutant[at:at] = mutant[at : at + random.randint(1, 30)]
            case 3:
                mutant[at:at] = random.choice(_PIECES)
            case _:
                del mutant[max(at, len(mutant) // 2) :]
    return bytes(mutant)


def _bodies(good: Callable[[], st.SearchStrategy[Any]]) -> st.SearchStrategy[bytes]:
    whole = good().map(_json)
    batches = st.lists(good(), max_size=6).map(_json)
    return st.one_of(whole, batches, st.builds(mutate, whole, st.randoms(use_true_random=False)), _ODD)


########
# How it is sent
########

_JSON_HEADERS = ((b"content-type", b"application/json"), (b"accept", b"application/json, text/event-stream"))
_NAMES = (
    *(b"content-type", b"accept", b"content-length", b"content-encoding", b"transfer-encoding", b"origin", b"host"),
    *(b"mcp-protocol-version", b"mcp-method", b"mcp-name", b"mcp-session-id", b"last-event-id", b"authorization"),
    *(b"traceparent", b"tracestate", b"baggage", b"x-forwarded-for", b"x-request-id", b"cookie", b"expect", b"te"),
    *(b"x-http-method-override", b"range", b"if-none-match", b"upgrade", b"connection", b"forwarded"),
)
_CONTENTS = (
    *(
        b"",
        b"0",
        b"-1",
        b"9" * 20,
        b"application/json",
        b"text/plain",
        b"*/*",
        b"gzip",
        b"chunked",
        b"\xff\xfe",
        b"\x00",
    ),
    *(
        b"application/json; charset=utf-16",
        b"text/event-stream",
        MODERN.encode(),
        b"2025-11-25",
        b"tools/call",
        b"null",
    ),
    *(b"migration_status", b"http://localhost", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01", b"a" * 5000),
    *(
        b"\r\nx: y",
        b"=?utf-8?b?eA==?=",
        f"Bearer {WRITER}".encode(),
        b"Bearer",
        b"Basic eA==",
        b"bytes=0-",
        b"websocket",
    ),
)
_METHODS = ("GET", "DELETE", "PUT", "OPTIONS", "X" * 99)
_PATHS = ("//", "/mcp/", "/%2e", "/\ud800", "/v1/changes", "/a" * 999, "/metrics", "/readyz")


def sent(path: str, body: bytes, random: Random) -> Hostile:
    """A request with a body; most of them get past the guards, some have something odd about them."""
    headers: list[Header] = [HOST]
    if random.random() < 0.95:
        headers += _JSON_HEADERS
    if random.random() < 0.95:
        headers.append((b"authorization", f"Bearer {random.choice((READER, WRITER))}".encode()))
    if path == "/mcp" and b"_meta" in body:
        headers += _named(body) if random.random() < 0.9 else _named(b'{"method": "tools/list"}')
    if random.random() < 0.2:
        headers += [(random.choice(_NAMES), random.choice(_CONTENTS)) for _ in range(random.randint(1, 3))]
    method = "POST" if random.random() < 0.96 else random.choice(_METHODS)
    return Hostile(method, path if random.random() < 0.96 else random.choice(_PATHS), tuple(headers), body)


def _named(body: bytes) -> list[Header]:
    """The headers that repeat what a body says, as the protocol demands since 2026-07-28."""
    method, name = re.search(rb'"method": "([^"]*)"', body), re.search(rb'"(?:name|uri)": "([^"]*)"', body)
    headers = [(b"mcp-protocol-version", MODERN.encode()), (b"mcp-method", method[1] if method else b"x")]
    return [*headers, (b"mcp-name", name[1])] if name else headers


def requests(path: str) -> st.SearchStrategy[Hostile]:
    """Requests to one of the faces, with bodies made up from the shapes that it knows."""
    bodies = _bodies(_json_rpc if path == "/" else _mcp)
    return st.builds(sent, st.just(path), bodies, st.randoms(use_true_random=False))


########
# Right requests, whose bytes are changed
########


def _modern(method: str, **params: Any) -> bytes:
    return _json({"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": _META}})


def _call(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


_RIGHT = {
    "/": (
        _json(_call("migration_status", migration_id=ID)),
        _json(_call("list_migrations", status="planned", limit=10, offset=0, sort_by="created_at", sort_order="desc")),
        _json(
            _call("schema_recommendation", source_type="qdrant", target_type="milvus", source_schema={"year": "int"})
        ),
        _json([_call("migration_status", migration_id=ID), _call("list_migrations"), _call("stop_migration")]),
        _json(_call("rollback_migration", migration_id=ID, confirmation_token="x" * 40)),
    ),
    "/mcp": (
        _modern("tools/call", name="migration_status", arguments={"migration_id": ID}),
        _modern("tools/call", name="list_migrations", arguments={"limit": 3, "sort_by": "status"}),
        _modern("tools/list"),
        _modern("server/discover"),
        _modern("resources/read", uri=f"migration://{ID}"),
        _modern("prompts/get", name="walk_through_migration", arguments={"migration_id": ID}),
        _json(_call("tools/call", name="migration_status", arguments={"migration_id": ID})),
        _json(
            _call("initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo={"name": "x", "version": "1"})
        ),
    ),
}


def mutants(path: str, count: int, random: Random) -> Iterator[Hostile]:
    """Requests to one of the faces that are right but for some of their bytes; one in twenty is right altogether."""
    for number in range(count):
        right = random.choice(_RIGHT[path])
        yield sent(path, right if number % 20 == 0 else mutate(right, random), random)
