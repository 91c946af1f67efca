"""What a power cut may have taken from a journal in a file, and what to do about it.

Admissions are written to the file without waiting for the disk: whatever happens to processes, they are there, but a
host that loses its power loses the last of them, and with them which ids were about to be written. The start of the
host has a number. A journal that was last opened under another one may lack such intents, so nothing that was compared
before counts any more: before the next switch everything is compared again, whole and on both sides, which finds what
the lost ones would have told. Everything but admissions waits for the disk, so the control row is never lost.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from vectormigrate_dagster.live.journal.tables import BOOT, CHUNKS, CONTROL

_FILE = Path("/proc/sys/kernel/random/boot_id")


def boot_number() -> str | None:
    """Which start of this host it is; None where nobody tells, so that admissions must wait for the disk."""
    try:
        return _FILE.read_text(encoding="ascii").strip()
    except OSError:
        return None


def distrust_if_new(connection: sa.Connection, number: str) -> None:
    """Let no comparison count that was made under another start of the host.

    Numbers are kept, because containers of one host may be told different ones: each of them is new only once.

    Args:
        connection: the transaction in which the journal is opened.
        number: of this start.
    """
    known = set(connection.execute(sa.select(BOOT.c.number)).scalars())
    if number in known:
        return
    connection.execute(sa.insert(BOOT).values(number=number))
    if known:
        connection.execute(sa.delete(CHUNKS))
        connection.execute(sa.update(CONTROL).values(verified_epoch=None, verified_upto=None))
