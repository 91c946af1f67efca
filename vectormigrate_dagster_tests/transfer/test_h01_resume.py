"""H-1: resuming from a checkpoint over the same split never loses a record, wherever it stopped and failed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from vectormigrate_dagster.errors import Stopped, Throttled, Unavailable
from vectormigrate_dagster.model import IdKind, tile
from vectormigrate_dagster.transfer import Settings
from vectormigrate_dagster_tests.batches import make_batch
from vectormigrate_dagster_tests.memory import Fault, MemoryDatabase
from vectormigrate_dagster_tests.transfer.conftest import Pair, impatient


@st.composite
def attempts(draw: Callable[..., Any]) -> list[dict[str, Any]]:
    """How each attempt ends: after some checkpoints, or by faults on either side."""
    return draw(  # type: ignore[no-any-return]
        st.lists(
            st.fixed_dictionaries(
                {
                    "stop_after": st.integers(0, 6),
                    "close": st.booleans(),
                    "scan_fault": st.none() | st.integers(0, 6),
                    "upsert_fault": st.none() | st.integers(0, 6),
                    "times": st.integers(1, 4),
                    "after_commit": st.booleans(),
                    "throttled": st.booleans(),
                    "writers": st.integers(1, 3),
                    "batch_records": st.integers(1, 9),
                    "page_records": st.integers(1, 30),
                }
            ),
            max_size=5,
        )
    )


@settings(max_examples=60, deadline=None)
@given(
    ids=st.sets(st.integers(0, 2**64 - 1), max_size=40),
    bounds=st.sets(st.integers(0, 2**64 - 1), max_size=2),
    plan=attempts(),
)
def test_h01_resume_over_the_same_split_never_loses(
    ids: set[int], bounds: set[int], plan: list[dict[str, Any]]
) -> None:
    source = MemoryDatabase("source")
    source.put(make_batch(sorted(ids)))
    pair = Pair(source=source)
    for split in tile(IdKind.U64, sorted(bounds)):
        after: str | None = None
        acknowledged = 0
        for attempt in [*plan, None]:
            position, number = attempt_once(pair, split, after, attempt)
            after, acknowledged = position, acknowledged + number
            done = {key for key in ids if split.contains(key) and after is not None and key <= int(after)}
            assert done <= pair.target.ids()
            assert acknowledged == len(done)
    assert pair.target.ids() == ids


def attempt_once(pair: Pair, split: Any, after: str | None, attempt: dict[str, Any] | None) -> tuple[str | None, int]:
    """Run one attempt; return the checkpoint that it left and how many records that counts."""
    pair.source.faults.clear()
    pair.target.faults.clear()
    attempt = attempt or {"stop_after": 10**6, "close": False, "writers": 1, "batch_records": 7, "page_records": 7}
    error = Throttled("slow", retry_after=0) if attempt.get("throttled") else Unavailable("gone")
    for database, method in ((pair.source, "scan"), (pair.target, "upsert")):
        at = attempt.get(f"{method}_fault")
        if at is not None:
            start = database.calls[method] + at
            late = attempt["after_commit"]
            database.faults.append(Fault(method, error, at=start, times=attempt["times"], after_commit=late))
    seen: list[Any] = []
    moving = pair.move(
        split=split,
        after=after,
        settings=Settings(
            batch_records=attempt["batch_records"],
            page_records=attempt["page_records"],
            writers=attempt["writers"],
            max_pages=3,
        ),
        throttle=impatient(max_retries=2, batch_records=5),
        stop=lambda: not attempt["close"] and len(seen) >= attempt["stop_after"],
    )
    try:
        for checkpoint in moving:
            seen.append(checkpoint)
            if attempt["close"] and len(seen) >= attempt["stop_after"]:
                break
    except (Stopped, Throttled, Unavailable):
        pass  # what was yielded before is what a resume knows
    finally:
        moving.close()  # type: ignore[attr-defined]
    return (seen[-1].after, seen[-1].acknowledged) if seen else (after, 0)
