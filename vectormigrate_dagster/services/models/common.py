"""What documents are made of."""

from __future__ import annotations

from datetime import UTC
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

Utc = Annotated[AwareDatetime, AfterValidator(lambda time: time.astimezone(UTC))]
"""A moment; its text ends in `Z`."""

Count = Annotated[int, Field(ge=0)]


class Document(BaseModel):
    """Something that a verb answers with, or a part of it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class EndpointDocument(Document):
    """A source or target, without any secret."""

    type: str
    address: str
    collection: str


class LossCounts(Document):
    """How many things of the source have each grade in the target."""

    exact: Count = 0
    widened: Count = 0
    lossy: Count = 0
    refused: Count = 0
