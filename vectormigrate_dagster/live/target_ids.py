"""The id that a record of the source has in the target, as the journal has it from the plan."""

from __future__ import annotations

from vectormigrate_dagster.errors import InvalidRecord, NotSo
from vectormigrate_dagster.live.journal import Control, Key
from vectormigrate_dagster.mapping.ids import IdMapping, RefusedId, target_id
from vectormigrate_dagster.model import Id

__all__ = ["target_id_of"]


def target_id_of(control: Control, key: Key) -> Id:
    """The id in the target.

    Raises:
        InvalidRecord: the target can hold no such id.
        NotSo: the journal does not know how ids are mapped, or the id alone does not tell.
    """
    if control.id_mapping is None:
        raise NotSo(f"the journal does not know the ids that '{control.migration}' makes; plan it again")
    mapping = IdMapping.model_validate(control.id_mapping)
    if mapping.restore is not None:
        raise NotSo(
            f"'{control.migration}' restores ids from the payload field '{mapping.restore.field}'; a record's id in "
            "the target is the one in that field, where it has it"
        )
    if mapping.scoped and key.scope is None:
        raise NotSo(f"ids of '{control.migration}' in the target depend on the scope; name it, the default one too")
    try:
        return target_id(mapping, key.id, key.kind, key.scope)[1]
    except RefusedId as error:
        raise InvalidRecord(str(error), ids=[key.text]) from error
