"""Checks `DualWriter.target_id`: the id that the migration makes, or a clear no, and never a guess."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from vectormigrate_dagster.errors import InvalidRecord, NotSo
from vectormigrate_dagster.live.dual_writer import DualWriter
from vectormigrate_dagster.live.journal import Journal, JournalDatabase
from vectormigrate_dagster.mapping.ids import DEFAULT_NAMESPACE, IdMapping, IdRule, Kept
from vectormigrate_dagster.model import IdKind
from vectormigrate_dagster_tests.live.journals import BOUNDS, MIGRATION


def told(journal_url: str, mapping: IdMapping | None) -> DualWriter:
    database = JournalDatabase(journal_url)
    document = None if mapping is None else mapping.model_dump(mode="json")
    kinds = [IdKind.U64, IdKind.TEXT]
    Journal.register(database, MIGRATION, id_kinds=kinds, id_mapping=document, bounds=BOUNDS, by="test")
    database.close()
    return DualWriter(journal_url, MIGRATION)


def test_the_id_in_the_target_is_the_one_that_the_migration_makes(tmp_path: Path) -> None:
    mapping = IdMapping(
        rules={IdKind.U64: IdRule.COPY, IdKind.TEXT: IdRule.UUID5}, target_kinds=(IdKind.U64, IdKind.UUID)
    )
    with told(f"sqlite:///{tmp_path / 'journal.db'}", mapping) as writer:
        assert writer.target_id(7) == 7
        assert writer.target_id("a") == uuid.uuid5(DEFAULT_NAMESPACE, "a")


def test_an_id_that_the_target_cannot_hold_is_refused(tmp_path: Path) -> None:
    mapping = IdMapping(rules={IdKind.TEXT: IdRule.COPY}, target_kinds=(IdKind.TEXT,), max_bytes=3)
    with (
        told(f"sqlite:///{tmp_path / 'journal.db'}", mapping) as writer,
        pytest.raises(InvalidRecord, match="the target holds 3"),
    ):
        writer.target_id("long")


@pytest.mark.parametrize("mapping", [None, "restored"])
def test_an_id_that_no_plan_tells_is_not_guessed(tmp_path: Path, mapping: str | None) -> None:
    rules = {IdKind.TEXT: IdRule.COPY}
    restored = IdMapping(rules=rules, target_kinds=(IdKind.TEXT,), restore=Kept(field="_source_id"))
    with (
        told(f"sqlite:///{tmp_path / 'journal.db'}", restored if mapping else None) as writer,
        pytest.raises(NotSo, match="_source_id" if mapping else "plan it again"),
    ):
        writer.target_id("a")


def test_an_id_that_depends_on_the_scope_is_not_told_without_it(tmp_path: Path) -> None:
    mapping = IdMapping(rules={IdKind.TEXT: IdRule.UUID5}, target_kinds=(IdKind.UUID,), scoped=True)
    with told(f"sqlite:///{tmp_path / 'journal.db'}", mapping) as writer:
        with pytest.raises(NotSo, match="name it"):
            writer.target_id("a")
        assert writer.target_id("a", scope="__default__") != writer.target_id("a", scope="other")
