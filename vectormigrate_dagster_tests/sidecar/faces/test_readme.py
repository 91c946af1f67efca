"""Checks what the README says of assistants and scripts: commands, curl lines, configurations, tools, codes."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import httpx
import pytest

from vectormigrate_dagster.cli import cli
from vectormigrate_dagster.services.warm import Reader
from vectormigrate_dagster.sidecar import codes
from vectormigrate_dagster.sidecar.tools import tools
from vectormigrate_dagster_tests.harness import ID, Workplace
from vectormigrate_dagster_tests.sidecar.faces.migrated import context_of, settings
from vectormigrate_dagster_tests.sidecar.faces.serving import Served

README = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
SECTION = README.split("## Assistants and scripts")[1].split("\n## ")[0]
CURLS = re.findall(r"^curl .*?'\n", SECTION, re.MULTILINE | re.DOTALL)
CONFIGURATIONS = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", SECTION, re.DOTALL)]


@pytest.mark.parametrize("command", CURLS, ids=["json-rpc", "mcp"])
def test_curl(served: Served, command: str) -> None:
    words = shlex.split(command.replace("\\\n", " ").replace("films", ID))
    assert words[:3] == ["curl", "-X", "POST"]
    options = list(zip(words[4::2], words[5::2], strict=True))
    headers = dict(value.split(": ", 1) for option, value in options if option == "-H")
    (data,) = (value for option, value in options if option == "-d")

    url = words[3].replace("http://localhost:8080", served.url)
    answer = httpx.post(url, headers=headers, content=data, timeout=60)

    assert answer.status_code == 200, answer.text
    result = answer.json()["result"]
    assert result.get("structuredContent", result)["status"] == "completed"


def test_configurations_lead_to_the_server() -> None:
    servers = [next(iter((each.get("mcpServers") or each["servers"]).values())) for each in CONFIGURATIONS]

    assert len(servers) == 3
    for server in servers:
        if "url" in server:
            assert server["url"] == "http://127.0.0.1:8080/mcp"
            assert server["headers"]["Authorization"].startswith("Bearer ${")
        else:
            verb = server["args"].index("serve")
            assert server["command"] == "vectormigrate"
            cli.commands["serve"].make_context("serve", server["args"][verb + 1 :])


def test_every_tool_is_in_the_table(migrated: Workplace) -> None:
    rows = re.findall(r"^\| (`\w+`.*?) \|", SECTION, re.MULTILINE)
    all_of_them = settings(enable_writes=True, webserver_url="http://127.0.0.1:3000")

    with Reader(context_of(migrated)) as reader:
        known = tools(reader, all_of_them)

    assert re.findall(r"`(\w+)`", " ".join(rows)) == list(known)


def test_codes_are_those_of_the_code() -> None:
    told = {int(code) for code in re.findall(r"-32\d{3}", SECTION)}
    ours = {codes.UNKNOWN_MIGRATION, codes.NOT_SO, codes.UNAVAILABLE, codes.FAILED}

    assert told == ours | {codes.RATE_LIMITED, codes.FORBIDDEN}
