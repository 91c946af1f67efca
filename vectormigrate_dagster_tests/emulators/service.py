"""What the services of stand-ins share: the orders that tests give, in this process or over HTTP, and keys."""

from __future__ import annotations

import hmac
import json
from typing import Any, ClassVar, Generic, TypeVar

from vectormigrate_dagster_tests.emulators.faults import Fault, Faults

CONTROL = "/_stand_in/faults"
"""Path at which tests give orders; a real server has no such path."""

Some = TypeVar("Some", bound=Fault)


class Service(Generic[Some]):
    """One server, as far as tests order it about."""

    fault_type: ClassVar[type[Fault]]

    def __init__(self) -> None:
        self.faults: Faults[Some] = Faults()

    def obey(self, method: str, body: bytes = b"") -> dict[str, Any]:
        """Order a fault (POST), forget all (DELETE), or only report (GET)."""
        if method == "POST":
            self.faults.add(self.fault_type(**json.loads(body)))  # type: ignore[arg-type]  # it is the kind of `Some`
        elif method == "DELETE":
            self.faults.clear()
        return self.report()

    def report(self) -> dict[str, Any]:
        """What was ordered and what was called."""
        return {"faults": self.faults.ordered(), "calls": self.faults.calls()}


def same_key(key: str, expected: str | None) -> bool:
    """Whether a key is the expected one; there may be none."""
    return expected is not None and hmac.compare_digest(key.encode(), expected.encode())
