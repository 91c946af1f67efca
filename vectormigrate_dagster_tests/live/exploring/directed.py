"""Schedules that are told in words, so that a counterexample of the protocol's text can be played on the real code.

The words of a script: `W` is one step of W, `W>send` lets W go on until it is about to send, `W.` until it is through,
its requests landing as they are sent. `land:W` lets what W sent last and did not land, land; `crash:W`, `fail:W` (no
answer to W), `stale:W` (W reads what was there before) and `tick:31` are as everywhere. What cannot happen is left
out: the code as it is does not let most of these schedules go to their end, and must come out right all the same.
"""

from __future__ import annotations

from collections.abc import Iterator

from vectormigrate_dagster_tests.live.exploring.search import Choose
from vectormigrate_dagster_tests.live.exploring.world import Event, World


class Script:
    """Follows a script, then goes on as usual.

    Args:
        words: see above.
    """

    def __init__(self, words: str) -> None:
        self.words = words.split()

    def choose(self, world: World) -> Choose:
        """What to choose, in a new run of `world`."""
        plan = self._events(world)

        def choose(_: int, options: list[Event]) -> Event:
            for label in plan:
                for event in options:
                    if event.label == label:
                        return event
            return options[0]

        return choose

    def _events(self, world: World) -> Iterator[str]:
        for word in self.words:
            what, _, name = word.partition(":")
            if what == "land":
                yield from (f"land:{one.number}" for one in world.flying()[::-1] if one.actor == name)
            elif ">" in word or word.endswith("."):
                actor, _, until = word.rstrip(".").partition(">")
                yield from self._run(world, actor, until or None)
            else:
                yield word

    @staticmethod
    def _run(world: World, name: str, until: str | None) -> Iterator[str]:
        """Let an actor go on until its next step's label begins so, or holds the word after the last blank."""
        for _ in range(200):
            actor = world.actor(name)
            if actor is None or actor.pending is None or (until is not None and until in actor.pending.label):
                return
            step = actor.pending
            if step.request is not None and step.request.state == "flying":
                yield f"land:{step.request.number}"
            elif step.kind == "sleep" and step.wake > world.now:
                return
            else:
                yield name
