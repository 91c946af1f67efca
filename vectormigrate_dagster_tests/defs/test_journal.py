"""Checks where a migration's journal is, what a file makes of the protocol's bounds, what a new plan does to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.defs.journal import bounds_of, journal_url
from vectormigrate_dagster.errors import ConfigurationError, MissingSecret, NotSo
from vectormigrate_dagster.live.journal import Bounds, Journal, JournalDatabase, Key, State
from vectormigrate_dagster.migration_file.loading import parse_migration
from vectormigrate_dagster.model import IdKind

HOME = Path("/homes/dagster")
KEYS = [Key(None, IdKind.U64, "1")]


def migration(journal: str = "{}", source: str = "qdrant") -> Migration:
    text = (
        f"source: {{type: {source}, url: 'http://localhost:6333', collection: a}}\n"
        "target: {type: milvus, url: 'http://localhost:19530', collection: b}\n"
        f"journal: {journal}\n"
    )
    return parse_migration(text, Path("/m/films.yaml"))


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    database = JournalDatabase(f"sqlite:///{tmp_path / 'journal.db'}")
    return Journal.register(database, "films", id_kinds=(IdKind.U64,), bounds=Bounds(request=1, margin=0), by="test")


def test_a_journal_is_a_file_in_the_home_unless_the_file_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    assert str(journal_url(HOME, migration())) == "sqlite:////homes/dagster/journal.db"
    given = migration("{url: 'postgresql+psycopg2://me@db/journals'}")
    assert journal_url(HOME, given).host == "db"
    named = migration("{url_env: JOURNAL_URL}")
    monkeypatch.delenv("JOURNAL_URL", raising=False)
    with pytest.raises(MissingSecret, match="'JOURNAL_URL' is not set"):
        journal_url(HOME, named)
    monkeypatch.setenv("JOURNAL_URL", "postgresql://me:secret@db/journals")
    assert journal_url(HOME, named).password == "secret"  # nobody's


def test_an_address_that_leads_elsewhere_from_each_folder_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match=r"relative path 'j\.db', another file for each working directory"):
        journal_url(HOME, migration("{url: 'sqlite:///j.db'}"))
    monkeypatch.setenv("JOURNAL_URL", "nonsense")
    with pytest.raises(ConfigurationError, match="needs an address such as") as refused:
        journal_url(HOME, migration("{url_env: JOURNAL_URL}"))
    assert "nonsense" not in str(refused.value)
    with pytest.raises(ConfigurationError, match="give one of 'url' and 'url_env', not both"):
        migration("{url: 'sqlite:////j.db', url_env: JOURNAL_URL}")


def test_bounds_come_from_the_file_and_from_what_databases_are_known_for() -> None:
    assert bounds_of(migration()) == Bounds(stale={"source": 0.0, "target": 0.0})
    eventual = bounds_of(migration("{request_seconds: 30}", source="pinecone"))
    assert (eventual.request, eventual.stale["source"] > 1, eventual.stale["target"]) == (30.0, True, 0.0)
    given = bounds_of(migration("{stale_seconds: {source: 2, target: 3}, start_seconds: 1, margin_seconds: 7}"))
    assert given == Bounds(start=1.0, margin=7.0, stale={"source": 2.0, "target": 3.0})
    for wrong in ("{request_seconds: 0}", "{stale_seconds: {source: -1}}", "{start_seconds: .inf}"):
        with pytest.raises(ConfigurationError):
            migration(wrong)


def test_a_new_plan_ends_what_is_under_way_and_keeps_entries(journal: Journal) -> None:
    journal.note(KEYS, kind="change")
    attempt = journal.begin_split("g0001-00000", seconds=60)
    frozen = journal.freeze(since=journal.control(), seconds=60, by="a", reason="b")
    planned = journal.replan(id_kinds=(IdKind.UUID,), bounds=Bounds(request=2), by="me", reason="generation 2")
    assert (planned.state, planned.epoch, planned.id_kinds) == (State.PLANNED, frozen.epoch + 1, (IdKind.UUID,))
    assert (planned.frozen_until, journal.lag().records) == (None, 1)
    with pytest.raises(NotSo):
        journal.switch(since=frozen, by="a", reason="b")
    with pytest.raises(Exception, match="another worker has taken over split"):
        journal.renew(attempt, seconds=60)
