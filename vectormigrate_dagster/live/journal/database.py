"""The journal's database: transactions on SQLite or Postgres, and its clock."""

from __future__ import annotations

import os
import threading
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from vectormigrate_dagster.errors import ConfigurationError, StorageFailed
from vectormigrate_dagster.live.journal.boot import boot_number, distrust_if_new
from vectormigrate_dagster.live.journal.forks import ForkGuard
from vectormigrate_dagster.live.journal.tables import bring_up_to_date

BUSY_SECONDS = 30.0
"""How long a transaction waits for its turn."""

Lock = Literal["share", "update"]

_LOCKS = {"share": sa.func.pg_advisory_xact_lock_shared, "update": sa.func.pg_advisory_xact_lock}
_LOCK_SPACE = 0x7665_6374
"""First half of the numbers of our advisory locks; any number that nobody else uses."""

_IDLE_SECONDS = 5.0
"""A connection to a server that was not used for longer is tried before it is relied on."""

_POSTGRES_ARGUMENTS = {"connect_timeout": 10, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
_POSTGRES_SETTINGS = {
    # An intent is on disk before its write is sent, whatever the server's default is.
    "synchronous_commit": "on",
    # Each statement sees what was committed while the one before it waited for a lock, whatever the default is.
    "default_transaction_isolation": "read committed",
    "lock_timeout": f"{BUSY_SECONDS:.0f}s",
    # A host that is lost in the middle of a transaction holds the control row no longer than this.
    "idle_in_transaction_session_timeout": f"{BUSY_SECONDS:.0f}s",
}


class JournalDatabase:
    """One database of journals; safe to use from several threads and processes, and across `fork`.

    Args:
        url: `sqlite:///PATH` or `postgresql://...`, as SQLAlchemy takes it.

    Raises:
        ConfigurationError: the url is none, or of another database, or its driver is not installed.
        StorageFailed: the database cannot be opened.
    """

    def __init__(self, url: str | sa.URL) -> None:
        self.url = _with_driver(parsed_url(url))
        self.is_file = self.url.get_backend_name() == "sqlite"
        self._process = os.getpid()
        self._mode = threading.local()
        try:
            self._engine = self._make_engine()
        except ImportError as error:
            raise ConfigurationError(
                f"'{self.url.drivername}' needs a driver that is not installed ({error}); "
                "install vectormigrate-dagster[postgres]"
            ) from error
        self._guard = ForkGuard(self._engine) if self.is_file else None
        boot = boot_number() if self.is_file else None
        with self.transaction() as connection:
            if not self.is_file:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK_SPACE, 0)))
            bring_up_to_date(connection)
            if boot is not None:
                distrust_if_new(connection, boot)
        self._engines: dict[str, sa.Engine] = {"reads": self._engine.execution_options(**{_MODE: "reads"})}
        can_relax = boot is not None
        self._engines["relaxed"] = self._engine.execution_options(**{_MODE: "relaxed"}) if can_relax else self._engine
        self._engines["single"] = self._engines["relaxed"] if self.is_file else self._make_server_engine("AUTOCOMMIT")

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """Everything or nothing; on SQLite, nobody else writes meanwhile.

        Raises:
            StorageFailed: the database does not answer, or refused.
        """
        mode = self._mode.__dict__.pop("is", None)  # of this transaction, and of none that is made within
        engine = self._engine if mode is None else self._engines[mode]
        try:
            with self._in_this_process(), engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise StorageFailed(f"the journal {self} refused: {_reason(error)}; mend that and go on") from error

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A transaction that only reads, so that it holds up nobody."""
        with self._as("reads") as connection:
            yield connection

    @contextmanager
    def relaxed(self) -> Iterator[sa.Connection]:
        """A transaction that outlives every process, but in a file perhaps not its host's power; see `boot`."""
        with self._as("relaxed") as connection:
            yield connection

    @contextmanager
    def single(self) -> Iterator[sa.Connection]:
        """On a server, each execution is a transaction of its own, in one round trip; in a file, `relaxed`."""
        with self._as("single") as connection:
            yield connection

    def lock(self, connection: sa.Connection, name: str, lock: Lock) -> None:
        """Wait until nobody else holds a name, but for sharers where `lock` is "share", and hold it.

        For as long as the transaction lasts; on SQLite it has the whole database to itself anyway. An advisory lock
        of Postgres is fair, where `FOR UPDATE` can wait for ever behind ever new sharers
        (https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS).
        """
        if not self.is_file:
            connection.execute(sa.select(_LOCKS[lock](*self.lock_numbers(name))))

    def lock_numbers(self, name: str) -> tuple[int, int]:
        """What an advisory lock of a name is called; a clash of two names costs waiting, no more."""
        return _LOCK_SPACE, zlib.crc32(name.encode()) - 2**31

    def insert_new(
        self, connection: sa.Connection, table: sa.Table, values: Mapping[str, Any] | Sequence[Mapping[str, Any]]
    ) -> None:
        """Insert rows, but for those whose primary key is there."""
        insert = sqlite.insert if self.is_file else postgresql.insert
        connection.execute(insert(table).on_conflict_do_nothing(), values)

    def now(self, connection: sa.Connection) -> float:
        """The database's clock, in seconds since 1970; of a file, that of its host."""
        if self.is_file:
            return time.time()
        return float(connection.exec_driver_sql(f"select {self.server_clock}").scalar_one())

    @property
    def server_clock(self) -> str:
        """What `now` is on a server, as SQL."""
        return "extract(epoch from clock_timestamp())::double precision"

    def close(self) -> None:
        """Give connections back; may be called twice."""
        with self._in_this_process():
            self._dispose()

    def __str__(self) -> str:
        # Among what is set behind a question mark may be a password too.
        return f"'{self.url.set(query={}).render_as_string(hide_password=True)}'"

    @contextmanager
    def _as(self, mode: str) -> Iterator[sa.Connection]:
        self._mode.__dict__["is"] = mode
        try:
            with self.transaction() as connection:
                yield connection
        finally:
            self._mode.__dict__.pop("is", None)

    def _make_engine(self) -> sa.Engine:
        if not self.is_file:
            return self._make_server_engine("READ COMMITTED")
        if self.url.database in (None, "", ":memory:"):
            raise ConfigurationError("a journal in memory is lost with its process; give journal.url a path")
        path = Path(str(self.url.database))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageFailed(f"the folder of the journal '{path}' cannot be made: {error}") from error
        engine = sa.create_engine(self.url, connect_args={"timeout": BUSY_SECONDS})
        sa.event.listen(engine, "connect", _prepare_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
        return engine

    def _make_server_engine(self, isolation: Literal["READ COMMITTED", "AUTOCOMMIT"]) -> sa.Engine:
        arguments = {name: value for name, value in _POSTGRES_ARGUMENTS.items() if name not in self.url.query}
        engine = sa.create_engine(self.url, isolation_level=isolation, connect_args=arguments)
        sa.event.listen(engine, "connect", _prepare_postgres)
        sa.event.listen(engine, "checkin", _note_use)
        sa.event.listen(engine, "checkout", _try_idle)
        return engine

    def _dispose(self, *, close: bool = True) -> None:
        for engine in {self._engine, *self._engines.values()}:
            engine.dispose(close=close)

    def _in_this_process(self) -> AbstractContextManager[None]:
        """After a fork, leave connections to the process that made them: two must not speak on one."""
        if self._guard is not None:
            return self._guard.used()
        if self._process != os.getpid():
            self._dispose(close=False)  # before the next line, on which other threads rely
            self._process = os.getpid()
        return nullcontext()


_MODE = "vectormigrate_mode"
_SYNCHRONOUS = "vectormigrate_synchronous"


def parsed_url(url: str | sa.URL) -> sa.URL:
    """An address, read.

    Raises:
        ConfigurationError: it is none; it is not quoted, as it may hold a password.
    """
    try:
        return sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        raise ConfigurationError(
            "a journal needs an address such as sqlite:////PATH or postgresql://USER@HOST:PORT/DATABASE, in which '@', "
            "':', '/' and '%' of a password are written as %40, %3A, %2F and %25"
        ) from None


def _with_driver(url: sa.URL) -> sa.URL:
    """The address with the driver that we ask for, whatever SQLAlchemy's default is.

    Raises:
        ConfigurationError: it is of another database, or driver: few take several statements at once.
    """
    if url.get_backend_name() not in ("sqlite", "postgresql"):
        name = url.get_backend_name()
        raise ConfigurationError(f"a journal is kept in SQLite or Postgres, not in '{name}'; change journal.url")
    if url.drivername == "postgresql":
        return url.set(drivername="postgresql+psycopg2")
    if url.drivername not in ("sqlite", "sqlite+pysqlite", "postgresql+psycopg2"):
        raise ConfigurationError(
            f"a journal is kept through sqlite3 or psycopg2, not '{url.drivername}'; write sqlite:// or postgresql:// "
            "in journal.url, and for the latter install vectormigrate-dagster[postgres]"
        )
    return url


def _prepare_sqlite(connection: Any, _: Any) -> None:
    """WAL, so that readers do not hold up writers (https://sqlite.org/wal.html)."""
    connection.isolation_level = None  # the driver begins no transaction by itself
    end = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("pragma journal_mode=wal")
            break
        except connection.OperationalError:  # SQLite does not wait by itself while others open a new file too
            if time.monotonic() > end:
                raise
            time.sleep(0.01)


def _begin_sqlite(connection: sa.Connection) -> None:
    """Take the right to write first: a transaction that has read before cannot get it if another one has written.

    A commit waits for the disk unless it is a relaxed one (https://sqlite.org/pragma.html#pragma_synchronous).
    """
    mode = connection.get_execution_options().get(_MODE)
    if mode == "reads":
        connection.exec_driver_sql("begin")
        return
    synchronous = "normal" if mode == "relaxed" else "full"
    if connection.info.get(_SYNCHRONOUS) != synchronous:
        connection.exec_driver_sql(f"pragma synchronous={synchronous}")
        connection.info[_SYNCHRONOUS] = synchronous
    connection.exec_driver_sql("begin immediate")


def _prepare_postgres(connection: Any, _: Any) -> None:
    with connection.cursor() as cursor:
        for name, value in _POSTGRES_SETTINGS.items():
            cursor.execute(f"set {name} = '{value}'")
    connection.commit()


def _note_use(_: Any, record: Any) -> None:
    record.info[_USED] = time.monotonic()


def _try_idle(connection: Any, record: Any, _: Any) -> None:
    """Have a connection replaced that its server gave up while nobody used it."""
    if time.monotonic() - record.info.get(_USED, time.monotonic()) < _IDLE_SECONDS:
        return
    try:
        with connection.cursor() as cursor:
            cursor.execute("select 1")
        connection.rollback()
    except connection.Error as error:
        raise sa.exc.DisconnectionError from error


_USED = "vectormigrate_used"


def _reason(error: SQLAlchemyError) -> str:
    return str(error.orig if isinstance(error, DBAPIError) and error.orig is not None else error).strip()
