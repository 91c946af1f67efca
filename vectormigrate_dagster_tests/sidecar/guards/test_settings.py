"""Checks what the sidecar refuses to start with: others reach it and no strong key is set."""

from __future__ import annotations

from pathlib import Path

import pytest

from vectormigrate_dagster.errors import ConfigurationError
from vectormigrate_dagster.sidecar.keys import generate
from vectormigrate_dagster.sidecar.settings import Settings, is_loopback

PUBLIC = ["0.0.0.0", "::", "192.168.1.7", "2001:db8::1", "example.com", ""]
LOOPBACK = ["127.0.0.1", "127.8.8.8", "localhost", "::1", "[::1]"]


@pytest.mark.parametrize("host", PUBLIC)
def test_a_public_address_needs_a_strong_key(host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(ConfigurationError, match="no key is set"):
        Settings.from_environment({}, host=host)
    with pytest.raises(ConfigurationError, match="less than 32 characters") as caught:
        Settings.from_environment({"VECTORMIGRATE_API_KEY": "your-secret-key"}, host=host)
    assert "your-secret-key" not in str(caught.value)
    assert Settings.from_environment({"VECTORMIGRATE_API_KEY": "k" * 32}, host=host).host == host


@pytest.mark.parametrize("host", LOOPBACK)
def test_a_loopback_address_needs_none(host: str) -> None:
    assert is_loopback(host)
    assert len(Settings.from_environment({}, host=host).keys) == 0
    assert len(Settings.from_environment({}, host=host, token="my-key").keys) == 1


def test_an_empty_key_file_is_no_key(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# nobody yet\n")
    with pytest.raises(ConfigurationError, match="no key is set"):
        Settings.from_environment({"VECTORMIGRATE_KEYS_FILE": str(file)}, host="0.0.0.0")


def test_all_variables_are_read(tmp_path: Path) -> None:
    token, key = generate("ada", "read")
    file = tmp_path / "keys"
    file.write_text(key.line)
    settings = Settings.from_environment(
        {
            "VECTORMIGRATE_KEYS_FILE": str(file),
            "VECTORMIGRATE_ALLOWED_HOSTS": "sidecar.example, other.example:8443,",
            "VECTORMIGRATE_ALLOWED_ORIGINS": "https://app.example",
            "VECTORMIGRATE_METRICS_PUBLIC": "1",
            "VECTORMIGRATE_ENABLE_WRITES": "true",
            "DAGSTER_WEBSERVER_URL": "http://localhost:3000",
        },
        host="0.0.0.0",
        port=8000,
    )

    assert settings.allowed_hosts == ("sidecar.example", "other.example:8443")
    assert settings.allowed_origins == ("https://app.example",)
    assert (settings.metrics_public, settings.enable_writes, settings.port) == (True, True, 8000)
    assert settings.webserver_url == "http://localhost:3000"
    assert settings.keys.find(token.encode()) is not None
    assert token not in repr(settings)


def test_an_empty_key_is_a_mistake_and_not_an_open_door() -> None:
    """As of `--api-key "$UNSET"`, or of `--api-key -` with nothing to read."""
    with pytest.raises(ConfigurationError, match="is empty"):
        Settings.from_environment({"VECTORMIGRATE_API_KEY": "of-the-environment"}, token="")
    assert len(Settings.from_environment({"VECTORMIGRATE_API_KEY": ""}).keys) == 0


def test_a_word_that_is_neither_yes_nor_no_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="VECTORMIGRATE_ENABLE_WRITES is 'maybe'"):
        Settings.from_environment({"VECTORMIGRATE_ENABLE_WRITES": "maybe"})
