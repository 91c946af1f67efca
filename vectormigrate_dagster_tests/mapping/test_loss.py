"""The loss report counts by grade, and names every blocking row with what to do about it."""

from __future__ import annotations

import pytest

from vectormigrate_dagster.errors import PlanRefused
from vectormigrate_dagster.mapping.loss import Grade, LossReport, LossRow


def row(code: str, grade: Grade) -> LossRow:
    return LossRow(code=code, subject=f"field '{code}'", source="any", target="less", grade=grade, reason=f"{code}!")


ROWS = (row("a", Grade.EXACT), row("b", Grade.WIDENED), row("c", Grade.LOSSY), row("d", Grade.LOSSY))


def test_counts_has_every_grade() -> None:
    assert LossReport().counts() == {"exact": 0, "widened": 0, "lossy": 0, "refused": 0}
    assert LossReport(rows=ROWS).counts() == {"exact": 1, "widened": 1, "lossy": 2, "refused": 0}


def test_lossy_rows_pass_only_if_each_is_allowed() -> None:
    with pytest.raises(PlanRefused, match=r"add 'd' to mapping\.allow") as refused:
        LossReport.of(ROWS, ["c"]).check()
    assert "'c'" not in str(refused.value)
    LossReport.of(ROWS, ["c", "d"]).check()


def test_refused_rows_cannot_be_allowed() -> None:
    report = LossReport.of([row("x", Grade.REFUSED)], ["x"])
    assert report.refused
    assert not report.rows[0].allowed
    with pytest.raises(PlanRefused, match="x!") as refused:
        report.check()
    assert "mapping.allow" not in str(refused.value)


def test_the_message_lists_all_blocking_rows() -> None:
    with pytest.raises(PlanRefused, match="2 things") as refused:
        LossReport(rows=ROWS).check()
    assert all(f"field '{code}'" in str(refused.value) for code in "cd")
    assert "field 'a'" not in str(refused.value)
