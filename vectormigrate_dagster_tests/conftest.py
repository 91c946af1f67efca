"""Fixtures that several rooms use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster_tests.harness import COLLECTION, Records, Workplace, end_children, fill

SMALL = Records.of(300)


@pytest.fixture(scope="session")
def small_source(tmp_path_factory: pytest.TempPathFactory) -> Endpoint:
    """An embedded Qdrant with 300 records; nobody writes to it."""
    endpoint = Endpoint(type="qdrant", path=tmp_path_factory.mktemp("small") / "source", collection=COLLECTION)
    fill(endpoint, SMALL)
    return endpoint


@pytest.fixture
def place(tmp_path: Path, small_source: Endpoint) -> Workplace:
    """A migration of those 300 records to a Milvus Lite, in 3 or more partitions."""
    transfer = {"partition_records": 100, "batch_size": 40, "checkpoint_seconds": 0}
    return Workplace.make(tmp_path, small_source, "milvus", transfer=transfer)


@pytest.fixture(autouse=True)
def _no_children_left() -> Iterator[None]:
    yield
    end_children()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests have to tell beside that they passed."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "told":
                terminalreporter.write_line(str(value))
