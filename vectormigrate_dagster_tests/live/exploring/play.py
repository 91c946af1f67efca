"""One run of one scenario under one schedule, with every invariant checked after every event."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from vectormigrate_dagster_tests.live.exploring.directed import Script
from vectormigrate_dagster_tests.live.exploring.search import MOST_EVENTS, Choose, Run
from vectormigrate_dagster_tests.live.exploring.stage import Stage
from vectormigrate_dagster_tests.live.exploring.virtual import virtual
from vectormigrate_dagster_tests.live.exploring.world import Event, Violation

Removal = Callable[[Stage], AbstractContextManager[None]]
"""Takes one rule out of the real code, as long as it is entered."""


def nothing_removed(_: Stage) -> AbstractContextManager[None]:
    """Leave the code as it is."""
    return nullcontext()


@dataclass(frozen=True)
class Scenario:
    """Who does what.

    Args:
        stage: makes the collections and the journal.
        cast: brings in the actors.
    """

    name: str
    stage: Callable[[], Stage]
    cast: Callable[[Stage], None]


@dataclass
class Player:
    """Plays a scenario, again and again.

    Args:
        removal: the rule that is taken out of the code.
        invariants: whether they are checked after every event, or only what is there at the end.
    """

    scenario: Scenario
    removal: Removal = nothing_removed
    invariants: bool = True
    events: int = 0
    _stage: Stage | None = None
    _choose: Choose = lambda at, options: options[0]

    def remembered(self) -> Hashable:
        """All there is in the run that is under way."""
        return self.stage.remembered

    @property
    def stage(self) -> Stage:
        """Of the run that is under way, or was last."""
        assert self._stage is not None
        return self._stage

    def direct(self, script: Script) -> Run:
        """Play it as a script says."""
        return self.play(lambda at, options: self._directed(script, at, options))

    def _directed(self, script: Script, at: int, options: list[Event]) -> Event | None:
        if at == 0:
            self._choose = script.choose(self.stage.world)
        return self._choose(at, options)

    def play(self, choose: Choose) -> Run:
        """Play it under one schedule, to its end or to the first violation."""
        stage = self._stage = self.scenario.stage()
        stage.watch.strict = self.invariants
        options: list[list[Event]] = []
        deviations: list[tuple[int, str]] = []
        violation: str | None = None
        cut_short = False
        try:
            with virtual(stage.world, stage.database), self.removal(stage):
                self.scenario.cast(stage)
                while found := stage.world.options():
                    if len(options) > MOST_EVENTS:
                        raise Violation("it goes on for ever")
                    event = choose(len(options), found)
                    if event is None:
                        cut_short = True
                        break
                    if event != found[0]:
                        deviations.append((len(options), event.label))
                    options.append(found)
                    stage.world.do(event)
                    if self.invariants:
                        stage.watch.look()
                if not cut_short:
                    stage.settle()
        except Violation as found_wrong:
            violation = str(found_wrong)
        finally:
            stage.close()
        self.events += len(options)
        return Run(tuple(deviations), stage.world.told, violation, options, cut_short)


def told(scenario: Scenario, run: Run, *, name: str = "") -> str:
    """What happened in a run and what was wrong, with the command that plays it again."""
    lines = "\n".join(f"  {line}" for line in run.told)
    command = f"python -m vectormigrate_dagster_tests.live.exploring {name or scenario.name} '{run.schedule}'"
    return f"{scenario.name}: {run.violation or 'nothing is wrong'}\n{lines}\nAgain: {command}"
