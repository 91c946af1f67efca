"""How large the pages of a scan are: they follow the weight of records, and shrink to one."""

from __future__ import annotations

from vectormigrate_dagster.databases.pages import TARGET_BYTES, PageSize


def test_pages_follow_the_weight_of_records() -> None:
    size = PageSize(10_000, record_bytes=2000)
    assert size.records == TARGET_BYTES // 2000
    size.learn(100, 100 * 100_000)
    assert size.records == TARGET_BYTES // 100_000
    size.learn(100, 100 * 10)
    assert size.records == 2 * (TARGET_BYTES // 100_000)
    while size.shrink():
        pass
    assert size.records == 1
