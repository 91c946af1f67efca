"""How payload keys become keys of the target: a total function that never makes two keys one unnoticed."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from pydantic import BaseModel, ConfigDict, Field

_MADE_LENGTH = 200
"""Characters of a name that is made here; the shortest limit of a database is 231."""


class KeyRules(BaseModel):
    """What becomes of payload keys, also of keys that no profile has seen; they are called as in `origin.Before`.

    A key that the target reserves, or that is the name of its id or of a vector, gets an underscore at its
    end; so does such a key that ends in underscores already ("id" -> "id_", "id_" -> "id__"), and more than one
    where the target uses "id_" too. The rule has an inverse, `unshadow`, which a migration back applies.

    Args:
        drop: keys that are left behind.
        rename: key -> key of the target, as the owner asked.
        names: key -> name of its column, where a column cannot be called like the key (see `column_names`).
        shadowed: names that shadow keys in the target.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    drop: tuple[str, ...] = ()
    rename: dict[str, str] = Field(default_factory=dict)
    names: dict[str, str] = Field(default_factory=dict)
    shadowed: tuple[str, ...] = ()

    @property
    def renames(self) -> bool:
        """Whether some key becomes another one, or none."""
        return bool(self.drop or self.rename or self.names or self.shadowed)

    def target_of(self, key: str) -> str | None:
        """The key in the target; None if it is dropped."""
        if key in self.drop:
            return None
        if key in self.names:
            return self.names[key]
        return shadow(self.rename.get(key, key), self.shadowed)


def shadow(key: str, names: Collection[str]) -> str:
    """The key under which a target that uses `names` itself keeps `key`."""
    low, high = _family(key, names)
    return key if low is None or _tail(key) < low else key + "_" * (high - low + 1)


def unshadow(key: str, names: Collection[str]) -> str:
    """The key that `shadow` turned into `key`."""
    low, high = _family(key, names)
    return key if low is None or _tail(key) <= high else key[: len(key) - (high - low + 1)]


def column_names(keys: Iterable[str], pattern: str, taken: Collection[str]) -> dict[str, str]:
    """Names for the columns of those keys that cannot be names themselves; the same for the same keys, in any order.

    No two names differ in capitals only, which Weaviate takes for one name
    (https://github.com/weaviate/weaviate/blob/main/usecases/schema/class.go).

    Args:
        keys: all keys that become columns.
        pattern: what a column's name has to match.
        taken: names that no column may have.
    """
    used = {name.lower() for name in taken}
    made: dict[str, str] = {}
    left: list[str] = []
    for key in sorted(keys):
        if re.fullmatch(pattern, key) and key.lower() not in used:
            used.add(key.lower())
        else:
            left.append(key)
    for key in left:
        made[key] = _free(_possible(key, pattern), used)
        used.add(made[key].lower())
    return made


def _possible(key: str, pattern: str) -> str:
    """The key with what a name cannot hold replaced."""
    stem = re.sub(r"\W", "_", key, flags=re.ASCII)[:_MADE_LENGTH]
    return next((name for name in (stem, stem[:1].lower() + stem[1:]) if re.fullmatch(pattern, name)), f"_{stem}")


def _free(stem: str, used: Collection[str]) -> str:
    name, number = stem, 1
    while name.lower() in used:
        number += 1
        name = f"{stem}_{number}"
    return name


def _tail(key: str) -> int:
    return len(key) - len(key.rstrip("_"))


def _family(key: str, names: Collection[str]) -> tuple[int | None, int]:
    """Fewest and most underscores at the end of those `names` that differ from `key` only in them."""
    stem = key.rstrip("_")
    tails = [_tail(name) for name in names if name.rstrip("_") == stem]
    return (min(tails), max(tails)) if tails else (None, 0)
