"""Checks what is known to differ: the load's lists, and in their place what a re-sync has come to since."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.databases import Refusal
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.exceptions import exceptions_of, pre_existing
from vectormigrate_dagster.defs.journal import open_journal
from vectormigrate_dagster.defs.refusals import (
    LoadLists,
    RefusalList,
    catch_up_path,
    list_unlike,
    refusals_path,
    vanished_path,
)
from vectormigrate_dagster.defs.state import PartitionState, TargetState, target_key
from vectormigrate_dagster.live.journal import Journal, Judged, Key, Side, Verdict
from vectormigrate_dagster.model import IdKind, ScopeKind
from vectormigrate_dagster.validation import Exceptions


def refusals(*ids: int) -> list[Refusal]:
    return [Refusal(id=str(number), reason="no place", scope=None) for number in ids]


def verdict(
    number: int,
    outcome: str = "refused",
    *,
    primary: Side = "source",
    alike: bool = False,
    promised: bool = False,
    scope: str | None = None,
) -> Verdict:
    key = Key(scope, IdKind.U64, str(number))
    return Verdict(key=key, primary=primary, outcome=outcome, reason="odd", alike=alike, promised=promised)


@pytest.fixture
def loaded(planned: MigrationLog) -> MigrationLog:
    """A partition of which 1 and 2 were refused and 3 and 4 had vanished; 5 was listed by a run that was killed."""
    plan = planned.require_plan()
    key = plan.keys[0]
    RefusalList(refusals_path(planned, key), keep=0).append(refusals(1, 2, 5))
    RefusalList(vanished_path(planned, key), keep=0).append(refusals(3, 4))
    planned.record(key, PartitionState(plan=plan.digest, state="done", run_id="r", refused=2, vanished=2))
    planned.record(target_key(plan.generation), TargetState(plan=plan.digest, state="created"))
    planned.refresh()
    return planned


@pytest.fixture
def journal(instance: dg.DagsterInstance, migration: Migration, loaded: MigrationLog) -> Iterator[Journal]:
    with open_journal(instance, migration, loaded.require_plan()) as opened:
        yield opened


def judge(journal: Journal, *kept: Verdict, generation: int = 1) -> None:
    lease = journal.lease(seconds=60.0)
    assert lease is not None
    journal.consume(lease, [], Judged(generation=generation, kept=kept))
    journal.release(lease)


def known(log: MigrationLog, journal: Journal | None, keys: list[str] | None = None) -> Exceptions:
    return exceptions_of(log, log.require_plan(), keys, journal=journal)


def ids(found: Exceptions) -> set[str]:
    return {text for _, text in found.refused_ids}


@pytest.mark.parametrize("kept", [True, False])
def test_without_verdicts_the_load_has_the_word(loaded: MigrationLog, journal: Journal, kept: bool) -> None:
    found = known(loaded, journal if kept else None)
    assert (found.refused, found.vanished, ids(found)) == (2, 2, {"1", "2", "5"})


def test_a_verdict_takes_the_place_of_what_the_load_has_said(loaded: MigrationLog, journal: Journal) -> None:
    judge(
        journal,
        verdict(1, "repaired", alike=True),
        verdict(2),  # counted once, although both refuse it
        verdict(3, "gone", alike=True),
        verdict(4),  # vanished, and refused once it could be read
        verdict(9),
    )
    found = known(loaded, journal)
    assert (found.refused, found.vanished, ids(found)) == (3, 0, {"2", "4", "5", "9"})


@pytest.mark.parametrize("other", [verdict(2, "still_wrong"), verdict(2, primary="target"), verdict(2, "left_alone")])
def test_only_what_the_target_refuses_is_excused(loaded: MigrationLog, journal: Journal, other: Verdict) -> None:
    judge(journal, other)
    found = known(loaded, journal)
    assert (found.refused, ids(found)) == (1, {"1", "5"})


def test_a_line_that_no_state_counts_takes_nothing_from_the_count(loaded: MigrationLog, journal: Journal) -> None:
    judge(journal, verdict(5, "repaired", alike=True))
    found = known(loaded, journal)
    assert (found.refused, ids(found)) == (2, {"1", "2"})


def test_verdicts_of_other_plans_and_on_partitions_that_are_not_looked_at_do_not_count(
    loaded: MigrationLog, journal: Journal
) -> None:
    judge(journal, verdict(1, "repaired", alike=True), generation=2)
    judge(journal, verdict(9))
    plan = loaded.require_plan()
    of_numbers = [one.key for one in plan.splits if one.split.kind is IdKind.U64 and one.split.contains(9)]
    others = [key for key in plan.keys if key not in of_numbers]
    assert known(loaded, journal, of_numbers).refused_ids >= {(None, "9")}
    assert "9" not in ids(known(loaded, journal, others))
    assert known(loaded, journal).refused == 3


def test_what_the_source_has_in_no_scope_that_is_moved_is_not_counted(loaded: MigrationLog, journal: Journal) -> None:
    judge(journal, verdict(9, scope="elsewhere"))
    assert known(loaded, journal).refused == 2


def test_what_is_refused_of_a_scope_that_is_newer_than_the_plan_is_excused_and_not_counted(
    loaded: MigrationLog, journal: Journal
) -> None:
    """No tier counts such a scope; the comparison before a cutover looks at it all the same."""
    plan = loaded.require_plan()
    schema = plan.mapping.source_schema.model_copy(update={"scope": ScopeKind.NAMESPACE})
    divided = plan.model_copy(update={"mapping": plan.mapping.model_copy(update={"source_schema": schema})})
    loaded.record(target_key(plan.generation), TargetState(plan=divided.digest, state="created"))
    loaded.refresh()
    judge(journal, verdict(9, scope="new"))
    found = exceptions_of(loaded, divided, journal=journal)
    assert (found.refused, ("new", "9") in found.refused_ids) == (0, True)
    assert ("new", "9") not in exceptions_of(loaded, divided, plan.keys[:1], journal=journal).refused_ids


def test_what_was_left_alone_counts_only_where_there_were_others(loaded: MigrationLog, journal: Journal) -> None:
    judge(journal, verdict(7, "left_alone", promised=True), verdict(8, "left_alone"))
    plan = loaded.require_plan()
    assert (known(loaded, journal).left_alone, pre_existing(loaded, plan, journal)) == (0, 0)
    state = TargetState(plan=plan.digest, state="existing", records_before=3)
    loaded.record(target_key(plan.generation), state)
    loaded.record(
        plan.keys[0], PartitionState(plan=plan.digest, state="done", run_id="r", refused=2, vanished=2, skipped=3)
    )
    loaded.refresh()
    found = known(loaded, journal)
    assert (found.left_alone, found.pre_existing, pre_existing(loaded, plan, journal)) == (2, 1, 1)


def test_catching_up_is_told_what_the_lists_say_now(loaded: MigrationLog) -> None:
    plan = loaded.require_plan()
    lists = LoadLists(loaded, plan)
    assert lists() == {(None, str(number)) for number in range(1, 6)}
    RefusalList(refusals_path(loaded, plan.keys[-1]), keep=0).append(refusals(6))
    RefusalList(refusals_path(loaded, plan.keys[0]), keep=1).trim()
    refusals_path(loaded, "g0009-00000").write_text('{"id": "7", "reason": "of another plan", "scope": null}\n')
    assert lists() == {(None, text) for text in "1346"}


def test_people_find_all_that_is_not_alike_in_a_list(loaded: MigrationLog, journal: Journal) -> None:
    plan = loaded.require_plan()
    judge(journal, verdict(1, "repaired", alike=True), *map(verdict, range(100, 1000)))
    for _ in range(2):
        list_unlike(loaded, plan, journal)
        lines = catch_up_path(loaded).read_text().splitlines()
        assert len(lines) == 900
        assert lines[0].startswith('{"id": "100", "reason": "odd", "scope": null, "outcome": "refused", "at": "20')
    journal.replan(id_kinds=[IdKind.U64], bounds=journal.control().bounds, by="test", reason="again")
    list_unlike(loaded, plan, journal)
    assert not catch_up_path(loaded).exists()


def test_the_list_stays_when_the_journal_has_forgotten_at_the_end(journal: Journal, loaded: MigrationLog) -> None:
    """A run that catches up, and sees only then that the migration was completed, writes the list as well."""
    judge(journal, verdict(1))
    list_unlike(loaded, loaded.require_plan(), journal)
    journal.complete(since=journal.control(), by="test", reason="test")
    list_unlike(loaded, loaded.require_plan(), journal)
    assert '"id": "1"' in catch_up_path(loaded).read_text()


def test_a_list_that_somebody_else_takes_away_meanwhile_is_written_anew(
    loaded: MigrationLog, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = loaded.require_plan()
    judge(journal, verdict(100))
    list_unlike(loaded, plan, journal)
    read_text = Path.read_text

    def taken_away(path: Path, *args: str, **named: str) -> str:
        path.unlink(missing_ok=True)
        return read_text(path, *args, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", taken_away)
        list_unlike(loaded, plan, journal)
    assert len(catch_up_path(loaded).read_text().splitlines()) == 1
