"""Checks what the journal keeps of keys after a re-sync: on both engines, with the entries or not at all, per plan."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from vectormigrate_dagster.errors import StorageFailed
from vectormigrate_dagster.live.journal import Journal, Judged, Key, State, Verdict, tables
from vectormigrate_dagster.live.journal import verdicts as table
from vectormigrate_dagster.live.journal.tables import VERDICTS
from vectormigrate_dagster.live.verification import Verification
from vectormigrate_dagster.model import IdKind, Split
from vectormigrate_dagster.transfer.ownership import OwnershipLog
from vectormigrate_dagster.transfer.resync import Outcome
from vectormigrate_dagster.validation import Exceptions
from vectormigrate_dagster_tests.live.journals import (
    BOUNDS,
    ClockedDatabase,
    carried_over,
    entered,
    key,
    keys,
    opened,
    switched,
    written,
)
from vectormigrate_dagster_tests.live.support import Live, record, same_mapping

########## The table ##########


def refused(chosen: Key, reason: str = "no place", **other: object) -> Verdict:
    return Verdict(key=chosen, primary="source", outcome="refused", reason=reason, **other)  # type: ignore[arg-type]


def judge(journal: Journal, *kept: Verdict, dropped: tuple[Key, ...] = (), generation: int = 1) -> None:
    """Deal with all entries, and keep verdicts."""
    lease = journal.lease(seconds=60.0)
    assert lease is not None
    journal.consume(lease, journal.due(lease), Judged(generation=generation, kept=kept, dropped=dropped))
    journal.release(lease)


def told(journal: Journal, generation: int = 1) -> dict[Key, str]:
    return {verdict.key: verdict.reason for verdict in journal.verdicts(generation).all()}


def test_a_key_has_one_verdict_the_last_until_it_is_dropped(clocked: tuple[ClockedDatabase, Journal]) -> None:
    database, journal = clocked
    judge(journal, refused(key(1), "first"), refused(key(2), "stays"))
    database.tick(5.0)
    judge(
        journal,
        refused(key(1), "second", promised=True),
        Verdict(key=key(3), primary="source", outcome="gone", alike=True),
    )

    assert told(journal) == {key(1): "second", key(2): "stays", key(3): ""}
    assert journal.verdicts(1).unlike() == 2
    (found,) = journal.verdicts(1).of([key(1), key(9)]).values()
    assert found == refused(key(1), "second", promised=True, at=database.time)

    judge(journal, dropped=(key(1), key(3), key(9)))
    assert told(journal) == {key(2): "stays"}


def test_keys_of_all_scopes_kinds_and_lengths_are_apart(clocked: tuple[ClockedDatabase, Journal]) -> None:
    _, journal = clocked
    texts = ["1", "", "ä\n'", "x" * 65_535]
    chosen = [
        Key(scope, kind, text) for scope in (None, "", "a") for kind in (IdKind.U64, IdKind.TEXT) for text in texts
    ]
    judge(journal, *(refused(one, str(number)) for number, one in enumerate(chosen)))

    assert told(journal) == {one: str(number) for number, one in enumerate(chosen)}
    assert journal.verdicts(1).of(chosen).keys() == set(chosen)


def test_a_reason_may_quote_whatever_a_record_says(clocked: tuple[ClockedDatabase, Journal]) -> None:
    _, journal = clocked
    judge(journal, refused(key(1), "not 'a\0\ud800'"))
    assert told(journal) == {key(1): "not 'a\ufffd?'"}


def test_thousands_of_keys_are_found_and_dropped(clocked: tuple[ClockedDatabase, Journal]) -> None:
    _, journal = clocked
    many = keys(*range(2500))
    judge(journal, *map(refused, many))
    assert len(journal.verdicts(1).of(many)) == 2500
    judge(journal, dropped=tuple(many[1:]))
    assert told(journal).keys() == {many[0]}


def test_migrations_and_plans_do_not_see_each_other(clocked: tuple[ClockedDatabase, Journal]) -> None:
    database, journal = clocked
    other = Journal.register(database, "other", id_kinds=[IdKind.U64], bounds=BOUNDS, by="test")
    judge(journal, refused(key(1)))
    judge(journal, refused(key(2)), generation=2)
    judge(other, refused(key(3)))
    judge(other, dropped=(key(1), key(2)))

    assert [list(told(journal, number)) for number in (1, 2, 3)] == [keys(1), keys(2), []]
    assert list(told(other)) == keys(3)
    other.complete(since=other.control(), by="test", reason="over")
    assert (told(other), list(told(journal))) == ({}, keys(1))


def test_a_new_plan_and_the_end_forget_all(clocked: tuple[ClockedDatabase, Journal]) -> None:
    _, journal = clocked
    judge(journal, refused(key(1)))
    journal.replan(id_kinds=[IdKind.U64], bounds=BOUNDS, by="test", reason="again")
    assert told(journal) == {}
    judge(journal, refused(key(1)), generation=2)
    switched(journal)
    assert list(told(journal, 2)) == keys(1)
    journal.complete(since=journal.control(), by="test", reason="over")
    assert told(journal, 2) == {}


def test_entries_are_dealt_with_and_judged_in_one_transaction(
    clocked: tuple[ClockedDatabase, Journal], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, journal = clocked
    written(journal, 1)
    with monkeypatch.context() as patch:
        patch.setattr(table, "_digest", lambda key: None)  # what no row can be without
        with pytest.raises(StorageFailed):
            judge(journal, refused(key(1)))

    assert (journal.lag().records, told(journal)) == (1, {})


def test_a_lease_that_has_ended_judges_nothing(clocked: tuple[ClockedDatabase, Journal]) -> None:
    database, journal = clocked
    written(journal, 1)
    lease = journal.lease(seconds=10.0)
    assert lease is not None
    listed = journal.due(lease)
    database.tick(11.0)
    with pytest.raises(Exception, match="has ended; nothing is marked"):
        journal.consume(lease, listed, Judged(generation=1, kept=[refused(key(1))]))
    assert (journal.lag().records, told(journal)) == (1, {})


def test_a_journal_from_before_has_the_table_added(journal_url: str) -> None:
    with opened(journal_url) as (database, journal):
        written(journal, 1)
        with database.transaction() as connection:
            VERDICTS.drop(connection)
            connection.execute(sa.delete(tables.VERSION).where(tables.VERSION.c.version > 1))

    with opened(journal_url) as (_, journal):
        judge(journal, refused(key(1)))
        assert list(told(journal)) == keys(1)


def test_a_split_that_was_loaded_again_has_what_was_said_of_it_looked_at_again(
    clocked: tuple[ClockedDatabase, Journal],
) -> None:
    _, journal = clocked
    entered(journal, State.BACKFILLING)
    judge(journal, refused(key(1)), refused(key(2)))
    attempt = journal.begin_split("g0001-00000", seconds=60.0)
    assert journal.finish_split(attempt, belongs=lambda named: named == key(1)) == 1
    assert carried_over(journal) == keys(1)


########## Catching up ##########


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    """Three records that are alike on both sides; the target refuses the record 2 from now on."""
    made = Live(tmp_path)
    for number in (1, 2, 3):
        made.source.put(record(number, 1))
        made.target.put(record(number, 1))
    made.target.refuse = lambda one: "not today" if one == 2 else None
    yield made
    made.database.close()


def outcomes(live: Live) -> dict[str, str]:
    return {verdict.key.text: verdict.outcome for verdict in live.journal.verdicts(1).all()}


def test_what_is_refused_is_kept_until_it_is_right(live: Live) -> None:
    live.write(record(2, 5))
    live.write(record(3, 5))
    live.catch_up().step()
    (kept,) = live.journal.verdicts(1).all()
    assert (kept.key.text, kept.outcome, kept.reason, kept.primary) == ("2", "refused", "not today", "source")
    assert live.target.ids() == {1, 3}

    live.target.refuse = lambda one: None
    live.write(record(2, 6))
    live.catch_up().step()
    assert outcomes(live) == {}
    live.assert_equal()


def test_of_what_the_load_could_not_move_it_is_kept_that_it_is_right_or_gone(live: Live) -> None:
    listed = {(None, "1"), (None, "2"), (None, "4")}
    live.target.delete(live.target.get(2).ids)
    live.write(record(1, 5))
    live.remove(2)
    live.write(record(3, 5))
    live.write(record(4, 5))
    live.catch_up(load_lists=lambda: listed).step()
    assert outcomes(live) == {"1": "repaired", "2": "gone", "4": "repaired"}
    assert live.journal.verdicts(1).unlike() == 0
    live.write(record(2, 5))
    live.catch_up(load_lists=lambda: listed).step()
    assert outcomes(live)["2"] == "refused"


def test_a_kill_before_entries_are_marked_leaves_nothing_said_and_all_to_be_done(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    live.write(record(2, 5))
    with monkeypatch.context() as patch:
        patch.setattr(table, "keep", _die)
        with pytest.raises(KeyboardInterrupt):
            live.catch_up().step()
    assert (outcomes(live), live.journal.lag().records) == ({}, 1)
    live.later()
    live.catch_up().step()
    assert (outcomes(live), live.journal.lag().records) == ({"2": "refused"}, 0)


def _die(*_: object) -> None:
    raise KeyboardInterrupt


def test_several_processes_judge_keys_of_their_own_lanes(live: Live) -> None:
    live.target.refuse = lambda one: "never"
    for number in range(1, 41):
        live.write(record(number, 5))
    first, second = live.catch_up(lanes=range(32)), live.catch_up(lanes=range(32, 64))
    assert first.step().keys + second.step().keys == 40
    assert outcomes(live) == {str(number): "refused" for number in range(1, 41)}


def test_an_id_without_a_place_is_refused_only_while_there_is_a_record(tmp_path: Path) -> None:
    mapping = same_mapping((IdKind.TEXT,))
    short = mapping.ids.model_copy(update={"max_bytes": 3})
    live = Live(tmp_path, mapping=mapping.model_copy(update={"ids": short}))
    for name in ("long", "longer"):
        live.write(record(name, 5, kind=IdKind.TEXT))
    assert live.catch_up().step().outcomes == {Outcome.REFUSED: 2}
    assert outcomes(live) == {"long": "refused", "longer": "refused"}

    live.remove("long")
    live.write(record("longer", 6, kind=IdKind.TEXT))
    assert live.catch_up().step().outcomes == {Outcome.GONE: 1, Outcome.REFUSED: 1}
    assert outcomes(live) == {"longer": "refused"}


def test_nothing_is_kept_of_scopes_that_are_left_out_until_the_source_does_not_get_them(tmp_path: Path) -> None:
    live = Live(tmp_path)
    live.sides_options = {"scopes": ["other"]}
    live.write(record(1, 5))
    step = live.catch_up().step()
    assert (step.outcomes, outcomes(live)) == ({Outcome.REFUSED: 1}, {})
    live.switch()
    live.write(record(2, 5))
    live.catch_up().step()
    assert outcomes(live) == {"2": "refused"}


@pytest.mark.parametrize("stands", [False, True])
def test_what_was_refused_is_excused_only_while_the_target_lacks_it(live: Live, stands: bool) -> None:
    live.write(record(2, 5))
    live.catch_up().step()
    if stands:
        live.target.put(record(2, 1))  # a request that nobody awaited any more
    excused = Exceptions(refused=1, refused_ids=frozenset({(None, "2")}))
    verification = Verification(live.journal, live.sides, {"all": Split(kind=IdKind.U64)}, exceptions=lambda: excused)

    assert verification.generation().different == ((live.key(2),) if stands else ())

    live.catch_up().step()  # what differs was touched
    assert (live.target.ids(), outcomes(live)) == ({1, 3}, {"2": "refused"})


@pytest.mark.parametrize(
    ("whose", "on_conflict", "differs"),
    [
        ("nobody's", "skip", False),
        ("ours", "skip", True),
        ("somebody else's", "skip", False),
        ("perhaps ours", "overwrite", False),
    ],
)
def test_beside_records_of_others_only_a_form_of_ours_is_no_excuse(
    tmp_path: Path, whose: str, on_conflict: str, differs: bool
) -> None:
    log = OwnershipLog(tmp_path / "g0001-changes")
    live = Live(tmp_path, sides_options={"ownership": log, "on_conflict": on_conflict})
    live.source.put(record(2, 1))
    live.write(record(2, 1))
    live.catch_up().step()
    live.target.refuse = lambda one: "not today"
    live.write(record(2, 5))
    live.catch_up().step()
    assert (outcomes(live), live.target.ids()) == ({"2": "refused"}, set())
    if whose != "nobody's":
        live.target.put(record(2, 1))
    if whose == "somebody else's":
        live.sides_options["ownership"] = OwnershipLog(tmp_path / "g0001-other")
    excused = Exceptions(refused=1, refused_ids=frozenset({(None, "2")}))
    verification = Verification(live.journal, live.sides, {"all": Split(kind=IdKind.U64)}, exceptions=lambda: excused)
    assert verification.generation().different == ((live.key(2),) if differs else ())


########## The way back ##########


def test_what_the_target_lacks_as_is_known_stays_so_on_the_way_back(live: Live) -> None:
    live.write(record(2, 5))
    live.catch_up().step()
    live.switch()
    live.journal.note([live.key(2), live.key(3)], kind="touch")
    live.target.delete(live.target.get(3).ids)
    live.catch_up().step()
    kept = {verdict.key.text: (verdict.primary, verdict.outcome) for verdict in live.journal.verdicts(1).all()}
    assert kept == {"2": ("source", "refused"), "3": ("target", "refused")}


def test_what_is_written_to_the_target_after_the_switch_is_refused_no_more(live: Live) -> None:
    live.write(record(2, 5))
    live.catch_up().step()
    live.switch()
    live.target.refuse = lambda one: None
    live.write(record(2, 7))
    live.catch_up().step()
    assert outcomes(live) == {}
    live.assert_equal()
