"""Checks that migration files are found by their ids, and are written without a key and never over another one."""

from __future__ import annotations

from pathlib import Path

import pytest

from vectormigrate_dagster.errors import ConfigurationError
from vectormigrate_dagster.migration_file import (
    Side,
    find_migration,
    key_variable,
    load_folder,
    load_migration,
    migration_from_flags,
    migrations_folder,
    write_template,
)
from vectormigrate_dagster.migration_file.fields import read_fields
from vectormigrate_dagster_tests.migration_files import GOOD

########
# Folders
########


def test_a_bad_file_does_not_spoil_the_others(tmp_path: Path) -> None:
    for name, text in (("b.yaml", GOOD), ("a.yaml", GOOD), ("bad.yaml", "x"), ("old.yml", GOOD), (".h.yaml", "x")):
        (tmp_path / name).write_text(text)

    migrations, broken = load_folder(tmp_path)

    assert [migration.id for migration in migrations] == ["a", "b"]
    assert [file.path.name for file in broken] == ["bad.yaml", "old.yml"]
    assert "must hold keys" in str(broken[0].error)


@pytest.mark.parametrize(("one", "other"), [("a-b", "a.b"), ("a", "a_plan"), ("a.x", "a_x_validate")])
def test_two_ids_that_give_a_job_the_same_name_are_both_refused(tmp_path: Path, one: str, other: str) -> None:
    for name in (one, other, "free"):
        (tmp_path / f"{name}.yaml").write_text(GOOD)

    migrations, broken = load_folder(tmp_path)

    assert [migration.id for migration in migrations] == ["free"]
    for file in broken:
        assert f"{one}.yaml" in str(file.error)
        assert f"{other}.yaml" in str(file.error)
    with pytest.raises(ConfigurationError, match="rename one"):
        find_migration(tmp_path, one)


def test_a_migration_is_found_by_id_or_the_nearest_is_named(tmp_path: Path) -> None:
    (tmp_path / "packages.yaml").write_text(GOOD)

    assert find_migration(tmp_path, "packages").id == "packages"
    with pytest.raises(ConfigurationError, match="did you mean 'packages'"):
        find_migration(tmp_path, "package")
    with pytest.raises(ConfigurationError, match="cannot be the id"):
        find_migration(tmp_path, "../packages")
    with pytest.raises(ConfigurationError, match="vectormigrate init x"):
        find_migration(tmp_path / "none", "x")


def test_a_folder_that_is_not_there_is_empty_and_a_file_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    assert load_folder(tmp_path / "none") == ([], [])
    with pytest.raises(ConfigurationError, match="is a file"):
        load_folder(tmp_path / "file")


def test_the_folder_is_the_option_then_the_variable_then_migrations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VECTORMIGRATE_MIGRATIONS", raising=False)
    assert migrations_folder() == Path.cwd() / "migrations"
    monkeypatch.setenv("VECTORMIGRATE_MIGRATIONS", "/m")
    assert migrations_folder() == Path("/m")
    assert migrations_folder(Path("/o")) == Path("/o")


########
# Writing
########


def test_flags_become_a_file_without_a_key(tmp_path: Path) -> None:
    source = Side(type="qdrant", url="http://h:6333", collection='a"b: #\n', has_key=True)
    target = Side(type="milvus", path=Path("/d/milvus.db"), collection="0x1F")

    migration, is_new = migration_from_flags(
        tmp_path, "mig-1", source=source, target=target, transfer={"batch_size": 7}
    )

    assert is_new
    assert migration == load_migration(tmp_path / "mig-1.yaml")
    assert migration.source.collection == 'a"b: #\n'
    assert migration.target.collection == "0x1F"
    assert migration.source.api_key_env == key_variable("mig-1", "source") == "VECTORMIGRATE_MIG_1_SOURCE_API_KEY"
    assert migration.target.api_key_env is None
    assert migration.transfer.batch_size == 7


def test_the_same_flags_again_use_the_file_and_others_are_refused(tmp_path: Path) -> None:
    source = Side(type="qdrant", url="http://h:6333", collection="a")
    target = Side(type="milvus", path=Path("/d/milvus.db"), collection="b")
    migration_from_flags(tmp_path, "m", source=source, target=target, transfer={})
    before = (tmp_path / "m.yaml").read_bytes()

    _, is_new = migration_from_flags(tmp_path, "m", source=source, target=target, transfer={"batch_size": 1})
    with pytest.raises(ConfigurationError, match="names another target"):
        migration_from_flags(
            tmp_path, "m", source=source, target=Side(type="qdrant", url="http://i", collection="b"), transfer={}
        )

    assert not is_new
    assert (tmp_path / "m.yaml").read_bytes() == before


def test_flags_that_make_no_valid_file_write_none(tmp_path: Path) -> None:
    bad = Side(type="oracle", url="http://h", collection="a")

    with pytest.raises(ConfigurationError, match="'oracle' is not a database"):
        migration_from_flags(tmp_path, "m", source=bad, target=bad, transfer={})

    assert list(tmp_path.iterdir()) == []


def test_init_never_overwrites(tmp_path: Path) -> None:
    write_template(tmp_path / "new", "m")
    with pytest.raises(ConfigurationError, match="exists already"):
        write_template(tmp_path / "new", "m")


def test_fields_are_names_of_types(tmp_path: Path) -> None:
    file = tmp_path / "fields.json"
    file.write_text('{"id": "string", "year": "int"}')
    assert read_fields(file) == {"id": "string", "year": "int"}
    file.write_text("a: 1\na: text\n")
    with pytest.raises(ConfigurationError, match=r"(?s)fields.json:1: a: must be the name.*|occurs twice"):
        read_fields(file)
