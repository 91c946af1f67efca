"""Play one schedule again: `python -m vectormigrate_dagster_tests.live.exploring NAME 'SCHEDULE'`.

NAME is a scenario, or a counterexample, which is played without its rule. A schedule is what a failing run has told.
"""

from __future__ import annotations

import sys

from vectormigrate_dagster_tests.live.exploring.counterexamples import COUNTEREXAMPLES
from vectormigrate_dagster_tests.live.exploring.play import Player, told
from vectormigrate_dagster_tests.live.exploring.scenarios import SCENARIOS, SMALL
from vectormigrate_dagster_tests.live.exploring.search import following, parse


def main(name: str, schedule: str = "") -> int:
    """Play it, tell what happened, and return 1 if something was wrong."""
    known = COUNTEREXAMPLES.get(name)
    player = Player({**SCENARIOS, **SMALL}[name]) if known is None else known.player(removed=True)
    run = player.play(following(parse(schedule)))
    sys.stdout.write(told(player.scenario, run, name=name) + "\n")
    return 0 if run.violation is None else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
