"""Who calls: bearer keys, and a limit on those who guess."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from vectormigrate_dagster.errors import ConfigurationError
from vectormigrate_dagster.sidecar.codes import UNAUTHORIZED
from vectormigrate_dagster.sidecar.keys import Key, KeyRing, read_keys
from vectormigrate_dagster.sidecar.limiter import Buckets
from vectormigrate_dagster.sidecar.middleware import Guard
from vectormigrate_dagster.sidecar.principal import LOCAL, Principal, set_principal
from vectormigrate_dagster.sidecar.refusals import Refusal, too_often
from vectormigrate_dagster.sidecar.requests import header_values, peer_of, route_of
from vectormigrate_dagster.sidecar.settings import Settings

ANYBODY = Principal("anybody", "read", "anybody")
"""Whoever asks whether the server is alive."""

_OPEN_ROUTES = {"/healthz", "/readyz"}
_LOOK_AGAIN_SECONDS = 5.0
_SCHEME = b"bearer "

_Signature = tuple[int, int, int]
"""Time of change in nanoseconds, size and inode of a file."""

_NO_KEY = Refusal(
    401,
    UNAUTHORIZED,
    "no_key",
    "this needs a key; send it as 'Authorization: Bearer KEY'",
    {"WWW-Authenticate": 'Bearer realm="vectormigrate"'},
)
_WRONG_KEY = Refusal(
    401,
    UNAUTHORIZED,
    "wrong_key",
    "this key is not valid; ask the operator for one",
    {"WWW-Authenticate": 'Bearer realm="vectormigrate", error="invalid_token"'},
)

_LOG = logging.getLogger("vectormigrate.sidecar")


class KeyStore:
    """The keys that are valid now: those given at the start, and those of a file that may change meanwhile.

    A file that cannot be read any more changes nothing, so that a mistake in it locks nobody out.
    """

    def __init__(self, keys: KeyRing, file: Path | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._given = [key for key in keys.keys if not key.from_file]
        self._ring = keys
        self._file = file
        self._clock = clock
        self._next_look = clock()  # the file may have changed since the keys were read from it
        self._changed: _Signature | None = None

    @property
    def needed(self) -> bool:
        """Whether callers need a key: always, once keys were configured in any way."""
        return self._file is not None or len(self._ring) > 0

    def find(self, token: bytes) -> Key | None:
        """The key whose text is `token`."""
        if self._file is not None and self._clock() >= self._next_look:
            self._look(self._file)
        return self._ring.find(token)

    def _look(self, file: Path) -> None:
        self._next_look = self._clock() + _LOOK_AGAIN_SECONDS
        changed = self._signature()
        if changed == self._changed:
            return
        self._changed = changed
        try:
            self._ring = KeyRing([*self._given, *read_keys(file).keys])
        except ConfigurationError as error:
            _LOG.warning("the keys stay as they were: %s", error)

    def _signature(self) -> _Signature | None:
        try:
            stat = None if self._file is None else self._file.stat()
        except OSError:
            return None
        return None if stat is None else (stat.st_mtime_ns, stat.st_size, stat.st_ino)


class BearerGuard(Guard):
    """Let through those with a valid key; everything behind may rely on `principal_of`.

    Where no key is configured, which settings allow on a loopback address alone, everybody may read.
    """

    def __init__(self, app: ASGIApp, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(app)
        self._keys = KeyStore(settings.keys, settings.keys_file, clock)
        self._failures = Buckets(settings.limits.failures_per_minute, settings.limits.remembered, clock)
        self._metrics_public = settings.metrics_public

    async def _guard(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = self._identify(scope)
        if isinstance(found, Refusal):
            await found.answer(scope, send)
            return
        set_principal(scope, found)
        await self._app(scope, receive, send)

    def _identify(self, scope: Scope) -> Principal | Refusal:
        if self._is_open(scope):
            return ANYBODY
        if not self._keys.needed:
            return LOCAL
        given = header_values(scope, b"authorization")
        if not given:
            return _NO_KEY
        peer = peer_of(scope)
        # Asked before the key is looked at: who guesses learns nothing more until then, not even by guessing right.
        if wait := self._failures.wait(peer):
            return too_often("guessing", "too many requests without a valid key from this address", wait)
        token = _token(given)
        key = None if token is None else self._keys.find(token)
        if key is None:
            self._failures.take(peer)
            return _WRONG_KEY
        return key.principal

    def _is_open(self, scope: Scope) -> bool:
        route = route_of(scope)
        if route in _OPEN_ROUTES:
            return True
        return route == "/metrics" and self._metrics_public


def _token(given: list[bytes]) -> bytes | None:
    """The token of the one Authorization header; of two that contradict each other nobody knows which is meant."""
    if len(given) != 1 or not given[0].lower().startswith(_SCHEME):
        return None
    return given[0][len(_SCHEME) :].strip()
