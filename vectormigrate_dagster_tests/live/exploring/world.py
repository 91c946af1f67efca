"""A world in which one thing happens at a time, and somebody chooses which: actors, requests under way, a clock.

An actor runs real code in a thread of its own, and stops before each of its dealings with the outside (a transaction
of the journal, a read, the sending of a write, the answer to it, a wait) until the world lets it go on. A write that
was sent is a thing of its own: it lands when the world says so, or never, whether or not its sender is still there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from vectormigrate_dagster.errors import Throttled, Unavailable, VectorMigrateError
from vectormigrate_dagster.live.journal import Bounds

T = TypeVar("T")
Kind = Literal["journal", "home", "clock", "read", "send", "answer", "sleep"]
How = Literal["", "stale", "fail", "refuse"]
"""How a step is done: as it should, with what was there before, without an answer, or not at all."""

START = 1_000_000.0
LEASE_SECONDS = 30.0
BOUNDS = Bounds(start=5.0, request=120.0, margin=5.0)
LONG = BOUNDS.open_seconds + LEASE_SECONDS + 1.0
"""After so long nothing of the past is alive any more."""


class Crashed(BaseException):
    """What ends the thread of an actor that was killed; no code of the project may catch it."""


class Violation(AssertionError):
    """What must never happen, has."""


@dataclass
class Step:
    """What an actor is about to do.

    Args:
        wake: when a sleep ends.
        request: what an answer is awaited to.
    """

    kind: Kind
    label: str
    wake: float = 0.0
    request: Request | None = None
    stale: Callable[[], bool] = lambda: False


@dataclass(eq=False)
class Request:
    """A write that was sent.

    Args:
        keys: ids that it writes.
        application: it is a write of an application, which defines what is right.
        land: does it.
    """

    number: int
    actor: str
    side: str
    label: str
    keys: frozenset[int]
    application: bool
    land: Callable[[], object]
    sent_at: float
    work: str
    state: Literal["flying", "landed", "dropped"] = "flying"
    answer: object = None
    failed: bool = False

    @property
    def remembered(self) -> Hashable:
        """All that becomes of it goes by."""
        return self.actor, self.work, self.side, self.label, self.sent_at, self.state, self.failed


@dataclass(frozen=True, order=True)
class Event:
    """Something that may happen next.

    Args:
        label: `NAME` goes on, `fail:NAME`, `refuse:NAME` or `stale:NAME` does so as `How` says, `crash:NAME` ends it;
            `land:N` is a request's, `tick:SECONDS` lets time pass.
        cost: what it takes of the budget of its kind: nothing, a preemption or a fault.
    """

    label: str
    cost: Literal["", "preemption", "fault"] = ""

    @property
    def kind(self) -> str:
        """What of it is not a name or a number."""
        what, separated, _ = self.label.partition(":")
        return what if separated else ""


class Actor:
    """Real code in a thread, one step at a time."""

    def __init__(self, world: World, name: str, body: Callable[[], None], *, restarts: bool, stalls: bool) -> None:
        self.world = world
        self.name = name
        self.body = body
        self.restarts = restarts
        self.stalls = stalls
        self.pending: Step | None = None
        self.ended = self.crashed = False
        self.error: BaseException | None = None
        self.said = ""
        self.looked_at_clock = START
        self.did: Kind | None = None
        self.skew = 0.0
        self.seen: int = 0
        self.drawn = 0
        self._go = threading.Semaphore(0)
        self._how: How = ""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Run up to the first step."""
        self._thread.start()
        self.world.wait_for_turn()

    def go_on(self, how: How) -> None:
        """Do the step that is pending, up to the next one."""
        self._how = how
        self.pending = None
        self._go.release()
        self.world.wait_for_turn()

    def kill(self) -> None:
        """End the thread; nothing that it does from here on reaches the outside."""
        self.crashed = True
        if not self.ended:
            self._go.release()
            self._thread.join()

    def stop_before(self, step: Step) -> How:
        """Wait, in the actor's thread, until the step may be done; return how."""
        if self.crashed:
            raise Crashed
        self.pending = step
        self.world.give_back()
        self._go.acquire()
        if self.crashed:
            raise Crashed
        self.did = step.kind
        self.saw((self._how, step.label))
        return self._how

    def saw(self, what: Hashable) -> None:
        """Take something into the digest of all that the actor has seen, by which its state is known."""
        self.seen = hash((self.seen, what))

    @property
    def remembered(self) -> Hashable:
        """All that it goes on by."""
        step = self.pending
        awaited = None if step is None or step.request is None else step.request.remembered
        at = step and (step.label, step.wake, awaited)
        return self.name, self.seen, self.drawn, self.did, self.looked_at_clock, at

    def draw(self) -> str:
        """A name that nobody else draws."""
        self.drawn += 1
        return f"{self.name}-{self.drawn}"

    def _run(self) -> None:
        HERE.actor = self
        try:
            self.body()
        except VectorMigrateError as error:
            self.said = f"{type(error).__name__}: {error}"
        except Crashed:
            return
        except BaseException as error:  # noqa: BLE001  # told in the scheduler's thread
            self.error = error
        finally:
            self.ended = True
            if not self.crashed:
                self.world.give_back()


class _Here(threading.local):
    actor: Actor | None = None


HERE = _Here()
"""The actor in whose thread this is; None in the test's own."""


@dataclass
class World:
    """Everything that happens, in the order that somebody chooses.

    Args:
        bounds: what the protocol relies on; the world keeps to it.
    """

    bounds: Bounds = BOUNDS
    now: float = START
    actors: list[Actor] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    last: str = ""
    _turn: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    on_landed: Callable[[Request], None] = lambda request: None

    ####################################################################
    # What actors do; outside of actors, at once
    ####################################################################

    def step(self, kind: Kind, label: str) -> How:
        """Stop before a step; return how it shall be done."""
        return "" if HERE.actor is None else HERE.actor.stop_before(Step(kind, label))

    def read(self, label: str, stale: Callable[[], bool]) -> bool:
        """Stop before a read; return whether it shall be stale.

        Raises:
            Unavailable: there is no answer.
        """
        if HERE.actor is None:
            return False
        how = HERE.actor.stop_before(Step("read", label, stale=stale))
        if how == "fail":
            raise Unavailable(f"no answer to {label}")
        return how == "stale"

    def write(
        self, side: str, label: str, keys: Iterable[int], land: Callable[[], T], *, application: bool = False
    ) -> T:
        """Send a write and wait for its answer.

        Raises:
            Unavailable: there was none in time; the write may still land.
            Throttled: it was refused.
        """
        actor = HERE.actor
        if actor is None:
            return land()
        if actor.stop_before(Step("send", f"send {label} to {side}")) == "refuse":
            raise Throttled(f"the {side} does not take {label} now")
        request = Request(
            number=len(self.requests) + 1,
            actor=actor.name,
            side=side,
            label=label,
            keys=frozenset(keys),
            application=application,
            land=land,
            sent_at=self.now,
            work=f"{actor.name}-{actor.drawn}",
        )
        self.requests.append(request)
        actor.stop_before(Step("answer", f"answer to {label}", request=request))
        if request.failed or request.state == "dropped":
            raise Unavailable(f"no answer to {label}")
        return request.answer  # type: ignore[return-value]

    def sleep(self, seconds: float) -> None:
        """Wait."""
        if HERE.actor is None:
            self.advance(seconds)
        elif seconds > 0:
            HERE.actor.stop_before(Step("sleep", f"sleep {seconds:g}", wake=self.now + seconds))

    def monotonic(self) -> float:
        """The clock of the actor's host, which may be another one than everybody else's."""
        actor = HERE.actor
        if actor is None:
            return self.now
        if actor.stalls and actor.did == "journal":  # later a process is not held up for longer than the margin
            actor.stop_before(Step("clock", "look at the clock"))
        actor.looked_at_clock = self.now
        return self.look_at_clock() + actor.skew

    def look_at_clock(self) -> float:
        """What time it is, which whoever asks knows then."""
        if HERE.actor is not None:
            HERE.actor.saw(self.now)
        return self.now

    ####################################################################
    # What may happen
    ####################################################################

    def add(self, name: str, body: Callable[[], None], *, restarts: bool = False, stalls: bool = False) -> None:
        """Bring in an actor."""
        actor = Actor(self, name, body, restarts=restarts, stalls=stalls)
        self.actors.append(actor)
        actor.start()

    def living(self) -> list[Actor]:
        """Actors that are not through."""
        return [actor for actor in self.actors if not actor.ended and not actor.crashed]

    def actor(self, name: str) -> Actor | None:
        """The actor of that name that is not through."""
        return next((actor for actor in self.living() if actor.name == name), None)

    def flying(self) -> list[Request]:
        """Writes that may still land."""
        return [request for request in self.requests if request.state == "flying"]

    def options(self) -> list[Event]:
        """What may happen now; the first is what happens if nobody minds. Nothing once all actors are through."""
        living = self.living()
        if not living:
            return []
        usual = self._usual(living)
        events = [usual]
        paid = [Event(actor.name, "preemption") for actor in living if self._can_go_on(actor)]
        paid += [Event(f"land:{request.number}", "preemption") for request in self.flying()]
        paid += [Event(f"tick:{seconds:g}", "preemption") for seconds in self._ticks() if self._may_pass(seconds)]
        for actor in living:
            paid += [Event(f"{what}:{actor.name}", "fault") for what in self._faults(actor)]
        return events + [event for event in paid if event.label != usual.label]

    def do(self, event: Event) -> None:
        """Let an event happen."""
        what, _, name = event.label.partition(":")
        if what == "land":
            self._land(self.requests[int(name) - 1])
        elif what == "tick":
            self.tell(event, "")
            self.advance(float(name))
        else:
            self._act(event, what, name)

    def tell(self, event: Event, what: str) -> None:
        """Note what happens, for people."""
        self.told.append(f"{event.label:<10} {what}".rstrip())

    def advance(self, seconds: float) -> None:
        """Let time pass; what was sent too long ago never lands."""
        self.now += seconds
        for request in self.flying():
            if request.sent_at + self.bounds.request < self.now:
                request.state = "dropped"

    @property
    def remembered(self) -> Hashable:
        """All that what may happen goes by; who is through, and what has landed, is over."""
        living = self.living()
        last = next((actor.name for actor in living if actor.name == self.last), "")
        flying = frozenset(request.remembered for request in self.flying())
        return self.now, last, flying, tuple(actor.remembered for actor in living)

    def close(self) -> None:
        """End all threads."""
        for actor in self.living():
            actor.kill()

    def give_back(self) -> None:
        """Let the world choose again; called in an actor's thread."""
        self._turn.release()

    def wait_for_turn(self) -> None:
        """Wait until the actor that runs has come to its next step."""
        self._turn.acquire()

    def _usual(self, living: list[Actor]) -> Event:
        """The actor of the last event goes on, what it sent lands; otherwise the next one, and time passes last."""
        order = sorted(living, key=lambda actor: actor.name != self.last)
        for actor in order:
            step = actor.pending
            if step is not None and step.request is not None and step.request.state == "flying":
                return Event(f"land:{step.request.number}")
            if self._can_go_on(actor):
                return Event(actor.name)
        sleeping = [actor.pending.wake for actor in living if actor.pending is not None]
        return Event(f"tick:{min(sleeping) - self.now:.9g}")

    def _can_go_on(self, actor: Actor) -> bool:
        step = actor.pending
        if step is None or (step.kind == "sleep" and step.wake > self.now + 1e-9):
            return False
        return step.request is None or step.request.state != "flying"

    @staticmethod
    def _faults(actor: Actor) -> Iterator[str]:
        """What may go wrong with an actor's next step."""
        step = actor.pending
        if step is None:
            return
        if step.kind in {"journal", "read", "answer"}:
            yield "fail"
        if step.kind in {"journal", "send"}:
            yield "refuse"
        if step.kind == "read" and step.stale():
            yield "stale"
        if actor.restarts:
            yield "crash"

    def _ticks(self) -> list[float]:
        """Seconds after which something else may be the case."""
        stale = max(self.bounds.stale.values())
        return [*([stale + 1] if stale else []), LEASE_SECONDS + 1, LONG]

    def _may_pass(self, seconds: float) -> bool:
        """Whether no process is held up for longer than the margin between its look at the clock and a request."""
        until = self.now + seconds - self.bounds.margin
        return not any(
            actor.pending is not None and actor.pending.kind == "send" and actor.looked_at_clock < until
            for actor in self.living()
        )

    def _land(self, request: Request) -> None:
        self.tell(Event(f"land:{request.number}"), f"{request.label} of {request.actor} lands at the {request.side}")
        request.answer = request.land()
        request.state = "landed"
        self.on_landed(request)

    def _act(self, event: Event, what: str, name: str) -> None:
        actor = self.actor(name or what)
        if actor is None or actor.pending is None:
            raise Violation(f"'{event.label}' cannot happen now")
        step = actor.pending
        self.last = actor.name
        self.tell(event, step.label)
        if what == "crash":
            actor.kill()
            self.add(_next_name(actor.name), actor.body)  # dies once
            return
        if what == "fail" and step.request is not None:
            step.request.failed = True
        actor.go_on(what if name else "")  # type: ignore[arg-type]  # one of `_faults`
        if actor.error is not None:
            raise Violation(f"{actor.name}: {type(actor.error).__name__}: {actor.error}") from actor.error
        if actor.ended:
            self.told.append(f"{'':<10} {actor.name} ends{f': {actor.said}' if actor.said else ''}")


def _next_name(name: str) -> str:
    return name + "'"
