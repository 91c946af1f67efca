"""Checks that MCP's official conformance suite finds nothing but what is listed, each with its reason.

With the tools that it asks for in place of ours it finds nothing for 2026-07-28, and for 2025-11-25 only what needs a
channel from the server to the client, which a server without sessions does not have.
"""

from __future__ import annotations

import pytest

from benchmarks.conformance import Node, NoNode, conformance, tools_of_node
from vectormigrate_dagster_tests.harness import Workplace

pytestmark = pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")
"""The suite still asks for a log to clients, which the protocol is about to drop."""


@pytest.fixture(scope="module")
def node() -> Node:
    """Node 22 and the suite, where npm can install them."""
    try:
        return tools_of_node()
    except NoNode as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(
    ("product", "revision", "passed", "total"),
    [
        (False, "2026-07-28", 37, 37),
        (False, "2025-11-25", 26, 30),
        (True, "2026-07-28", 12, 37),
        (True, "2025-11-25", 8, 30),
    ],
)
def test_conformance(node: Node, migrated: Workplace, product: bool, revision: str, passed: int, total: int) -> None:
    found = conformance(node, migrated, revision, product=product)

    assert found.as_listed, found.report[-6000:]
    assert (found.passed, found.total) == (passed, total)
