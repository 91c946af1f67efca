"""Fixtures of the live part."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from vectormigrate_dagster.live.journal import Journal
from vectormigrate_dagster_tests.live.journals import ClockedDatabase, opened
from vectormigrate_dagster_tests.live.switching import Switching, standing_clock
from vectormigrate_dagster_tests.servers import postgres


@pytest.fixture(scope="session")
def shared_postgres_url(postgres_server: str) -> Iterator[str]:
    """The address of a database that tests use one after the other."""
    with postgres.database_of_its_own(postgres_server) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
def journal_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a new journal may be made, on either engine."""
    if request.param == "postgres":
        url = str(request.getfixturevalue("shared_postgres_url"))
        postgres.empty(url)
        return url
    return f"sqlite:///{tmp_path / 'journal.db'}"


@pytest.fixture
def clocked(journal_url: str) -> Iterator[tuple[ClockedDatabase, Journal]]:
    """A journal whose clock the test moves."""
    with opened(journal_url) as found:
        yield found


@pytest.fixture
def switching(journal_url: str) -> Iterator[Switching]:
    """A migration that may be switched, on a clock that the test moves."""
    with standing_clock() as clock:
        case = Switching(journal_url, clock)
        yield case
        case.close()
