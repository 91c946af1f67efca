"""Checks that every hazard that this version has to prove safe is named by a test.

A hazard is a way in which migrations of vector databases lose data. The number in a test's name says which.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
HAZARDS = {
    1: "a resume over ranges that are drawn again loses records",
    2: "an empty source ends in an error",
    7: "the last id of a page is taken for the greatest, though the page has no order",
    8: "pages by offset end at a cap of the server",
    9: "a write that is repeated makes a record twice",
    10: "several scopes that are moved at the same time are mixed up",
    11: "ids change from process to process",
    12: "vectors are altered on the way",
    13: "payload values are rewritten",
    14: "an unknown type is dropped in silence, or ends the run in its middle",
    15: "fields that the mapping does not know are dropped",
    16: "two ids become one, or the original is lost",
    17: "records of two scopes overwrite each other",
    18: "counts are compared in total, not by record",
    20: "one migration's end forgets the state of another",
    21: "a failure is shown as success",
    22: "a validation passes that compared nothing",
    23: "the source is written to",
    24: "a metric is assumed",
    25: "records of somebody else are overwritten",
    27: "records that are listed and not given are not noticed",
    28: "one passing fault ends the run",
    29: "the whole collection is held in memory",
    30: "a key shows in a log, event, run or output",
    31: "ids are made in a namespace that nobody can configure",
    32: "searches are answered by an index that is not built",
}


@cache
def named() -> dict[int, list[str]]:
    """Hazard -> tests that carry its number."""
    found: dict[int, list[str]] = defaultdict(list)
    for file in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_h"):
                for number in re.findall(r"(?<=_)h(\d\d)(?=_)", node.name):
                    found[int(number)].append(f"{file.relative_to(TESTS)}::{node.name}")
    return found


@pytest.mark.parametrize("number", HAZARDS, ids=lambda number: f"H-{number}")
def test_the_hazard_is_named_by_a_test(number: int) -> None:
    assert named()[number], f"no test is named test_h{number:02}_...: {HAZARDS[number]}"
