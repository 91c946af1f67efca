"""Bearer keys: named, scoped, known only by their SHA-256."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vectormigrate_dagster.errors import ConfigurationError
from vectormigrate_dagster.sidecar.principal import Principal, Scope

API_KEY_VARIABLE = "VECTORMIGRATE_API_KEY"
KEYS_FILE_VARIABLE = "VECTORMIGRATE_KEYS_FILE"

STRONG_CHARACTERS = 32
"""What a key must have on an address that others reach; a generated one has 47."""

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SCOPES: dict[str, Scope] = {"read": "read", "write": "write"}


@dataclass(frozen=True)
class Key:
    """One key.

    Args:
        digest: SHA-256 of the key, hexadecimal.
        strong: whether it has 32 characters or more; of a digest from a file nobody can tell, so it counts as strong.
        from_file: whether it stands in a key file.
    """

    name: str
    scope: Scope
    digest: str
    strong: bool = True
    from_file: bool = False

    @property
    def masked(self) -> str:
        """The key's name and the first four digits of its digest."""
        return f"{self.name}:{self.digest[:4]}"

    @property
    def principal(self) -> Principal:
        """Whom the key stands for."""
        return Principal(self.name, self.scope, self.masked)

    @property
    def line(self) -> str:
        """The key's line in a key file."""
        return f"{self.name}:{self.scope}:{self.digest}"

    @classmethod
    def of(cls, token: str, *, name: str, scope: Scope) -> Key:
        """The key whose text is `token`.

        Raises:
            ConfigurationError: name, scope or text cannot be those of a key.
        """
        if not token or " " in token or not token.isprintable():
            raise ConfigurationError(f"key '{name}' is empty, or has blanks or control characters inside")
        _check(name, scope, where=f"key '{name}'")
        return cls(name, scope, hashlib.sha256(token.encode()).hexdigest(), strong=len(token) >= STRONG_CHARACTERS)


class KeyRing:
    """The keys that are valid, of which several may stand for the same person while one is rotated."""

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        self.keys = tuple(keys)
        self._digests = tuple((bytes.fromhex(key.digest), key) for key in self.keys)

    def __len__(self) -> int:
        return len(self.keys)

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(key.masked for key in self.keys)})"

    def find(self, token: bytes) -> Key | None:
        """The key whose text is `token`; every key is compared, so that time tells nothing."""
        presented = hashlib.sha256(token).digest()
        found: Key | None = None
        for digest, key in self._digests:
            if hmac.compare_digest(digest, presented):
                found = key
        return found


def generate(name: str, scope: Scope) -> tuple[str, Key]:
    """A new random key of 256 bits: its text, which is to be kept by its user alone, and what the server keeps."""
    token = f"vmk_{secrets.token_urlsafe(32)}"
    return token, Key.of(token, name=name, scope=scope)


def read_keys(path: Path) -> KeyRing:
    """Read a key file: a line `name:scope:sha256` for each key; blank lines and lines that begin with `#` are left out.

    Raises:
        ConfigurationError: it cannot be read, or a line is wrong. The line is named, never shown.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"key file '{path}' cannot be read: {error}") from error
    keys = [
        _parse(line.strip(), where=f"{path}:{number}")
        for number, line in enumerate(lines, start=1)
        if line.strip() and not line.strip().startswith("#")
    ]
    seen: set[str] = set()
    for key in keys:
        if key.digest in seen:
            raise ConfigurationError(f"key file '{path}' holds the key '{key.masked}' twice; remove one of the lines")
        seen.add(key.digest)
    return KeyRing(keys)


def configured_keys(environ: Mapping[str, str] = os.environ, *, token: str | None = None) -> KeyRing:
    """The keys of the environment: those of the file that it names, and one that it holds itself, which may write.

    Args:
        environ: the environment.
        token: a key given on the command line, which takes the place of the one in the environment.

    Raises:
        ConfigurationError: one of them is wrong.
    """
    file = environ.get(KEYS_FILE_VARIABLE)
    keys = list(read_keys(Path(file)).keys) if file else []
    given = environ.get(API_KEY_VARIABLE) or None if token is None else token
    if given is not None:
        keys.append(Key.of(given, name="default", scope="write"))
    return KeyRing(keys)


def _parse(line: str, *, where: str) -> Key:
    parts = line.split(":")
    if len(parts) != 3:
        raise ConfigurationError(f"{where}: a line is 'name:scope:sha256'; 'vectormigrate serve --keygen' writes one")
    name, scope, digest = parts[0], parts[1], parts[2].lower()
    if _DIGEST.fullmatch(digest) is None:
        raise ConfigurationError(f"{where}: the third part must be a SHA-256 of 64 hexadecimal digits, never the key")
    return Key(name, _check(name, scope, where=where), digest, from_file=True)


def _check(name: str, scope: str, *, where: str) -> Scope:
    if _NAME.fullmatch(name) is None:
        raise ConfigurationError(f"{where}: a key's name is 1 to 64 letters, digits, '_', '-' and '.'")
    if scope not in _SCOPES:
        raise ConfigurationError(f"{where}: a key's scope is 'read' or 'write'")
    return _SCOPES[scope]
