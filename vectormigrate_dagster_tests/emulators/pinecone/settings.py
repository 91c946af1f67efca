"""How the stand-in is set up: limits, readiness, consistency and rates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the server that is played is like. Limits: https://docs.pinecone.io/reference/api/database-limits.

    Args:
        api_key: the only key that is accepted.
        ready_after: how often a new index is described until it is ready; it has no host before.
        gone_after: how often a deleted index is described until it is gone.
        visible_after: how many further requests to its namespace a write stays unseen by list, fetch, query and counts.
        visible_after_seconds: how long it stays unseen, whatever is asked meanwhile.
        lsn_headers: whether writes and queries name their LSN, which not every server does.
        rates: requests a second and index, by method; those above are refused with 429.
        retry_after: seconds that such a refusal names; None names none.
        pods: whether pod indexes can be made; API 2026-07 makes none, but those that exist go on.
        null_metadata: what becomes of a key whose value is null. The documentation says both "not supported" (`refuse`)
            and "dropped rather than rejected" (`drop`).
        whole_numbers: how a number of metadata without fraction is written; each is a float64 inside.
        spaces: whether fetch and the prefix of list take spaces. The OpenAPI file of 2026-04 says that they do not; the
            client lets them pass.
        max_nonzeros: non-zero values of a sparse vector; pages of the documentation say 1000 and 2048.
        max_records: records in a request to write; ids in a request to fetch or delete.
        max_request_bytes: size of a request to write.
        max_answer_bytes: size of the answer to a query.
        max_metadata_bytes: size of a record's metadata as JSON.
        max_address_bytes: size of a request's path and query string.
    """

    api_key: str = "pcsk_stand_in"
    ready_after: int = 0
    gone_after: int = 0
    visible_after: int = 0
    visible_after_seconds: float = 0.0
    lsn_headers: bool = True
    rates: Mapping[str, float] = field(default_factory=dict)
    retry_after: float | None = 1.0
    pods: bool = False
    null_metadata: Literal["refuse", "drop"] = "refuse"
    whole_numbers: Literal["float", "int"] = "float"
    spaces: bool = True
    max_nonzeros: int = 2048
    max_records: int = 1000
    max_request_bytes: int = 2 * 1024 * 1024
    max_answer_bytes: int = 4 * 1024 * 1024
    max_metadata_bytes: int = 40_960
    max_address_bytes: int = 8192


MAX_PAGE = 100
"""Ids on a page of a list; namespaces on a page."""
MAX_TOP_K = 10_000
MAX_DIMENSION = 20_000
MAX_ID_BYTES = 512
VERSION = "2026-07"
"""The only version of the API that is played."""
