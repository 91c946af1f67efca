"""Checks the promise of a live migration: nothing lost, stale or resurrected, whatever dies and fails on the way.

Four writers insert, update, delete and insert again while the collection is loaded, caught up, switched over and
switched back; processes of all kinds are killed and servers fail. After each stage both sides must be equal by id set
and by record digests, and every acknowledged write must be there.

`VECTORMIGRATE_CHAOS=300 pytest vectormigrate_dagster_tests/live/chaos -k "chaos and qdrant"` runs 300 seeds into one
kind of target, without `-k` into all four; without the variable six are run in all. A failure names its seed, and
`VECTORMIGRATE_CHAOS_SEED=17 pytest ... -k qdrant` runs it again: the same choices, which may meet in another order.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from vectormigrate_dagster_tests.live.chaos import chaos
from vectormigrate_dagster_tests.servers.milvus import Address

SEEDS = int(os.environ.get("VECTORMIGRATE_CHAOS", "0"))
SEED = os.environ.get("VECTORMIGRATE_CHAOS_SEED")
IN_CI = {"qdrant": 2, "weaviate": 1, "pinecone": 2, "milvus": 1}
AT_ONCE = 3


def seeds(target: str) -> range:
    if SEED is not None:
        return range(int(SEED), int(SEED) + 1)
    return range(1, (SEEDS or IN_CI[target]) + 1)


@pytest.mark.kill
@pytest.mark.timeout(240 + 30 * SEEDS)
@pytest.mark.parametrize("target", list(IN_CI))
def test_nothing_is_lost_stale_or_resurrected_in_chaos(
    target: str, tmp_path: Path, request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> None:
    milvus: Address | None = request.getfixturevalue("milvus_server") if target == "milvus" else None

    def run(seed: int) -> chaos.Report | AssertionError:
        folder = tmp_path / str(seed)
        folder.mkdir()
        try:
            return chaos.run(target, seed, folder, milvus)
        except AssertionError as error:
            return error

    with ThreadPoolExecutor(AT_ONCE) as pool:
        told = list(pool.map(run, seeds(target)))
    failed = [one for one in told if isinstance(one, AssertionError)]
    reports = [one for one in told if isinstance(one, chaos.Report)]
    kills = sum((one.kills for one in reports), Counter[str]())
    record_property(
        "told",
        f"chaos into {target}: {len(reports)} of {len(told)} seeds passed; "
        f"{sum(one.acknowledged for one in reports):,} writes acknowledged, {sum(one.unknown for one in reports):,} of "
        f"unknown outcome; killed: {dict(kills)}",
    )
    assert not failed, f"{len(failed)} of {len(told)} seeds failed:\n" + "\n\n".join(map(str, failed))
