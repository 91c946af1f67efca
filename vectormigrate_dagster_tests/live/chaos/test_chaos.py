"""Checks the promise of a live migration: nothing lost, stale or resurrected, whatever dies and fails on the way.

Four writers insert, update, delete and insert again while the collection is loaded, caught up, switched over and
switched back; processes of all kinds are killed and servers fail. After each stage both sides must be equal by id set
and by record digests, and every acknowledged write must be there. One journal of three is in Postgres.

`VECTORMIGRATE_CHAOS=300 pytest vectormigrate_dagster_tests/live/chaos -k "chaos and qdrant"` runs 300 seeds into one
kind of target, without `-k` into all four; without the variable ten are run in all. `VECTORMIGRATE_CHAOS_AT_ONCE` says
how many at a time (4), and `VECTORMIGRATE_CHAOS_LOG` names a file that each seed is noted in when it ends. A failure
names its seed and the folder that holds what its processes said, and
`VECTORMIGRATE_CHAOS_SEED=17 pytest ... -k qdrant` runs it again (`101-200`: all of these): the same choices, which may
meet in another order.
"""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from vectormigrate_dagster_tests.live.chaos import chaos
from vectormigrate_dagster_tests.live.chaos.crew import Failed
from vectormigrate_dagster_tests.servers.milvus import Address

SEEDS = int(os.environ.get("VECTORMIGRATE_CHAOS", "0"))
SEED = os.environ.get("VECTORMIGRATE_CHAOS_SEED", "")
AT_ONCE = int(os.environ.get("VECTORMIGRATE_CHAOS_AT_ONCE", "4"))
LOG = os.environ.get("VECTORMIGRATE_CHAOS_LOG")
IN_CI = {"qdrant": 3, "weaviate": 2, "pinecone": 3, "milvus": 2}
SECONDS_EACH = 60
"""Longer than any seed takes on a busy machine, also if it runs alone."""


def seeds(target: str) -> range:
    """The seeds that are asked for, "17" or "101-200", or as many as there shall be."""
    if SEED:
        first, _, last = SEED.partition("-")
        return range(int(first), int(last or first) + 1)
    return range(1, (SEEDS or IN_CI[target]) + 1)


def note(line: str) -> None:
    """Tell how it goes; a run of hundreds takes hours."""
    if LOG is not None:
        with Path(LOG).open("a") as log:
            log.write(f"{time.strftime('%H:%M:%S')} {line}\n")


@pytest.mark.kill
@pytest.mark.timeout(240 + SECONDS_EACH * max(map(len, map(seeds, IN_CI))))
@pytest.mark.parametrize("target", list(IN_CI))
def test_nothing_is_lost_stale_or_resurrected_in_chaos(
    target: str,
    tmp_path: Path,
    postgres_server: str,
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
) -> None:
    milvus: Address | None = request.getfixturevalue("milvus_server") if target == "milvus" else None

    def run(seed: int) -> chaos.Report | Failed:
        folder = tmp_path / str(seed)
        folder.mkdir()
        began = time.monotonic()
        try:
            report = chaos.run(target, seed, folder, postgres_server, milvus)
        except Failed as error:
            note(f"{target} {seed} FAILED: {error}")
            return error
        note(f"{target} {seed} passed in {time.monotonic() - began:.1f} s: {report}")
        if not report.void:
            shutil.rmtree(folder)
        return report

    with ThreadPoolExecutor(AT_ONCE) as pool:
        told = list(pool.map(run, seeds(target)))
    failed = [one for one in told if isinstance(one, Failed)]
    reports = [one for one in told if isinstance(one, chaos.Report)]
    kills = sum((one.kills for one in reports), Counter[str]())
    void = [why for one in reports for why in one.void]
    summary = (
        f"chaos into {target}: {len(reports)} of {len(told)} seeds passed, {len(void)} of them at the second attempt, "
        f"because the machine stood still; {sum(one.acknowledged for one in reports):,} writes acknowledged, "
        f"{sum(one.unknown for one in reports):,} of unknown outcome; killed: {dict(kills)}"
    )
    note(summary)
    record_property("told", summary)
    record_property("void", "\n\n".join(void))
    assert not failed, f"{len(failed)} of {len(told)} seeds failed:\n" + "\n\n".join(map(str, failed))
