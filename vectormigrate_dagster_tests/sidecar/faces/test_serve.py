"""Checks the verb `serve` as a process: the original's command, the end by a signal, keys, and what it refuses."""

from __future__ import annotations

import hashlib
import importlib.util
import signal
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from vectormigrate_dagster.cli import cli
from vectormigrate_dagster_tests.harness import ID, Workplace, until
from vectormigrate_dagster_tests.sidecar.faces.serving import KEY


def serve(*words: str) -> Any:
    return CliRunner().invoke(cli, ["serve", *words])


def answers(url: str, process: subprocess.Popen[str]) -> bool:
    assert process.poll() is None, process.communicate()
    try:
        return httpx.get(f"{url}/healthz", timeout=30).status_code == 200
    except httpx.TransportError:
        return False


def test_the_originals_command_serves_until_a_signal_ends_it(migrated: Workplace, free_tcp_port: int) -> None:
    url = f"http://localhost:{free_tcp_port}"
    process = migrated.start_cold("serve", "--api-key", KEY, "--addr", f":{free_tcp_port}")
    until(lambda: answers(url, process), seconds=120)
    ask = {"jsonrpc": "2.0", "id": 1, "method": "migration_status", "params": {"migration_id": ID}}

    answer = httpx.post(url, json=ask, headers={"Authorization": f"Bearer {KEY}"}, timeout=60)
    process.send_signal(signal.SIGTERM)
    out, log = process.communicate(timeout=60)

    assert answer.json()["result"]["status"] == "completed"
    assert process.returncode == 0
    assert out == ""
    assert '"call":"migration_status"' in log
    assert KEY not in log


def test_keygen_prints_a_line_for_the_key_file_and_the_key_apart() -> None:
    made = serve("--keygen", "ci", "--scope", "write")

    key = made.stderr.split()[-1]
    assert made.exit_code == 0
    assert made.stdout == f"ci:write:{hashlib.sha256(key.encode()).hexdigest()}\n"


@pytest.mark.parametrize("address", ["8080", "localhost", ":0", ":http", "host:99999", ""])
def test_an_address_that_is_none(address: str) -> None:
    refused = serve("--addr", address)

    assert refused.exit_code == 2
    assert "[HOST]:PORT" in refused.stderr


def test_others_are_not_served_without_a_strong_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("VECTORMIGRATE_API_KEY", "VECTORMIGRATE_KEYS_FILE"):
        monkeypatch.delenv(name, raising=False)

    for words in (("--addr", "0.0.0.0:8080"), ("--addr", "0.0.0.0:8080", "--api-key", "short")):
        refused = serve(*words)
        assert refused.exit_code == 2
        assert "reached by others" in refused.stderr


def test_without_the_extra_it_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "mcp" else found(name))

    refused = serve()

    assert refused.exit_code == 2
    assert "pip install 'vectormigrate-dagster[mcp]'" in refused.stderr
