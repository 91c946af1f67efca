"""Checks the same promise through the real commands: migrate, catch-up, validate, cutover and reverse.

With `VECTORMIGRATE_CHAOS` set some of them are killed and run again, which takes minutes: a lease of a command that
died is free after a minute.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from vectormigrate_dagster import databases
from vectormigrate_dagster.live.journal import Bounds
from vectormigrate_dagster_tests.harness import ID, Workplace
from vectormigrate_dagster_tests.live.chaos import application, equal, servers, world
from vectormigrate_dagster_tests.live.chaos.crew import Crew
from vectormigrate_dagster_tests.live.chaos.history import History
from vectormigrate_dagster_tests.live.chaos.world import World, patient

KILLS = "VECTORMIGRATE_CHAOS" in os.environ
BOUNDS = Bounds(start=1.0, request=2.5, margin=1.0)
JOURNAL = {"start_seconds": BOUNDS.start, "request_seconds": BOUNDS.request, "margin_seconds": BOUNDS.margin}
TRANSFER = {"partition_records": 30, "batch_size": 5, "checkpoint_seconds": 0, "workers": 1, "rate_limit": 300}
"""Catching up keeps to the rate as well: it has to be more than the application writes, 100 keys a second or so."""


@dataclass
class Run:
    """The commands on one side, the application on the other."""

    place: Workplace
    world: World
    crew: Crew

    def command(self, *words: str, killed: Callable[[], bool] | None = None) -> None:
        """Run a command to its end; SIGKILL it first, once something is so, and run it again."""
        if KILLS and killed is not None:
            process = self.place.start_cold(*words)
            self.crew.wait(f"{words[0]} was at work", lambda: killed() or process.poll() is not None)
            process.kill()
            process.communicate(timeout=60)
        done = self.place.run_cold(*words, timeout=600)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"

    def write(self, name: str) -> None:
        """Let the application write."""
        for number in range(2):
            self.crew.start(f"write-{number} {name}", application.run)

    def look(self) -> None:
        """Let the application pause, and compare both sides once all is carried over."""
        quiet, journal = self.world.flag("quiet"), self.world.journal()
        quiet.touch()
        self.crew.wait("the writers ended", lambda: not self.crew.running("write"))
        self.crew.wait("all changes were carried over", lambda: journal.lag().records == 0)
        sides = equal.read(self.world)
        history = History.read(self.world.initial, self.world.folder.glob("*.notes"))
        assert sides.wrong() + history.wrong(sides.values) == []
        assert history.acknowledged > 0
        quiet.unlink()


@pytest.mark.kill
@pytest.mark.timeout(1200)
def test_the_commands_keep_the_promise(tmp_path: Path) -> None:
    ends = [servers.start("qdrant", None) for _ in range(2)]
    source, target = (end.endpoint(word) for end, word in zip(ends, ("things", "copies"), strict=True))
    with databases.open_target(patient(source)) as database:
        scopes = world.fill(database, random.Random(1))
    place = Workplace.make(tmp_path, source, target)
    place.write(transfer=TRANSFER, journal=JOURNAL)
    assert place.run_cold("plan", ID).returncode == 0
    seen = World(
        name=ID,
        seed=1,
        folder=place.home,
        journal_url=f"sqlite:///{place.home / 'journal.db'}",
        source=source,
        target=target,
        plan=place.plan(),
        scopes=scopes,
        bounds=BOUNDS,
        pause=0.05,  # a cutover waits until little is left to be carried over, which full speed may never let be
    )
    run = Run(place, seen, Crew(seen))
    following: list[subprocess.Popen[str]] = []
    try:
        run.write("load")
        run.command("migrate", ID, killed=lambda: place.planned() and place.status()["partitions"]["done"] >= 1)
        following.append(place.start_cold("catch-up", ID, "--follow"))
        # The application rests meanwhile: it writes each of its few records within seconds, which leaves no search to
        # be judged, and a validation that proves nothing fails.
        run.look()
        run.command("validate", ID, "--full")
        run.write("loaded")
        if KILLS:
            following[0].kill()
            following[0].communicate(timeout=60)
            following.append(place.start_cold("catch-up", ID, "--follow"))
        run.command("cutover", ID, killed=lambda: seen.journal().control().state in ("ready", "frozen", "switched"))
        run.look()
        assert seen.journal().control().primary == "target"
        run.write("switched")
        run.command("reverse", ID, "--reason", "the test")
        run.look()
        assert seen.journal().control().primary == "source"
    finally:
        run.crew.end()
        for process in following:
            process.kill()
            process.communicate(timeout=60)
        for end in ends:
            end.stop()
