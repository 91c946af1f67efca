"""Checks bearer keys: how they are made, read, found and kept, and that none is ever shown."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

import pytest

from vectormigrate_dagster.errors import ConfigurationError
from vectormigrate_dagster.sidecar import keys
from vectormigrate_dagster.sidecar.keys import Key, KeyRing, configured_keys, generate, read_keys


def test_a_generated_key_is_found_and_only_its_digest_is_kept() -> None:
    token, key = generate("ada", "read")
    other, _ = generate("ada", "read")
    ring = KeyRing([key])

    assert token != other
    assert ring.find(token.encode()) == key
    assert ring.find(other.encode()) is None
    assert key.digest == hashlib.sha256(token.encode()).hexdigest()
    assert key.masked == f"ada:{key.digest[:4]}"
    assert key.strong
    for shown in (repr(ring), repr(key), str(key), key.line, repr(key.principal)):
        assert token not in shown


def test_every_key_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [generate(f"key{number}", "read") for number in range(5)]
    ring = KeyRing(key for _, key in made)
    compared: list[bytes] = []
    real = hmac.compare_digest

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(one)
        return real(one, other)

    monkeypatch.setattr(keys.hmac, "compare_digest", compare)
    for token, key in made:
        compared.clear()
        assert ring.find(token.encode()) == key
        assert len(compared) == len(made)  # no early end, whichever it is
    assert ring.find(b"\xff\xfe\x00") is None


def test_a_key_file_is_read_with_comments_and_several_keys_of_one_name(tmp_path: Path) -> None:
    (old, first), (new, second), (_, third) = generate("ci", "write"), generate("ci", "write"), generate("eve", "read")
    file = tmp_path / "keys"
    file.write_text(
        f"# ours\n\n{first.line}\n  {second.line}  \n{third.line.upper().replace('EVE:READ', 'eve:read')}\n"
    )

    ring = read_keys(file)

    assert [(key.name, key.scope) for key in ring.keys] == [("ci", "write"), ("ci", "write"), ("eve", "read")]
    assert {ring.find(token.encode()).name for token in (old, new)} == {"ci"}  # type: ignore[union-attr]
    assert all(key.from_file for key in ring.keys)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("the-key-itself", "a line is 'name:scope:sha256'"),
        ("name:admin:" + "0" * 64, "scope is 'read' or 'write'"),
        ("name:read:the-key-itself", "never the key"),
        ("na me:read:" + "0" * 64, "a key's name"),
        (":read:" + "0" * 64, "a key's name"),
    ],
)
def test_a_wrong_line_is_named_and_never_shown(tmp_path: Path, line: str, told: str) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# first\n{line}\n")

    with pytest.raises(ConfigurationError) as caught:
        read_keys(file)

    assert f"{file}:2: " in str(caught.value)
    assert told in str(caught.value)
    assert "the-key-itself" not in str(caught.value)


def test_a_key_file_that_is_not_there_or_holds_a_key_twice_is_refused(tmp_path: Path) -> None:
    _, key = generate("a", "read")
    file = tmp_path / "keys"
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_keys(file)
    file.write_text(f"{key.line}\n{key.line}\n")
    with pytest.raises(ConfigurationError, match="twice"):
        read_keys(file)


def test_keys_come_from_the_environment_the_file_and_the_command_line(tmp_path: Path) -> None:
    token, key = generate("reader", "read")
    file = tmp_path / "keys"
    file.write_text(key.line)
    environ = {keys.KEYS_FILE_VARIABLE: str(file), keys.API_KEY_VARIABLE: "of-the-environment"}

    both = configured_keys(environ)
    given = configured_keys(environ, token="given")

    assert [both.find(text) is not None for text in (token.encode(), b"of-the-environment", b"given")] == [1, 1, 0]
    assert [given.find(text) is not None for text in (token.encode(), b"of-the-environment", b"given")] == [1, 0, 1]
    assert (both.keys[1].name, both.keys[1].scope, both.keys[1].from_file) == ("default", "write", False)
    assert len(configured_keys({})) == 0


@pytest.mark.parametrize("token", ["", "with blank", "tab\t", "line\n"])
def test_a_key_that_no_header_can_carry_is_refused_and_not_shown(token: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Key.of(token, name="a", scope="read")
    assert not token or token not in str(caught.value)
