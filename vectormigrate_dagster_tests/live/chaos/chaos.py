"""One run: an application writes while its collection moves, is switched over and goes back, and things go wrong.

A seed decides what the application does, which processes are killed when, and what the servers do; how these meet in
time is the machine's affair, so a seed that failed may have to be run some times to fail again.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vectormigrate_dagster.live.journal import Bounds, Journal, Side
from vectormigrate_dagster_tests.live.chaos import application, equal, servers, workers, world
from vectormigrate_dagster_tests.live.chaos.crew import Crew, Failed
from vectormigrate_dagster_tests.live.chaos.history import History
from vectormigrate_dagster_tests.live.chaos.servers import Server
from vectormigrate_dagster_tests.live.chaos.world import World
from vectormigrate_dagster_tests.servers.milvus import Address

SOURCES = {
    "qdrant": ("qdrant", "weaviate", "pinecone"),
    "weaviate": ("pinecone", "weaviate", "qdrant"),
    "pinecone": ("weaviate", "pinecone", "qdrant"),
    "milvus": ("qdrant", "pinecone", "milvus"),
}
"""By the type of the target, where records may come from."""

WRITERS = 2
"""Processes of the application, of two threads each."""
CATCH_UPS = 2
LOADERS = 2

_FAULT_SECONDS = (0.2, 0.8)
_KILL_SECONDS = (0.2, 0.7)
_KILLS = (1, 4)
"""In each stage: what is killed without end comes to no end, as each death costs a lease and a request's time."""

_SLACK_SECONDS = 0.9
"""For which a request may lie in a server of a busy machine."""


@dataclass(frozen=True)
class Report:
    """What a run saw.

    Args:
        route: from where to where.
        acknowledged, unknown: writes of the application.
        kills: by role.
        seconds: that each stage took, and of them the wait until both sides were equal.
    """

    route: str
    acknowledged: int
    unknown: int
    kills: Counter[str]
    seconds: dict[str, float]


def run(target: str, seed: int, folder: Path, milvus: Address | None = None) -> Report:
    """Run one seed.

    Args:
        target: type of the target.
        seed: of everything that is left to chance.
        folder: of the run's own.
        milvus: the Milvus server, where one is needed.

    Raises:
        Failed: source and target differ, an acknowledged write is lost, or a process has failed.
    """
    chance = random.Random(f"{target} {seed}")
    source = chance.choice(SOURCES[target])
    sides = (servers.start(source, milvus), servers.start(target, milvus))
    name = f"chaos{seed}"
    try:
        bounds = _bounds(*sides)
        place = world.make(name, seed, folder, sides[0].endpoint(f"{name}s"), sides[1].endpoint(f"{name}t"), bounds)
        crew = Crew(place)
        try:
            return _Run(place, crew, sides, chance).whole(f"{source} to {target}")
        except AssertionError as error:
            paused = folder / "paused.txt"
            why = f"\n{paused.read_text()}" if paused.exists() else ""
            raise Failed(f"seed {seed}, {source} to {target}: {error}{why}") from error
        finally:
            crew.end()
    finally:
        for side in sides:
            side.stop()


def _bounds(source: Server, target: Server) -> Bounds:
    """What the protocol may rely on: no delay of the servers is longer."""
    request = max(max(side.pace.timeout, side.pace.delay) for side in (source, target)) + _SLACK_SECONDS
    stale: dict[Side, float] = {"source": source.pace.stale, "target": target.pace.stale}
    return Bounds(start=0.7, request=request, margin=0.7, stale=stale)


class _Run:
    """The stages of a run."""

    def __init__(self, world: World, crew: Crew, sides: tuple[Server, Server], chance: random.Random) -> None:
        self._world = world
        self._crew = crew
        self._sides = sides
        self._chance = chance
        self._journal: Journal = world.journal()
        self._seconds: dict[str, float] = {}
        self._next_fault = self._next_kill = 0.0
        self._kills_left = 0

    def whole(self, route: str) -> Report:
        """Move, switch over and go back, with a look at both sides after each."""
        crew = self._crew
        for number in range(CATCH_UPS):
            crew.start(f"catch_up-{number}", workers.catch_up)
        for number in range(LOADERS):
            crew.start(f"load-{number}", workers.load, number, LOADERS)
        self._stage("load", "it was moved", lambda: not crew.running("load"))
        for direction in ("there", "back"):
            crew.start(f"cutover-{direction}", workers.cutover, direction)
            self._stage(f"cutover {direction}", "it was switched", lambda: not crew.running("cutover"))
        history = self._history()
        return Report(
            route=route,
            acknowledged=history.acknowledged,
            unknown=history.unknown,
            kills=crew.kills,
            seconds=self._seconds,
        )

    def _stage(self, name: str, what: str, done: Callable[[], bool]) -> None:
        """Let the application write until something is done, and a little longer; then compare both sides."""
        began = time.monotonic()
        for number in range(WRITERS):
            self._crew.start(f"write-{number} {name}", application.run)
        until = time.monotonic() + self._chance.uniform(0.5, 1.5)
        self._kills_left = self._chance.randint(*_KILLS)

        def disturbed() -> bool:
            self._disturb()
            return done() and time.monotonic() > until and not self._kills_left

        self._crew.wait(what, disturbed)
        self._seconds[name] = round(time.monotonic() - began, 1)
        quiet = self._world.flag("quiet")
        quiet.touch()
        self._crew.wait("the writers ended", lambda: not self._crew.running("write"))
        for side in self._sides:
            side.behave()
        self._crew.wait("all changes were carried over", lambda: self._journal.lag().records == 0)
        self._seconds[f"{name}, drained"] = round(time.monotonic() - began, 1)
        self._look(name)
        quiet.unlink()

    def _disturb(self) -> None:
        """Let servers fail and processes die from time to time."""
        now = time.monotonic()
        if not self._kills_left:
            return
        if now >= self._next_fault:
            self._chance.choice(self._sides).misbehave(self._chance)
            self._next_fault = now + self._chance.uniform(*_FAULT_SECONDS)
        if now >= self._next_kill:
            if self._next_kill:
                self._crew.kill_one(self._chance)
                self._kills_left -= 1
            self._next_kill = now + self._chance.uniform(*_KILL_SECONDS)

    def _look(self, stage: str) -> None:
        """Compare both sides, whole, and with what the application was promised."""
        time.sleep(max(self._world.bounds.stale.values()))
        sides = equal.read(self._world)
        wrong = sides.wrong() + self._history().wrong(sides.values)
        if wrong:
            raise Failed(f"after '{stage}': " + "\n".join(wrong))

    def _history(self) -> History:
        return History.read(self._world.initial, self._world.folder.glob("*.notes"))
