"""Write a migration file: a commented one to fill in, or one from the flags of `migrate`."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.databases import TYPES
from vectormigrate_dagster.errors import ConfigurationError
from vectormigrate_dagster.migration_file.loading import SUFFIX, check_id, load_migration, parse_migration

__all__ = ["Side", "key_variable", "migration_from_flags", "write_template"]

_TEMPLATE = """\
# Migration '{id}'. Every key below `source` and `target` may be left out; the values shown are the defaults.
# See what would happen: vectormigrate plan {id}      Do it: vectormigrate migrate {id}
source:
  type: qdrant                      # {types}
  url: http://localhost:6333        # a server; or, for an embedded database, `path:` relative to this file's folder
                                    # (pinecone's own service needs neither)
  # path: ../data/qdrant
  # api_key_env: QDRANT_API_KEY     # the NAME of an environment variable; a key itself is refused
  collection: my_collection
  # scopes: all                     # or a list of namespaces / tenants / shard keys / partitions
  # options: {{timeout_s: 60}}        # pinecone: {{cloud: aws, region: us-east-1, id_list: ids.txt}}
target:
  type: milvus
  path: ../data/milvus.db
  collection: my_collection
mapping:
  # ids: {{policy: auto, field: _source_id}}   # auto | native | uuid5; `field` keeps an id the target cannot hold
  # rename: {{old_name: new_name}}
  # drop: [field_to_leave_behind]
  # types: {{year: int}}              # type of a field in the target, where inference is not wanted
  # allow: []                       # lossy changes that you accept, by the code that `plan` prints
  # scope_as: auto                  # native | field | collection
  # json_field: _source_json        # keeps, as JSON text, values that the target has no place for; null refuses them
transfer:
  # on_conflict: fail               # fail | skip | overwrite (what stood there is kept for a rollback)
  # batch_size: auto                # found by measurement; a number is the most that a batch holds
  # partition_records: auto         # total/400, between 100,000 and 5,000,000
  # checkpoint_seconds: 5
  # workers: auto                   # 1 on an embedded database
  # max_retries: 5
  # validate_every: 10              # batches
  # rate_limit: null                # records per second
  # defer_indexing: auto            # auto | never: index a new target after it is loaded, where the database can
validation:
  # sample_size: 1000
  # min_cosine: 0.9999
  # search: {{queries: 100, k: 10, min_overlap: 0.95, filter: auto, queries_file: null}}
journal:
  # url: null                       # address of a Postgres without its password, or url_env: NAME; null: SQLite, here
  # request_seconds: 120            # after so long no request that was sent is applied any more, retries included
  # stale_seconds: {{source: null, target: null}}   # how old what a read tells may be; null: as the database is known
cutover:
  # freeze_seconds: 20              # writes are frozen for so long at most
  # patience_seconds: 300           # until what is under way is over, so that a freeze is short
  # shadow_reads: 0                 # so many live queries must have been compared in the last day; 0: none
  # shadow_overlap: 0.95            # and have so much of their answers in common
schedule:
  # cron: null                      # "0 3 * * *": every night at three, while Dagster's daemon runs
  # action: missing                 # missing: move what is not there yet | verify: validate
"""


@dataclass(frozen=True, kw_only=True)
class Side:
    """A source or target as given by flags.

    Args:
        path: folder of an embedded database; exactly one of `url` and `path`.
        has_key: a key was given; the file gets the name of its variable, never the key.
    """

    type: str
    collection: str
    url: str | None = None
    path: Path | None = None
    has_key: bool = False


def key_variable(id: str, side: str) -> str:
    """The environment variable that holds the key of `side` ("source" or "target")."""
    return f"VECTORMIGRATE_{re.sub(r'[^A-Za-z0-9]', '_', id).upper()}_{side.upper()}_API_KEY"


def write_template(folder: Path, id: str) -> Path:
    """Write a commented migration file to fill in.

    Raises:
        ConfigurationError: `id` cannot be one, or there is such a file.
    """
    check_id(id)
    file = folder / f"{id}{SUFFIX}"
    _write_new(file, _TEMPLATE.format(id=id, types=" | ".join(TYPES)))
    return file


def migration_from_flags(
    folder: Path,
    id: str,
    *,
    source: Side,
    target: Side,
    transfer: dict[str, int],
) -> tuple[Migration, bool]:
    """Write the migration file that flags describe, unless it is there already.

    Args:
        folder: the migrations folder, made if need be.
        id: the migration.
        source: where to read.
        target: where to write.
        transfer: keys of `transfer:` that were given.

    Returns:
        The migration, and whether its file is new.

    Raises:
        ConfigurationError: the flags make no valid file, or there is one that names another source or target.
    """
    check_id(id)
    file = folder.absolute() / f"{id}{SUFFIX}"
    text = _render(id, source, target, transfer)
    wanted = parse_migration(text, file)
    if not file.exists():
        _write_new(file, text)
        return wanted, True
    there = load_migration(file)
    for side in ("source", "target"):
        if getattr(there, side).place != getattr(wanted, side).place:
            raise ConfigurationError(
                f"'{file}' names another {side}: {getattr(there, side).type} collection "
                f"'{getattr(there, side).collection}'; leave the flags out, choose another id, or edit the file"
            )
    return there, False


def _render(id: str, source: Side, target: Side, transfer: dict[str, int]) -> str:
    # A JSON string is a YAML string, whatever it holds.
    lines = [f"# Written by 'vectormigrate migrate {id}' from its flags."]
    for name, side in (("source", source), ("target", target)):
        lines += [f"{name}:", f"  type: {_text(side.type)}"]
        if side.url is not None:
            lines.append(f"  url: {_text(side.url)}")
        if side.path is not None:
            lines.append(f"  path: {_text(str(side.path.absolute()))}")
        if side.has_key:
            lines.append(f"  api_key_env: {key_variable(id, name)}")
        lines.append(f"  collection: {_text(side.collection)}")
    if transfer:
        lines += ["transfer:", *(f"  {key}: {value}" for key, value in transfer.items())]
    return "\n".join(lines) + "\n"


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _write_new(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError as error:
        raise ConfigurationError(f"'{file}' exists already; edit it, remove it, or choose another id") from error
    except OSError as error:
        raise ConfigurationError(f"'{file}' cannot be written: {error.strerror or error}") from error
