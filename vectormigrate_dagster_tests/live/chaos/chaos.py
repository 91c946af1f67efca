"""One run: an application writes while its collection moves, is switched over and goes back, and things go wrong.

A seed decides what the application does, which processes are killed when, and what the servers do; how these meet in
time is the machine's affair, so a seed that failed may have to be run some times to fail again.
"""

from __future__ import annotations

import random
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from vectormigrate_dagster.live.journal import Bounds, Journal, Side
from vectormigrate_dagster_tests.live.chaos import application, equal, servers, workers, world
from vectormigrate_dagster_tests.live.chaos.crew import PAUSED, Crew, Failed
from vectormigrate_dagster_tests.live.chaos.history import History
from vectormigrate_dagster_tests.live.chaos.servers import Server
from vectormigrate_dagster_tests.live.chaos.world import World
from vectormigrate_dagster_tests.servers import postgres
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

_POSTGRES_EVERY = 3
"""Of so many seeds, one has its journal in Postgres, and the others in a file."""

_FAULT_SECONDS = (0.2, 0.8)
_KILL_SECONDS = (0.2, 0.7)
_KILLS = (1, 4)
"""In each stage: what is killed without end comes to no end, as each death costs a lease and a request's time."""

_START_SECONDS = 0.7
_MARGIN_SECONDS = 0.7
_SLACK_SECONDS = 0.9
"""For which a request may lie in a server of a busy machine."""

TEMPOS = (0.5, 2.0)
"""How many times as long as these all bounds are, the clients' deadlines among them.

A run that fails after a process stood still for longer than its bounds allow says nothing: the protocol relies on them.
It is made once more with longer ones, and told.
"""


@dataclass(frozen=True)
class Report:
    """What a run saw.

    Args:
        route: from where to where, and what the journal was in.
        acknowledged, unknown: writes of the application.
        kills: by role.
        seconds: that each stage took, and of them the wait until both sides were equal.
        void: how runs of this seed failed before, whose processes stood still.
    """

    route: str
    acknowledged: int
    unknown: int
    kills: Counter[str]
    seconds: dict[str, float]
    void: tuple[str, ...] = ()


def run(target: str, seed: int, folder: Path, postgres_url: str, milvus: Address | None = None) -> Report:
    """Run one seed; once more if the machine would not let it be.

    Args:
        target: type of the target.
        seed: of everything that is left to chance.
        folder: of the seed's own; what a run leaves is in folders of it.
        postgres_url: of a server in which databases may be made.
        milvus: the Milvus server, where one is needed.

    Raises:
        Failed: source and target differ, an acknowledged write is lost, or a process has failed.
    """
    void: list[str] = []
    for number, tempo in enumerate(TEMPOS, 1):
        place = folder / str(number)
        place.mkdir()
        try:
            return replace(_run(target, seed, place, postgres_url, milvus, tempo), void=tuple(void))
        except Failed as error:
            if not error.paused or tempo == TEMPOS[-1]:
                raise
            void.append(str(error))
    raise AssertionError("there is no tempo to run at")


def _run(target: str, seed: int, folder: Path, postgres_url: str, milvus: Address | None, tempo: float) -> Report:
    chance = random.Random(f"{target} {seed}")
    source = chance.choice(SOURCES[target])
    name = f"chaos{seed}x{folder.name}"
    try:
        with ExitStack() as stack:
            sides = servers.start(source, milvus, tempo), servers.start(target, milvus, tempo)
            for side in sides:
                stack.callback(side.stop)
            ends = sides[0].endpoint(f"{name}s"), sides[1].endpoint(f"{name}t")
            journal_url = f"sqlite:///{folder / 'journal.db'}"
            if seed % _POSTGRES_EVERY == 2:
                journal_url = stack.enter_context(postgres.database_of_its_own(postgres_url))
            place = world.make(name, seed, folder, journal_url, *ends, _bounds(*sides, tempo))
            crew = Crew(place)
            stack.callback(crew.end)
            return _Run(place, crew, sides, chance).whole(f"{source} to {target}, {place.journal_engine}")
    except Exception as error:
        paused = folder / PAUSED
        traced = "" if isinstance(error, Failed) else traceback.format_exc()
        raise Failed(
            f"seed {seed}, {source} to {target}, in {folder}: {error}\n{traced}",
            paused.read_text() if paused.exists() else "",
        ) from error


def _bounds(source: Server, target: Server, tempo: float) -> Bounds:
    """What the protocol may rely on: no delay of the servers is longer."""
    request = max(max(side.pace.timeout, side.pace.delay) for side in (source, target)) + _SLACK_SECONDS * tempo
    stale: dict[Side, float] = {"source": source.pace.stale, "target": target.pace.stale}
    return Bounds(start=_START_SECONDS * tempo, request=request, margin=_MARGIN_SECONDS * tempo, stale=stale)


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
