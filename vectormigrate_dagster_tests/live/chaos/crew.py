"""The processes of a run: started quickly, killed at any moment, started again; a failure of their own ends the run."""

from __future__ import annotations

import faulthandler
import os
import random
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from typing import Any

from vectormigrate_dagster_tests.live.chaos.world import World
from vectormigrate_dagster_tests.prepared import FORKS

Work = Callable[..., None]
"""What a process does: called with the world, a name of its own, and arguments."""

_LOOK_SECONDS = 0.05
_WATCH_SECONDS = 0.1
_PATIENCE_SECONDS = 120.0

PAUSED = "paused.txt"

_asking = threading.Lock()
"""How a process has ended is told once, and whoever starts one asks for all: of two threads one would hear nothing."""


class Failed(AssertionError):
    """The run has found something wrong.

    Args:
        why: what.
        paused: which processes stood still for longer than the protocol allows; what is wrong may come of that.
    """

    def __init__(self, why: str, paused: str = "") -> None:
        super().__init__(f"{why}\n{paused}" if paused else why)
        self.paused = paused


@dataclass
class _Role:
    """A process that is started again when it was killed."""

    name: str
    work: Work
    arguments: tuple[Any, ...]
    process: BaseProcess
    life: int = 1

    @property
    def exit_code(self) -> int | None:
        """Of its process; None while that runs."""
        with _asking:
            return self.process.exitcode

    def kill(self) -> None:
        """SIGKILL its process, and wait for its end."""
        with _asking:
            self.process.kill()
            self.process.join()


class Crew:
    """The processes of one run."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._roles: dict[str, _Role] = {}
        self._ended = threading.Event()
        self.kills: Counter[str] = Counter()
        threading.Thread(target=_watch, args=(world, "the servers", self._ended.is_set), daemon=True).start()

    def start(self, name: str, work: Work, *arguments: Any) -> None:
        """Begin a role; its first process works under `name`.1."""
        self._roles[name] = _Role(name, work, arguments, self._process(name, 1, work, arguments))

    def kill_one(self, chance: random.Random) -> None:
        """SIGKILL one of the processes, and start it again."""
        running = [role for role in self._roles.values() if role.exit_code is None]
        if running:
            role = chance.choice(running)
            role.kill()
            self.kills[role.name.partition("-")[0]] += 1
            if role.exit_code != 0:  # it may have ended well just before
                role.life += 1
                role.process = self._process(role.name, role.life, role.work, role.arguments)

    def running(self, prefix: str) -> bool:
        """Whether a role whose name begins so has not ended.

        Raises:
            Failed: a process has ended by itself, and not well.
        """
        for role in self._roles.values():
            if role.exit_code not in (None, 0):
                raise Failed(f"{role.name} ended with exit code {role.exit_code}:\n{self._said(role)}")
        return any(role.exit_code is None for role in self._roles.values() if role.name.startswith(prefix))

    def wait(self, what: str, true: Callable[[], bool]) -> None:
        """Wait until something is so.

        Raises:
            Failed: it never is, or a process has failed.
        """
        end = time.monotonic() + _PATIENCE_SECONDS
        while not true():
            self.running("")
            if time.monotonic() > end:
                for role in self._roles.values():
                    if role.exit_code is None and role.process.pid is not None:
                        os.kill(role.process.pid, signal.SIGUSR1)
                time.sleep(1.0)
                said = "\n".join(f"{role.name}: {self._said(role)}" for role in self._roles.values())
                raise Failed(f"within {_PATIENCE_SECONDS:g} s it was not so that {what}; {said}")
            time.sleep(_LOOK_SECONDS)

    def end(self) -> None:
        """End all that is left."""
        self._ended.set()
        for role in self._roles.values():
            role.kill()

    def _process(self, name: str, life: int, work: Work, arguments: tuple[Any, ...]) -> BaseProcess:
        process = FORKS.Process(target=_run, args=(work, self._world, f"{name}.{life}", arguments), daemon=True)
        with _asking:
            process.start()
        return process

    def _said(self, role: _Role) -> str:
        log = self._world.folder / f"{role.name}.{role.life}.log"
        return log.read_text()[-3000:] if log.exists() else "(nothing)"


def _run(work: Work, world: World, name: str, arguments: tuple[Any, ...]) -> None:
    """What a process does: its work, with what it says in a file; it does not outlive whoever started it."""
    log = os.open(world.folder / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1)  # says where it is, when the run has waited for too long
    threading.Thread(target=_end_with, args=(world, name, os.getppid()), daemon=True).start()
    try:
        work(world, name, *arguments)
    except BaseException:  # noqa: BLE001  # whatever it is, it is told, and ends the run
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    sys.stderr.flush()
    os._exit(0)  # clients may have threads that nobody ends


def _end_with(world: World, name: str, parent: int) -> None:
    """End with the parent; watch this process until then."""
    _watch(world, name, lambda: os.getppid() != parent)
    os._exit(2)


def _watch(world: World, name: str, ended: Callable[[], bool]) -> None:
    """Note pauses of this process that are longer than the protocol allows; none longer than the margin escapes."""
    before = time.monotonic()
    while not ended():
        time.sleep(_WATCH_SECONDS)
        now = time.monotonic()
        if now - before > world.bounds.margin:
            with (world.folder / PAUSED).open("a") as told:
                told.write(f"{name} stood still for {now - before:.2f} s\n")
        before = now
