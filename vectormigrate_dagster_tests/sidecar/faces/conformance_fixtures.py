"""What MCP's conformance suite asks for by name: tools, resources and prompts that no product has.

Written from the descriptions of the suite's scenarios. They are served by our application in place of ours, so that
the suite speaks to our transport, guards and wiring.
"""

from __future__ import annotations

import base64
import json
from typing import Annotated, Any

import anyio
import mcp_types as types
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.prompts.base import UserMessage
from mcp.shared.exceptions import MCPError
from pydantic import Field

_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
_SILENCE = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA="
_PAUSE = 0.05

Asked = str | types.InputRequiredResult
"""What a tool returns that asks the client before it answers."""

_SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


def fixtures() -> MCPServer:
    """A new server with everything that the suite asks for, but what needs to call the client back."""
    server = MCPServer(name="conformance-fixtures", version="1.0.0", log_level="ERROR")
    for add in (_simple_tools, _telling_tools, _asking_tools, _resources, _prompts, _handlers):
        add(server)
    return server


def _simple_tools(server: MCPServer) -> None:
    @server.tool()
    def test_simple_text() -> str:
        """A text."""
        return "This is a simple text response for testing."

    @server.tool()
    def test_image_content() -> list[types.ImageContent]:
        """An image."""
        return [_image()]

    @server.tool()
    def test_audio_content() -> list[types.AudioContent]:
        """A sound."""
        return [types.AudioContent(type="audio", data=_SILENCE, mime_type="audio/wav")]

    @server.tool()
    def test_embedded_resource() -> list[types.EmbeddedResource]:
        """A resource inside an answer."""
        return [_embedded("test://embedded-resource", "This is an embedded resource content.")]

    @server.tool()
    def test_multiple_content_types() -> list[types.TextContent | types.ImageContent | types.EmbeddedResource]:
        """Several kinds of content."""
        document = json.dumps({"test": "data", "value": 123})
        return [
            types.TextContent(type="text", text="Multiple content types test:"),
            _image(),
            _embedded("test://mixed-content-resource", document, "application/json"),
        ]

    @server.tool()
    def test_error_handling() -> str:
        """An error."""
        raise ToolError("This tool intentionally returns an error for testing")

    @server.tool()
    def test_x_mcp_header(
        region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})] = "nowhere",
    ) -> str:
        """An argument that is mirrored in a header."""
        return region

    @server.tool()
    def json_schema_2020_12_tool() -> str:
        """A schema with every keyword."""
        return "called"

    server._tool_manager._tools["json_schema_2020_12_tool"].parameters = dict(_SCHEMA)


def _telling_tools(server: MCPServer) -> None:
    @server.tool()
    async def test_tool_with_logging(context: Context) -> str:
        """Three lines of a log."""
        for number, line in enumerate(("Tool execution started", "Tool processing data", "Tool execution completed")):
            await anyio.sleep(_PAUSE if number else 0)
            await context.info(line)
        return "logged"

    @server.tool()
    async def test_tool_with_progress(context: Context) -> str:
        """Progress in three steps."""
        for done in (0, 50, 100):
            await anyio.sleep(_PAUSE if done else 0)
            await context.report_progress(done, 100)
        return "done"

    @server.tool()
    async def test_missing_capability(context: Context) -> str:
        """Refused to a client that cannot sample."""
        able = context.session.client_capabilities
        if able is None or able.sampling is None:
            needed = {"requiredCapabilities": {"sampling": {}}}
            raise MCPError(types.MISSING_REQUIRED_CLIENT_CAPABILITY, "the client must be able to sample", needed)
        return "able"


def _asking_tools(server: MCPServer) -> None:
    @server.tool()
    async def test_input_required_result_elicitation(context: Context) -> Asked:
        """Asks for a name."""
        name = _field(context, "user_name", "name")
        return _ask(user_name=_form("What is your name?", "name")) if name is None else f"Hello, {name}!"

    @server.tool()
    async def test_input_required_result_sampling(context: Context) -> Asked:
        """Asks the client's model."""
        answer = (context.input_responses or {}).get("capital_question")
        if not isinstance(answer, types.CreateMessageResult):
            return _ask(capital_question=_sampling("What is the capital of France?", 100))
        return str(getattr(answer.content, "text", ""))

    @server.tool()
    async def test_input_required_result_list_roots(context: Context) -> Asked:
        """Asks for the client's roots."""
        answer = (context.input_responses or {}).get("client_roots")
        if not isinstance(answer, types.ListRootsResult):
            return _ask(client_roots=types.ListRootsRequest())
        return ", ".join(str(root.uri) for root in answer.roots)

    @server.tool()
    async def test_input_required_result_request_state(context: Context) -> Asked:
        """Keeps a state at the client."""
        if context.request_state == "asked" and _field(context, "confirm", "ok") is not None:
            return "state-ok"
        return _ask("asked", confirm=_form("Please confirm", "ok", "boolean"))

    @server.tool()
    async def test_input_required_result_tampered_state(context: Context) -> Asked:
        """Keeps a state that nobody may change."""
        if context.request_state == "sealed":
            return "state-ok"
        return _ask("sealed", confirm=_form("Please confirm", "ok", "boolean"))

    @server.tool()
    async def test_input_required_result_multiple_inputs(context: Context) -> Asked:
        """Asks for three things at once."""
        wanted = {
            "user_name": _form("What is your name?", "name"),
            "greeting": _sampling("Generate a greeting", 50),
            "client_roots": types.ListRootsRequest(),
        }
        answered = wanted.keys() <= (context.input_responses or {}).keys()
        return "complete" if answered and context.request_state == "three" else _ask("three", **wanted)

    @server.tool()
    async def test_input_required_result_multi_round(context: Context) -> Asked:
        """Asks twice, one after the other."""
        name, color = _field(context, "step1", "name"), _field(context, "step2", "color")
        if (context.request_state or "").startswith("second:") and color is not None:
            return f"{(context.request_state or '').removeprefix('second:')} likes {color}"
        if context.request_state == "first" and name is not None:
            return _ask(f"second:{name}", step2=_form("Step 2: What is your favorite color?", "color"))
        return _ask("first", step1=_form("Step 1: What is your name?", "name"))

    @server.tool()
    async def test_input_required_result_capabilities(context: Context) -> types.InputRequiredResult:
        """Asks only for what the client can give."""
        able = context.session.client_capabilities
        wanted: dict[str, Any] = {}
        if able is None or able.sampling is not None:
            wanted["sample"] = _sampling("Say hello", 50)
        if able is None or able.elicitation is not None:
            wanted["ask"] = _form("What is your name?", "name")
        return _ask("able", **wanted)

    @server.tool()
    async def test_streaming_elicitation(context: Context) -> Asked:
        """Tells how far it is, then asks."""
        await context.report_progress(1, 2)
        return await test_input_required_result_elicitation(context)


def _resources(server: MCPServer) -> None:
    @server.resource("test://static-text", mime_type="text/plain")
    def static_text() -> str:
        """A text."""
        return "This is the content of the static text resource."

    @server.resource("test://static-binary", mime_type="image/png")
    def static_binary() -> bytes:
        """An image."""
        return base64.b64decode(_PIXEL)

    @server.resource("test://template/{id}/data", mime_type="application/json")
    def template(id: str) -> str:
        """A document for each id."""
        return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})

    @server.resource("test://watched-resource", mime_type="text/plain")
    def watched() -> str:
        """Something to subscribe to."""
        return "unchanged"


def _prompts(server: MCPServer) -> None:
    @server.prompt()
    def test_simple_prompt() -> str:
        """A prompt."""
        return "This is a simple prompt for testing."

    @server.prompt()
    def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
        """A prompt with two arguments."""
        return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"

    @server.prompt()
    def test_prompt_with_embedded_resource(resourceUri: str) -> list[UserMessage]:  # noqa: N803
        """A prompt with a resource."""
        return [
            UserMessage(_embedded(resourceUri, "Embedded resource content for testing.")),
            UserMessage("Please process the embedded resource above."),
        ]

    @server.prompt()
    def test_prompt_with_image() -> list[UserMessage]:
        """A prompt with an image."""
        return [UserMessage(_image()), UserMessage("Please analyze the image above.")]

    @server.prompt()
    async def test_input_required_result_prompt(context: Context) -> list[UserMessage] | types.InputRequiredResult:
        """A prompt that asks first."""
        given = _field(context, "user_context", "context")
        if given is None:
            return _ask(user_context=_form("What context should the prompt use?", "context"))
        return [UserMessage(f"Use the context {given}")]


def _handlers(server: MCPServer) -> None:
    async def nothing(_: Any, __: Any) -> types.EmptyResult:
        return types.EmptyResult()

    add = server._lowlevel_server.add_request_handler
    add("logging/setLevel", types.SetLevelRequestParams, nothing)
    add("resources/subscribe", types.SubscribeRequestParams, nothing)
    add("resources/unsubscribe", types.UnsubscribeRequestParams, nothing)

    @server.completion()
    async def complete(_: Any, __: Any, ___: Any) -> types.Completion:
        return types.Completion(values=["paris", "park"], total=2, has_more=False)


def _image() -> types.ImageContent:
    return types.ImageContent(type="image", data=_PIXEL, mime_type="image/png")


def _embedded(uri: str, text: str, mime_type: str = "text/plain") -> types.EmbeddedResource:
    content = types.TextResourceContents(uri=uri, text=text, mime_type=mime_type)
    return types.EmbeddedResource(type="resource", resource=content)


def _ask(state: str | None = None, **wanted: Any) -> types.InputRequiredResult:
    return types.InputRequiredResult(input_requests=wanted, request_state=state)


def _form(message: str, field: str, type: str = "string") -> types.ElicitRequest:
    wanted = {"type": "object", "properties": {field: {"type": type}}, "required": [field]}
    return types.ElicitRequest(params=types.ElicitRequestFormParams(message=message, requested_schema=wanted))


def _sampling(text: str, tokens: int) -> types.CreateMessageRequest:
    message = types.SamplingMessage(role="user", content=types.TextContent(type="text", text=text))
    return types.CreateMessageRequest(params=types.CreateMessageRequestParams(messages=[message], max_tokens=tokens))


def _field(context: Context, asked: str, field: str) -> Any:
    """What a person has filled into a form; None if it was not sent, or is not what was asked for."""
    answer = (context.input_responses or {}).get(asked)
    return (answer.content or {}).get(field) if isinstance(answer, types.ElicitResult) else None
