"""Checks that a migration file becomes a `Migration` or an error that says where, what and what to do; never more."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.databases.endpoint import QdrantOptions
from vectormigrate_dagster.errors import ConfigurationError, MissingSecret
from vectormigrate_dagster.migration_file import (
    job_name,
    load_migration,
    write_template,
)
from vectormigrate_dagster.migration_file.loading import parse_migration
from vectormigrate_dagster_tests.migration_files import GOOD, SOURCE, TARGET, load, refusal

########
# What a file means
########


def test_a_short_file_gets_the_documented_defaults(tmp_path: Path) -> None:
    migration = load(tmp_path, GOOD)

    assert migration.id == "m"
    assert migration.source.scopes == "all"
    assert migration.mapping.ids.field == "_source_id"
    assert migration.transfer.on_conflict == "fail"
    assert migration.transfer.checkpoint_seconds == 5
    assert migration.validation.search.min_overlap == 0.95
    assert migration.schedule.action == "missing"


def test_a_relative_path_is_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "migrations").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    migration = load(tmp_path / "migrations", GOOD)

    assert migration.target.path == tmp_path / "data" / "milvus.db"


def test_the_template_is_a_file_that_loads_and_every_comment_in_it_is_a_key(tmp_path: Path) -> None:
    file = write_template(tmp_path, "films")
    shown = load_migration(file)
    text = file.read_text()
    uncommented = "\n".join(
        line.replace("# ", "", 1) if line.startswith("  # ") and "path:" not in line else line
        for line in text.splitlines()
    )
    uncommented = uncommented.replace("cron: null", 'cron: "0 3 * * 1-5"')

    assert shown.transfer == load(tmp_path, GOOD).transfer
    assert load(tmp_path, uncommented).mapping.rename == {"old_name": "new_name"}


def test_a_section_with_every_key_commented_out_is_an_absent_one(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD + "mapping:\n  # drop: [x]\n").mapping.drop == ()


@pytest.mark.parametrize("word", ["no", "on", "y", "1:30", "2024-01-01", "="])
def test_words_that_yaml_1_1_makes_something_else_of_stay_text(tmp_path: Path, word: str) -> None:
    assert load(tmp_path, GOOD.replace("collection: a", f"collection: {word}")).source.collection == word


@pytest.mark.parametrize("field", ["token", "password", "api_key", "secret"])
def test_fields_of_the_collection_may_have_any_name(tmp_path: Path, field: str) -> None:
    text = GOOD + f"mapping: {{rename: {{{field}: kept}}, types: {{{field}: text}}, drop: [{field}]}}"

    assert load(tmp_path, text).mapping.rename == {field: "kept"}


def test_options_are_those_of_the_database(tmp_path: Path) -> None:
    migration = load(tmp_path, SOURCE + "  options: {timeout_s: 3, grpc_url: http://localhost:6334}\n" + TARGET)

    assert migration.source.options.timeout_s == 3
    assert migration.source.options.model_dump()["grpc_url"] == "http://localhost:6334"
    assert Migration.model_validate(migration.model_dump()) == migration


########
# What is refused, and with which words
########


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "m.yaml:1: the file is empty"),
        ("# nothing\n", "m.yaml:1: the file is empty"),
        ("- a\n", "m.yaml:1: the file must hold keys"),
        ("source", "m.yaml:1: the file must hold keys"),
        ("a: [", "m.yaml:1: this is not valid YAML"),
        ("a: 1\nb: \t- x\n", "m.yaml:2: this is not valid YAML"),
        ("a: 1\nb: \x07", "m.yaml:2: this is not valid YAML: it holds a control character"),
        ("a: 1\n--- \nb: 1", "this is not valid YAML"),
        ("[" * 5000, "nested too deeply"),
        ('a: "\\UFFFFFFFF"', "this is not valid YAML"),
        ("a: &x {b: 1}\nc: *x", "m.yaml:2: this is not valid YAML: aliases"),
        (GOOD + "a: !!python/object:os.system 1", "a: the tag 'tag:yaml.org,2002:python/object:os.system' is not used"),
        (GOOD + "? [1]\n: 2\n", "a key must be text"),
        (GOOD + 'transfer: {batch_size: "\\ud800"}', "half of a surrogate pair"),
        (GOOD.replace("collection: a", 'collection: "a\\0"'), "m.yaml:4: source.collection: this text holds a NUL"),
        (SOURCE, "m.yaml:1: target: this key is missing"),
        ("source:\n" + TARGET, "m.yaml:1: source: must be keys with values, found null"),
        (GOOD + "transfer: 5", "m.yaml:9: transfer: must be keys with values, found 5"),
        (GOOD + "transfre: {}", "m.yaml:9: transfre: unknown key; did you mean 'transfer'?"),
        (GOOD + "zzz: {}", "m.yaml:9: zzz: unknown key; known are cutover, journal, mapping, schedule,"),
        (GOOD + "id: m", "m.yaml:9: id: unknown key; the id is the file's name, 'm'"),
        (GOOD + "transfer:\n  batchsize: 5", "m.yaml:10: transfer.batchsize: unknown key; did you mean 'batch_size'?"),
        (GOOD + "validation: {search: {kk: 5}}", "validation.search.kk: unknown key"),
        (GOOD + "mapping: {ids: {polcy: auto}}", "mapping.ids.polcy: unknown key; did you mean 'policy'?"),
        (SOURCE + "  options: {timeout: 5}\n" + TARGET, "m.yaml:5: source.options.timeout: unknown key; did you mean"),
        (SOURCE + "  options: {timeout_s: x}\n" + TARGET, 'source.options.timeout_s: must be a number, found "x"'),
        (SOURCE + "  options: 5\n" + TARGET, "m.yaml:5: source.options: must be keys with values, found 5"),
        (GOOD + "transfer: {batch_size: abc}", "batch_size: must be a whole number or 'auto', found \"abc\""),
        (GOOD + "transfer: {workers: true}", "transfer.workers: must be a whole number or 'auto', found true"),
        (GOOD + 'transfer: {max_retries: "5"}', 'transfer.max_retries: must be a whole number, found "5"'),
        (GOOD + "transfer: {max_retries: 1.5}", "transfer.max_retries: must be a whole number, found 1.5"),
        (GOOD + "transfer: {max_retries: 101}", "transfer.max_retries: must be at most 100, found 101"),
        (GOOD + "transfer: {rate_limit: 0}", "transfer.rate_limit: must be more than 0, found 0"),
        (GOOD + "transfer: {on_conflict: x}", "must be 'fail', 'skip' or 'overwrite', found \"x\""),
        (GOOD + "validation: {min_cosine: .nan}", "validation.min_cosine: '.nan' is not a finite number"),
        (GOOD + "validation: {min_cosine: 1e999}", "validation.min_cosine: '1e999' is not a finite number"),
        (GOOD + f"validation: {{sample_size: {'9' * 5000}}}", "this number has more than 40 characters"),
        (GOOD + "mapping: {allow: id_changed}", 'mapping.allow: must be a list, found "id_changed"'),
        (GOOD + "mapping: {allow: [1]}", "mapping.allow.0: must be text, found 1"),
        (SOURCE + "  scopes: [a, 1]\n" + TARGET, "m.yaml:5: source.scopes.1: must be text, found 1"),
        (SOURCE + "  scopes: []\n" + TARGET, "m.yaml:5: source.scopes: the list is empty; name at least one scope"),
        (SOURCE + "  scopes: [a, a]\n" + TARGET, "m.yaml:5: source.scopes: a scope is named twice"),
        (SOURCE + "  collection: b\n" + TARGET, "m.yaml:5: source.collection: this key occurs twice, first in line 4"),
        (SOURCE + "  path: x\n" + TARGET, "m.yaml:1: source: give exactly one of 'url' (a server) and 'path'"),
        (GOOD.replace("type: qdrant", "type: oracle"), "m.yaml:2: source.type: 'oracle' is not a database"),
        (GOOD.replace("http://localhost:6333", "localhost:6333"), "source.url: give an address such as http://"),
        (GOOD.replace("http://localhost:6333", "http://h:99999"), "source.url: this is not an address"),
        (GOOD.replace("http://localhost:6333", "http://[::1"), "source.url: this is not an address"),
        (GOOD + "schedule: {cron: 0 3 * *}", "schedule.cron: a cron line has five fields"),
        (GOOD + "schedule: {cron: 61 * * * *}", "schedule.cron: '61' is not a minute; use 0 to 59"),
        (b"a: \xff\xfe", "m.yaml:1: this is not UTF-8 text"),
        (b"# a long comment\n" * 20_000, "is larger than 256 KiB"),
    ],
)
def test_an_error_says_where_and_what(tmp_path: Path, text: str | bytes, expected: str) -> None:
    message = refusal(tmp_path, text)

    assert expected in message
    assert "pydantic" not in message


def test_all_problems_come_at_once_in_order_of_their_lines(tmp_path: Path) -> None:
    text = GOOD.replace("type: qdrant", "type: oracle") + "tranfer: {}\nmapping: {drop: 1}\n"

    lines = [int(line.split(":")[1]) for line in refusal(tmp_path, text).splitlines()]

    assert lines == [2, 9, 10]


def test_weaviate_has_options_of_its_own(tmp_path: Path) -> None:
    source = "source:\n  type: weaviate\n  url: http://localhost\n  collection: things\n  options:\n"
    given = "    {grpc_url: 'http://localhost:50051', activate_tenants: true, read_consistency: ALL, ca_file: ca.pem}\n"

    options = load(tmp_path, source + given + TARGET).source.options.model_dump()

    assert (options["activate_tenants"], options["read_consistency"], options["write_consistency"]) == (
        True,
        "ALL",
        "QUORUM",
    )
    for wrong in ("read_consistency: all", "activate_tenants: 1", "grpc_url: 'http://u:p@h'", "replication_factor: 0"):
        assert wrong.split(":")[0] in refusal(tmp_path, f"{source}    {{{wrong}}}\n{TARGET}")
    assert "path" in refusal(tmp_path, source.replace("url: http://localhost", "path: there") + "    {}\n" + TARGET)


@pytest.mark.parametrize(
    "place",
    [
        SOURCE + "  api_key: {secret}\n" + TARGET,
        SOURCE + "  options: {{token: '{secret}'}}\n" + TARGET,
        SOURCE + "  options: {{headers: {{authorization: '{secret}'}}}}\n" + TARGET,
        SOURCE + "  api_key_env: '{secret}'\n" + TARGET,
        SOURCE + "  options: {{grpc_url: 'http://u:{secret}@h'}}\n" + TARGET,
        GOOD.replace("http://localhost:6333", "http://u:{secret}@h:6333"),
        GOOD.replace("http://localhost:6333", "http://h:6333/?api_key={secret}"),
        GOOD + "journal: {{url: 'postgresql+psycopg2://u:{secret}@h/db'}}",
        GOOD + "journal: {{url: 'postgresql://h/db?password={secret}'}}",
    ],
)
@pytest.mark.parametrize("secret", ["pcsk_2abcDEF_x9", "eyJhbGci.eyJzdWIi.c2ln", "0123456789abcdef0123456789abcdef"])
def test_a_key_in_the_file_is_refused_and_not_repeated(tmp_path: Path, place: str, secret: str) -> None:
    message = refusal(tmp_path, place.format(secret=secret))

    assert secret not in message
    assert "api_key_env" in message or "url_env" in message or "NAME of the environment variable" in message


def test_the_name_of_a_variable_is_no_key_and_its_absence_is_named(tmp_path: Path) -> None:
    migration = load(tmp_path, SOURCE + "  api_key_env: QDRANT_API_KEY\n" + TARGET)

    with pytest.raises(MissingSecret, match="'QDRANT_API_KEY' is not set"):
        migration.source.endpoint({})
    secret = migration.source.endpoint({"QDRANT_API_KEY": "k"}).api_key
    assert secret is not None
    assert secret.get_secret_value() == "k"


def test_a_link_leads_to_the_same_place_and_two_databases_of_a_server_are_two(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    text = "source: {{type: milvus, {0}, collection: c}}\ntarget: {{type: milvus, {1}, collection: c}}"

    assert "are the same" in refusal(tmp_path, text.format("path: folder", "path: link"))
    there = "url: http://h, options: {{database: {0}}}"
    assert "are the same" in refusal(tmp_path, text.format(there.format("a"), there.format("a")))
    assert load(tmp_path, text.format(there.format("a"), there.format("b"))).source.place[0] == "milvus"


@pytest.mark.parametrize(("url", "same"), [("http://h:19530", True), ("http://h:80", False), ("https://h:443", False)])
def test_an_address_without_a_port_has_that_of_its_database(tmp_path: Path, url: str, same: bool) -> None:
    text = (
        f"source: {{type: milvus, url: http://h, collection: c}}\ntarget: {{type: milvus, url: '{url}', collection: c}}"
    )

    if same:
        assert "are the same" in refusal(tmp_path, text)
    else:
        assert load(tmp_path, text).target.url == url


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://u:hush@h:6334", "user info"),
        ("http://u@h:6334", "user info"),
        ("http://h:6334/?api_key=hush", "key in its query"),
        ("h:6334", "give an address"),
        ("http://h:99999", "not an address"),
    ],
)
def test_a_grpc_address_holds_no_secret(url: str, reason: str) -> None:
    """Also where it does not come out of a file: flags and Dagster's interface."""
    with pytest.raises(ValidationError) as error:
        QdrantOptions(grpc_url=url)

    assert reason in str(error.value)
    assert "hush" not in str(error.value)


@pytest.mark.parametrize(
    ("source", "target", "same"),
    [
        ("url: http://localhost:6333", "url: http://127.0.0.1:6333/", True),
        ("url: https://DB.example", "url: https://db.example:6333", True),
        ("url: https://DB.example", "url: https://db.example:443", False),
        ("url: http://h", "url: http://h:6333", True),
        ("url: http://h", "url: http://h:80", False),
        ("path: ./x", "path: y/../x/", True),
        ("url: http://localhost:6333", "url: http://localhost:6334", False),
        ("url: http://h/a", "url: http://h/b", False),
        ("path: x", "path: y", False),
    ],
)
def test_source_and_target_must_be_two_places(tmp_path: Path, source: str, target: str, same: bool) -> None:
    text = f"source: {{type: qdrant, {source}, collection: c}}\ntarget: {{type: qdrant, {target}, collection: c}}"

    if same:
        assert "source and target are the same qdrant collection 'c'" in refusal(tmp_path, text)
        text = text.replace("collection: c}\n", "collection: d}\n")
    assert load(tmp_path, text).target.collection == "c"


@pytest.mark.parametrize("name", ["class.yaml", "type.yaml", "_x.yaml", "a b.yaml", "x" * 65 + ".yaml", "ä.yaml"])
def test_names_that_cannot_be_ids_are_refused(tmp_path: Path, name: str) -> None:
    assert "id" in refusal(tmp_path, GOOD, name)


def test_what_is_not_a_readable_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    os.mkfifo(tmp_path / "pipe.yaml")
    for name, words in (("folder.yaml", "a file is needed"), ("pipe.yaml", "a file is needed"), ("n.yaml", "no file")):
        with pytest.raises(ConfigurationError, match=words):
            load_migration(tmp_path / name)
    assert "must end in '.yaml'" in refusal(tmp_path, GOOD, "m.yml")


########
# Properties
########

WORDS = st.sampled_from(
    [
        *(
            "source:",
            "target:",
            "transfer:",
            "type: qdrant",
            "type: milvus",
            "path: x",
            "url: http://h",
            "collection: c",
        ),
        *(
            "options: {timeout_s: 1}",
            "scopes: [a]",
            "mapping:",
            "rename: {a: b}",
            "allow: [x]",
            "- ",
            "? ",
            "!!binary ",
            "&a ",
        ),
        *(
            "*a",
            "<<: 1",
            "'",
            '"',
            "|",
            ">",
            "{",
            "}",
            "[",
            "]",
            "\n",
            "\n  ",
            "\t",
            ": ",
            "#",
            "%YAML 1.1\n---\n",
            "0x_",
            "1e5",
        ),
    ]
)
TEXTS = st.one_of(st.text(), st.lists(WORDS, max_size=30).map("".join), st.lists(WORDS, max_size=30).map("\n".join))


def outcome(text: str) -> str:
    """The id of the migration, or "refused" if the error names the file as errors do."""
    try:
        return parse_migration(text, Path("/m/m.yaml")).id
    except ConfigurationError as error:
        return "refused" if all(line.startswith("/m/m.yaml:") for line in str(error).splitlines()) else str(error)


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(TEXTS)
def test_any_text_is_a_migration_or_an_error_of_ours(text: str) -> None:
    assert outcome(text) in {"m", "refused"}


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_any_bytes_are_a_migration_or_an_error_of_ours(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "m.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigurationError):
        load_migration(file)


ANY = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=5,
)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([("source",), ("source", "options"), ("source", "scopes"), ("mapping", "ids"), ("transfer",)]), ANY
)
def test_any_value_anywhere_is_accepted_or_an_error_of_ours(path: tuple[str, ...], value: object) -> None:
    data: dict[str, object] = yaml.safe_load(GOOD)
    inner = data
    for key in path[:-1]:
        inner = inner.setdefault(key, {})  # type: ignore[assignment]
    inner[path[-1]] = value

    assert outcome(yaml.safe_dump(data, allow_unicode=True)) in {"m", "refused"}


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", fullmatch=True))
def test_a_job_name_is_a_name_for_dagster(id: str) -> None:
    assert len(job_name(id)) == len(id)
    assert job_name(id).replace("_", "a").isalnum()
