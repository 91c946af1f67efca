"""Checks that MCP's own Python client and its inspector use every tool, resource and prompt, over HTTP and stdio."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import jsonschema
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from benchmarks.conformance import NoNode, tools_of_node
from vectormigrate_dagster_tests.harness import ID, Workplace, environment
from vectormigrate_dagster_tests.sidecar.faces.migrated import PLANNED, UNTOUCHED
from vectormigrate_dagster_tests.sidecar.faces.serving import Served

READS = ["migration_status", "list_migrations", "schema_recommendation"]
MODES = ("auto", "legacy", "2026-07-28")

Session = Callable[[Client], Awaitable[None]]


@asynccontextmanager
async def over_http(served: Served, mode: str) -> AsyncIterator[Client]:
    async with httpx2.AsyncClient(headers=served.headers, timeout=60) as http:
        transport = streamable_http_client(f"{served.url}/mcp", http_client=http)
        async with Client(transport, mode=mode) as client:  # type: ignore[arg-type]
            yield client


async def use_everything(client: Client) -> None:
    """List and use every tool, resource and prompt of a server that only reads."""
    tools = (await client.list_tools()).tools
    assert [tool.name for tool in tools] == READS
    for tool in tools:
        assert tool.title
        assert tool.description
        assert tool.output_schema is not None
        assert tool.annotations is not None
        assert tool.annotations.read_only_hint is True
        jsonschema.Draft202012Validator.check_schema(tool.input_schema)
    schemas = {tool.name: tool.output_schema for tool in tools}

    status = await called(client, schemas, "migration_status", migration_id=ID)
    assert (status["status"], status["progress"]["migrated_records"]) == ("completed", 300)
    listed = await called(client, schemas, "list_migrations", limit=2)
    assert (len(listed["migrations"]), listed["total"]) == (2, 3)
    advice = await called(
        client,
        schemas,
        "schema_recommendation",
        source_type="milvus",
        target_type="pinecone",
        source_schema={"a": "json"},
    )
    assert advice["field_mappings"][0]["target_field"]

    refused = await client.call_tool("migration_status", {"migration_id": "nobody"})
    assert refused.is_error
    assert "there is no migration 'nobody'" in text_of(refused)
    wrong = await client.call_tool("list_migrations", {"limit": -1})
    assert wrong.is_error
    assert "limit" in text_of(wrong)
    with pytest.raises(MCPError, match="there is no tool"):
        await client.call_tool("start_migration", {"migration_id": ID})

    resources = (await client.list_resources()).resources
    assert {str(each.uri) for each in resources} == {f"migration://{name}" for name in (ID, PLANNED, UNTOUCHED)}
    (template,) = (await client.list_resource_templates()).resource_templates
    assert template.uri_template == "migration://{migration_id}"
    (content,) = (await client.read_resource(f"migration://{ID}")).contents
    assert json.loads(content.text)["migration_id"] == ID  # type: ignore[union-attr]
    with pytest.raises(MCPError, match="there is no migration"):
        await client.read_resource("migration://nobody")

    (prompt,) = (await client.list_prompts()).prompts
    assert prompt.description
    walk = await client.get_prompt(prompt.name, {"migration_id": PLANNED})
    assert f"vectormigrate migrate {PLANNED}" in walk.messages[0].content.text  # type: ignore[union-attr]


async def called(client: Client, schemas: dict[str, Any], name: str, **arguments: Any) -> dict[str, Any]:
    """A tool's structured answer, which is what its schema says and what its text says."""
    answer = await client.call_tool(name, arguments)
    assert not answer.is_error, answer
    content = answer.structured_content
    assert isinstance(content, dict)
    assert json.loads(text_of(answer)) == content
    jsonschema.validate(content, schemas[name], cls=jsonschema.Draft202012Validator)
    return content


def text_of(answer: Any) -> str:
    return str(answer.content[0].text)


@pytest.mark.parametrize("mode", MODES)
def test_python_client_over_http(served: Served, mode: str) -> None:
    async def run() -> None:
        async with over_http(served, mode) as client:
            await use_everything(client)

    asyncio.run(run())


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_python_client_over_stdio(migrated: Workplace, mode: str) -> None:
    command, *words = migrated.command("serve", "--stdio")

    async def run() -> None:
        server = StdioServerParameters(command=command, args=words, env=environment())
        async with Client(server, mode=mode) as client:  # type: ignore[arg-type]
            await use_everything(client)

    asyncio.run(run())


def test_stdout_holds_nothing_but_messages(migrated: Workplace) -> None:
    asked = [
        {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "initialize",
            "params": {
                "protocolVersion": "2025-11-25",
                "capabilities": {},
                "clientInfo": {"name": "test", "version": "1"},
            },
        },
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {
            "jsonrpc": "2.0",
            "id": 2,
            "method": "tools/call",
            "params": {"name": "migration_status", "arguments": {"migration_id": ID}},
        },
        {
            "jsonrpc": "2.0",
            "id": 3,
            "method": "tools/call",
            "params": {"name": "migration_status", "arguments": {"migration_id": "nobody"}},
        },
    ]
    process = migrated.start_cold("serve", "--stdio")
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("".join(json.dumps(each) + "\n" for each in asked))
    process.stdin.flush()
    answers = {}
    while 3 not in answers or 2 not in answers:
        line = json.loads(process.stdout.readline())
        answers[line.get("id")] = line
    rest, _ = process.communicate(timeout=60)

    assert process.returncode == 0
    assert rest == ""
    assert answers[2]["result"]["structuredContent"]["status"] == "completed"
    assert answers[3]["result"]["isError"] is True


def test_inspector(served: Served, migrated: Workplace) -> None:
    """The inspector's command line, where npm can install it; needs Node 22, which npm installs too."""
    try:
        node = tools_of_node()
    except NoNode as error:
        pytest.skip(str(error))
    http = [f"{served.url}/mcp", "--transport", "http", "--header", f"Authorization: Bearer {served.key}"]
    stdio = migrated.command("serve", "--stdio")
    for server in (http, stdio):
        listed = json.loads(node.run("inspector", "--cli", *server, "--method", "tools/list", "--strict"))
        assert [tool["name"] for tool in listed["tools"]] == READS
        call = ["--method", "tools/call", "--tool-name", "migration_status", "--tool-arg", f"migration_id={ID}"]
        assert json.loads(node.run("inspector", "--cli", *server, *call))["structuredContent"]["status"] == "completed"
