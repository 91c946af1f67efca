"""YAML with the line of every key, read by the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema).

PyYAML composes the nodes; its own resolver is YAML 1.1, in which `no` is false, `1:30` is 90 and dates are objects.
A key that occurs twice, a tag, an alias and a number that is not finite are problems, not guesses.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

from vectormigrate_dagster.errors import ConfigurationError

__all__ = ["Document", "KeyPath", "Problem", "read_document", "read_text"]

MAX_BYTES = 256 * 2**10
_MAX_DIGITS = 40
_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong with a file.

    Args:
        line: counted from 1.
        path: keys and list positions from the top; empty for the file itself.
    """

    line: int
    path: KeyPath
    message: str

    def text(self, file: Path) -> str:
        """The problem as one printable line, `file:line: key.path: message`."""
        keys = ".".join(str(key) for key in self.path)
        line = f"{file}:{self.line}: {keys + ': ' if keys else ''}{self.message}"
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


@dataclass(frozen=True)
class Document:
    """A YAML file as plain values.

    Args:
        data: dicts, lists, text, numbers, booleans and None.
        lines: the line of each key and list item, counted from 1.
        problems: what is wrong with the YAML itself; `data` holds what could be read.
    """

    data: Any
    lines: dict[KeyPath, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def line(self, path: KeyPath) -> int:
        """The line of a key or, if it is not there, of what should hold it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def read_text(file: Path) -> str:
    """Read a small UTF-8 file.

    Raises:
        ConfigurationError: it is not there, not a file, not readable, too large or not UTF-8.
    """
    try:
        if not file.exists():
            raise ConfigurationError(f"there is no file '{file}'")
        if not file.is_file():
            raise ConfigurationError(f"'{file}' is a folder or a device; a file is needed")
        if file.stat().st_size > MAX_BYTES:
            raise ConfigurationError(f"'{file}' is larger than {MAX_BYTES // 2**10} KiB")
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(f"{file}:{line}: this is not UTF-8 text; save the file as UTF-8") from error
    except OSError as error:
        raise ConfigurationError(f"'{file}' cannot be read: {error.strerror or error}") from error


def read_document(text: str, file: Path) -> Document:
    """Parse one YAML document.

    Args:
        text: what the file holds.
        file: named in errors.

    Raises:
        ConfigurationError: the text is not YAML at all.
    """
    try:
        root = yaml.compose(text, Loader=_Loader)  # type: ignore[arg-type]  # typeshed asks for a constructor, unused here
        document = Document(data=None)
        if root is None:
            return document
        value = _Values(document).value(root, ())
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigurationError(f"{file}:{line}: this is not valid YAML: {error.problem or error.context}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigurationError(f"{file}:{line}: this is not valid YAML: it holds a control character") from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # PyYAML lets Python's own errors through for escapes and directives with absurd numbers.
        raise ConfigurationError(f"{file}: this is not valid YAML: {error}") from error
    except RecursionError as error:
        raise ConfigurationError(f"{file}: this is not valid YAML: it is nested too deeply") from error
    return Document(value, document.lines, document.problems)


class _Loader(Reader, Scanner, Parser, Composer, BaseResolver):
    """Composes nodes and resolves nothing: every scalar stays text."""

    def __init__(self, stream: str) -> None:
        Reader.__init__(self, stream)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        BaseResolver.__init__(self)

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose a node, unless it is an alias: a file of a few lines could then expand to gigabytes."""
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # the stubs leave it out
            raise yaml.composer.ComposerError(
                None, None, "aliases (*name) are not used here; write the value out", mark
            )
        return super().compose_node(parent, index)


class _Values:
    """Turns nodes into values and notes lines and problems in a document."""

    def __init__(self, document: Document) -> None:
        self._document = document

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        self._document.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode) and node.tag == BaseResolver.DEFAULT_MAPPING_TAG:
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == BaseResolver.DEFAULT_SEQUENCE_TAG:
            return [self.value(item, (*path, position)) for position, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and node.tag == BaseResolver.DEFAULT_SCALAR_TAG:
            return self._scalar(node, path)
        self._problem(path, f"the tag '{node.tag}' is not used here; write a plain value")
        return None

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._problem(path, "a key must be text")
                continue
            key = key_node.value
            here = (*path, key)
            line = key_node.start_mark.line + 1
            if key in values:
                first = self._document.lines[here]
                message = f"this key occurs twice, first in line {first}; remove one"
                self._document.problems.append(Problem(line=line, path=here, message=message))
                continue
            self._document.lines[here] = line
            self._check_text(key, path)
            values[key] = self.value(value_node, here)
        return values

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Any:
        text: str = node.value
        if node.style is not None:
            return self._check_text(text, path)
        if _NULL.fullmatch(text):
            return None
        if _BOOL.fullmatch(text):
            return text.lower() == "true"
        if _INT.fullmatch(text) or _FLOAT.fullmatch(text):
            return self._number(text, path)
        if _NOT_FINITE.fullmatch(text):
            self._problem(path, f"'{text}' is not a finite number")
            return None
        return self._check_text(text, path)

    def _number(self, text: str, path: KeyPath) -> int | float | None:
        if len(text) > _MAX_DIGITS:
            self._problem(path, f"this number has more than {_MAX_DIGITS} characters")
            return None
        if _INT.fullmatch(text):
            return int(text, 0 if text.startswith(("0o", "0x")) else 10)
        number = float(text)
        if math.isfinite(number):
            return number
        self._problem(path, f"'{text}' is not a finite number")
        return None

    def _check_text(self, text: str, path: KeyPath) -> str:
        if any(character == "\0" or "\ud800" <= character <= "\udfff" for character in text):
            self._problem(path, "this text holds a NUL character or half of a surrogate pair")
            return ""
        return text

    def _problem(self, path: KeyPath, message: str) -> None:
        """Note a problem; the value becomes None."""
        self._document.problems.append(Problem(line=self._document.line(path), path=path, message=message))
