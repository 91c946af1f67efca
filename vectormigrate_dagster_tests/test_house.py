"""Checks the rules of the house that no linter knows: rooms, lazy clients, the exception tree, sizes, packaging."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

from vectormigrate_dagster import errors

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "vectormigrate_dagster"
NAME = PACKAGE.name
ROOMS = (
    *(("errors",), ("model",), ("databases",), ("config", "migration_file"), ("mapping",), ("transfer",)),
    *(("validation",), ("live",), ("defs",), ("definitions",), ("services",), ("cli", "sidecar")),
)
FLOOR = {room: floor for floor, rooms in enumerate(ROOMS) for room in rooms}
CLIENTS = {
    "qdrant_client": "qdrant",
    "pymilvus": "milvus",
    "milvus_lite": "milvus",
    "weaviate": "weaviate",
    "pinecone": "pinecone",
}
SIGNALS = {"FolderBusy"}
"""Exceptions that never leave their room: `databases/embedded.py` turns this one into `Unavailable`."""

FILES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((ROOT / "vectormigrate_dagster_tests").rglob("*.py"))
every_file = pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))


def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def room_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(nodes: Iterator[ast.AST]) -> Iterator[str]:
    """The modules that import statements name, with what is imported from the package itself as a module."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module is not None:
            yield from (f"{NAME}.{alias.name}" for alias in node.names) if node.module == NAME else (node.module,)


def at_import_time(node: ast.AST) -> Iterator[ast.AST]:
    """Statements that run when the module is imported: neither in functions nor for type checkers."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from at_import_time(child)


########
# Rooms
########


@every_file
def test_a_room_imports_only_from_the_rooms_below_it(file: Path) -> None:
    if file == PACKAGE / "__init__.py":
        return
    here = FLOOR[room_of(file)]

    for module in imports(ast.walk(tree_of(file))):
        if module.startswith(f"{NAME}."):
            assert FLOOR[module.split(".")[1]] <= here, f"imports '{module}' from a room above"


@every_file
def test_only_the_dagster_rooms_import_dagster(file: Path) -> None:
    modules = [module.split(".")[0] for module in imports(ast.walk(tree_of(file)))]

    if room_of(file) not in {"defs", "definitions", "services"}:
        assert "dagster" not in modules


@every_file
def test_clients_are_imported_in_their_own_module_and_only_when_needed(file: Path) -> None:
    tree = tree_of(file)
    used = {module.split(".")[0] for module in imports(ast.walk(tree))} & set(CLIENTS)

    for client in used:
        assert room_of(file) == "databases", f"'{client}' outside databases/"
        assert file.parent.name == CLIENTS[client], f"'{client}' belongs into databases/{CLIENTS[client]}/"
    assert not {module.split(".")[0] for module in imports(at_import_time(tree))} & set(CLIENTS)


@every_file
def test_nothing_but_databases_asks_for_a_databases_name(file: Path) -> None:
    if room_of(file) == "databases":
        return
    names = set(CLIENTS.values())
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Compare):
            constants = {leaf.value for leaf in ast.walk(node) if isinstance(leaf, ast.Constant)}
            assert not constants & names, f"line {node.lineno}: ask Capabilities instead"


########
# Errors
########


def drawn_tree() -> Iterator[tuple[str, str | None, int | None]]:
    """Class, parent and exit code as `errors.py` draws them."""
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"    ([ │├└─]*)([A-Z]\w+) ", line)
        if match:
            depth = len(match[1]) // 4
            code = re.search(r"exit (\d+)$", line)
            del above[depth:]
            yield match[2], above[-1] if above else None, int(code[1]) if code else None
            above.append(match[2])


def test_the_drawn_tree_is_the_tree_of_classes() -> None:
    drawn = list(drawn_tree())
    classes = {
        name: value
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.VectorMigrateError)
    }

    assert drawn[0][0] == "VectorMigrateError"
    assert sorted(name for name, _, _ in drawn) == sorted(classes)
    for name, parent, code in drawn:
        assert parent is None or classes[name].__bases__[0] is classes[parent], name
        assert code is None or classes[name].exit_code == code, name


def test_every_raised_error_of_ours_is_in_the_tree() -> None:
    known = set(errors.__all__)
    for file in FILES:
        for node in ast.walk(tree_of(file)):
            if isinstance(node, ast.ClassDef) and file.name != "errors.py" and node.name not in SIGNALS:
                bases = {ast.unparse(base).split(".")[-1] for base in node.bases}
                assert not bases & (known | {"Exception", "RuntimeError"}), f"{file.name}: {node.name}"


########
# Modules
########


def exported(tree: ast.Module) -> list[str] | None:
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names = ast.literal_eval(node.value)
            assert isinstance(names, list)
            return names
    return None


def rank(name: str) -> tuple[int, str]:
    """The order of `ruff`: constants, classes, functions."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


@every_file
def test_all_is_sorted_and_complete(file: Path) -> None:
    tree = tree_of(file)
    names = exported(tree)
    if names is None:
        return
    public = {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}

    assert names == sorted(names, key=rank)
    assert {name for name in public if not name.startswith("_")} <= set(names)


@every_file
def test_a_module_has_one_reason_to_exist_and_nothing_left_to_do(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    tree = tree_of(file)

    assert len(text.splitlines()) <= 450
    assert not re.search(r"\b(TODO|FIXME|XXX)\b", text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id != "print", f"line {node.lineno}: print"
        if isinstance(node, ast.Raise) and node.exc is not None:
            assert "NotImplementedError" not in ast.unparse(node.exc), f"line {node.lineno}: a stub"


def test_tests_are_files_that_say_what_they_check() -> None:
    for file in TESTS:
        if file.name.startswith("test_"):
            assert ast.get_docstring(tree_of(file)), f"{file.name} does not say which contract it checks"
        assert len(file.read_text(encoding="utf-8").splitlines()) <= 750, file.name


def test_no_file_names_this_machine() -> None:
    files = [*FILES, *TESTS, *ROOT.glob("*.*"), *(ROOT / "docs").glob("*.md"), *(ROOT / "migrations").glob("*.yaml")]
    for file in files:
        if file.is_file() and file != Path(__file__):
            assert not re.search(r"/work/|/root/|/home/\w", file.read_text(encoding="utf-8")), file


########
# Packaging
########


def project() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_every_file_of_the_package_is_installed() -> None:
    patterns = project()["tool"]["setuptools"]["package-data"][NAME]  # type: ignore[index]
    others = [
        str(file.relative_to(PACKAGE))
        for file in PACKAGE.rglob("*")
        if file.is_file() and file.suffix not in {".py", ".pyc"}
    ]

    assert {"data/debian_packages.parquet", "defs/dagster.yaml", "py.typed"} <= set(others)
    for file in others:
        assert any(fnmatch(file, pattern) for pattern in patterns), f"'{file}' is not in package-data"


def test_every_folder_with_modules_is_a_package() -> None:
    for file in FILES:
        assert (file.parent / "__init__.py").exists(), file


def test_every_pin_says_why() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    runtime = re.search(r"^dependencies = \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL)

    assert runtime is not None
    assert "#" in runtime[1]
    for pin in re.findall(r'"([\w-]+)[^"]*(?:<|~=|==)[^"]*"', runtime[1]):
        before = runtime[1].split(f'"{pin}')[0].rstrip().splitlines()
        assert any(line.strip().startswith("#") for line in before[-2:]), f"'{pin}' is pinned without a reason"
