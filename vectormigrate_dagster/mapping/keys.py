"""How payload keys become keys of the target: a total function that never makes two keys one unnoticed."""

from __future__ import annotations

from collections.abc import Collection

from pydantic import BaseModel, ConfigDict, Field


class KeyRules(BaseModel):
    """What becomes of payload keys, also of keys that no profile has seen.

    A key that the target reserves, or that is the name of its id or of a vector, gets an underscore at its
    end; so does such a key that ends in underscores already ("id" -> "id_", "id_" -> "id__"), and more than one
    where the target uses "id_" too. The rule has an inverse, `unshadow`, which a migration back applies.

    Args:
        drop: keys of the source that are left behind.
        rename: key of the source -> key of the target, as the owner asked or as it was before an earlier migration.
        shadowed_before: names that shadowed keys when an earlier migration made the source.
        shadowed: names that shadow keys in the target.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    drop: tuple[str, ...] = ()
    rename: dict[str, str] = Field(default_factory=dict)
    shadowed_before: tuple[str, ...] = ()
    shadowed: tuple[str, ...] = ()

    def target_of(self, key: str) -> str | None:
        """The key in the target; None if it is dropped."""
        if key in self.drop:
            return None
        key = self.rename[key] if key in self.rename else unshadow(key, self.shadowed_before)
        return shadow(key, self.shadowed)


def shadow(key: str, names: Collection[str]) -> str:
    """The key under which a target that uses `names` itself keeps `key`."""
    low, high = _family(key, names)
    return key if low is None or _tail(key) < low else key + "_" * (high - low + 1)


def unshadow(key: str, names: Collection[str]) -> str:
    """The key that `shadow` turned into `key`."""
    low, high = _family(key, names)
    return key if low is None or _tail(key) <= high else key[: len(key) - (high - low + 1)]


def _tail(key: str) -> int:
    return len(key) - len(key.rstrip("_"))


def _family(key: str, names: Collection[str]) -> tuple[int | None, int]:
    """Fewest and most underscores at the end of those `names` that differ from `key` only in them."""
    stem = key.rstrip("_")
    tails = [_tail(name) for name in names if name.rstrip("_") == stem]
    return (min(tails), max(tails)) if tails else (None, 0)
