"""Plans and mappings are told apart by a digest of what they decide."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Self

from pydantic import BaseModel, ConfigDict


class Digested(BaseModel):
    """A frozen model with a digest, which is computed once: a plan can hold thousands of splits."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @abstractmethod
    def decides(self) -> Any:
        """What the digest is of, as JSON values."""

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what this decides, as hexadecimal text; the same in every process."""
        return digest_of(self.decides())

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """See `BaseModel.model_copy`, which would copy the digest along although other values make another one."""
        copied = super().model_copy(update=update, deep=deep)
        copied.__dict__.pop("digest", None)
        return copied


def digest_of(content: Any) -> str:
    """SHA-256 of JSON values, as hexadecimal text; the order of keys does not matter."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
