"""What the sidecar is told when it starts, and what it refuses to start with."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vectormigrate_dagster.errors import ConfigurationError
from vectormigrate_dagster.sidecar.keys import (
    API_KEY_VARIABLE,
    KEYS_FILE_VARIABLE,
    STRONG_CHARACTERS,
    KeyRing,
    configured_keys,
)

HOSTS_VARIABLE = "VECTORMIGRATE_ALLOWED_HOSTS"
ORIGINS_VARIABLE = "VECTORMIGRATE_ALLOWED_ORIGINS"
METRICS_VARIABLE = "VECTORMIGRATE_METRICS_PUBLIC"
WRITES_VARIABLE = "VECTORMIGRATE_ENABLE_WRITES"
WEBSERVER_VARIABLE = "DAGSTER_WEBSERVER_URL"

LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "[::1]")

_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"", "0", "false", "no", "off"}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one caller may ask for.

    Args:
        requests_per_minute: of one key; each call of a batch counts.
        failures_per_minute: requests without a valid key, of one address.
        remembered: keys, and addresses, whose requests are counted at a time; the longest unheard are forgotten.
        body_bytes: of one request.
        body_seconds: until the body of a request must have come.
        depth: of arrays and objects inside each other.
        batch: calls in one request.
    """

    requests_per_minute: int = 100
    failures_per_minute: int = 30
    remembered: int = 10_000
    body_bytes: int = 1 << 20
    body_seconds: float = 10.0
    depth: int = 32
    batch: int = 50


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the sidecar is served.

    Args:
        host: address that it listens on.
        port: port that it listens on.
        keys: keys that are valid when it starts.
        keys_file: file that they came from, which is read again when it changes.
        allowed_hosts: names by which others reach it, beside those of the loopback; "name" or "name:port".
        allowed_origins: pages of which a browser may call it, beside those of the loopback.
        metrics_public: `/metrics` asks nobody for a key.
        enable_writes: tools that change something are offered, if there is a webserver.
        webserver_url: Dagster's webserver, which starts and stops runs.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    keys: KeyRing = field(default_factory=KeyRing)
    keys_file: Path | None = None
    limits: Limits = field(default_factory=Limits)
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    metrics_public: bool = False
    enable_writes: bool = False
    webserver_url: str | None = None

    def __post_init__(self) -> None:
        if not self.is_loopback:
            self._check_public()

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        return is_loopback(self.host)

    def _check_public(self) -> None:
        if not self.keys:
            raise ConfigurationError(
                f"address '{self.host}' is reached by others, and no key is set; make one with "
                f"'vectormigrate serve --keygen' and name its file in {KEYS_FILE_VARIABLE}, or set {API_KEY_VARIABLE}, "
                "or listen on 127.0.0.1"
            )
        for key in self.keys.keys:
            if not key.strong:
                raise ConfigurationError(
                    f"address '{self.host}' is reached by others, and key '{key.name}' has less than "
                    f"{STRONG_CHARACTERS} characters; make one with 'vectormigrate serve --keygen', "
                    "or listen on 127.0.0.1"
                )

    @classmethod
    def from_environment(
        cls,
        environ: Mapping[str, str] = os.environ,
        *,
        host: str = "127.0.0.1",
        port: int = 8080,
        token: str | None = None,
        limits: Limits | None = None,
    ) -> Settings:
        """Settings of the environment, with what the command line says of address and key.

        Raises:
            ConfigurationError: a variable is wrong, or a key is missing or too weak for the address.
        """
        file = environ.get(KEYS_FILE_VARIABLE)
        return cls(
            host=host,
            port=port,
            keys=configured_keys(environ, token=token),
            keys_file=Path(file) if file else None,
            limits=limits or Limits(),
            allowed_hosts=_list(environ, HOSTS_VARIABLE),
            allowed_origins=_list(environ, ORIGINS_VARIABLE),
            metrics_public=_flag(environ, METRICS_VARIABLE),
            enable_writes=_flag(environ, WRITES_VARIABLE),
            webserver_url=environ.get(WEBSERVER_VARIABLE) or None,
        )


def is_loopback(host: str) -> bool:
    """Whether an address or name of this machine is reached by this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _list(environ: Mapping[str, str], name: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in environ.get(name, "").split(",") if word.strip())


def _flag(environ: Mapping[str, str], name: str) -> bool:
    word = environ.get(name, "").strip().lower()
    if word not in _TRUE | _FALSE:
        raise ConfigurationError(f"variable {name} is '{word}'; set it to 1 or 0")
    return word in _TRUE
