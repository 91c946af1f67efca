"""The journal: which ids an application changed while its collection moves, and who may act on that."""

from vectormigrate_dagster.live.journal.admissions import Admission, Request
from vectormigrate_dagster.live.journal.attempts import Attempt
from vectormigrate_dagster.live.journal.control import Bounds, Control, Side, State
from vectormigrate_dagster.live.journal.database import JournalDatabase
from vectormigrate_dagster.live.journal.entries import LANES, Backlog, Entry, Key, Lag
from vectormigrate_dagster.live.journal.journal import Journal
from vectormigrate_dagster.live.journal.leases import LaneLease
from vectormigrate_dagster.live.journal.lows import SplitAttempt
from vectormigrate_dagster.live.journal.verdicts import Judged, Verdict, Verdicts

__all__ = [
    "LANES",
    "Admission",
    "Attempt",
    "Backlog",
    "Bounds",
    "Control",
    "Entry",
    "Journal",
    "JournalDatabase",
    "Judged",
    "Key",
    "Lag",
    "LaneLease",
    "Request",
    "Side",
    "SplitAttempt",
    "State",
    "Verdict",
    "Verdicts",
]
