"""Checks what the command answers to sources, targets and files that are not as they should be.

Each error is one line that names the thing, comes before anything is written, and has the documented exit code.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from vectormigrate_dagster import databases
from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.defs.home import open_home
from vectormigrate_dagster.model import Batch, CollectionSchema, Dense, IdColumn, Metric, VectorSchema
from vectormigrate_dagster_tests.collections_of_everything import read_everything
from vectormigrate_dagster_tests.harness import COLLECTION, ID, NOTHING, Records, Workplace, differences, fill, schema

KEY = "k3y-that-nobody-may-see"


def collection(endpoint: Endpoint, made: CollectionSchema) -> None:
    with databases.open_target(endpoint) as database:
        database.create(made)


def error_of(place: Workplace, *words: str, code: int, child: bool = False) -> str:
    """The error line of the command, which ends with `code`, shows no traceback, and is one document with --json.

    Args:
        child: run the command in a process of its own.
    """
    done = (place.run if child else place.call)(*words, "--json")
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    document = json.loads(done.stdout)["error"]
    assert document["exit_code"] == code
    assert f"error: {document['message']}" in done.stderr
    return str(document["message"])


########
# Sources of no, one and no known record
########


@pytest.mark.parametrize(("source", "target"), [("qdrant", "milvus"), ("milvus", "qdrant")])
def test_h02_sources_with_no_record_and_with_one(tmp_path: Path, source: str, target: str) -> None:
    for count in (0, 1):
        endpoint = Endpoint(type=source, path=tmp_path / f"source-{count}", collection=COLLECTION)
        fill(endpoint, Records.of(count))
        place = Workplace.make(tmp_path / str(count), endpoint, target)
        moved = place.call("migrate", ID)
        assert moved.returncode == 0, moved.stderr
        assert differences(place.target, Records.of(count)) == NOTHING
        assert place.call("validate", ID, "--full").returncode == 0
        status = place.status()
        assert (status["status"], status["progress"]["percentage"]) == ("completed", 100.0)


@pytest.mark.parametrize("type", ["qdrant", "milvus"])
@pytest.mark.parametrize("folder_exists", [False, True])
def test_a_source_that_is_not_there(tmp_path: Path, type: str, folder_exists: bool) -> None:
    source = Endpoint(type=type, path=tmp_path / "source", collection="absent")
    if folder_exists:
        collection(Endpoint(type=type, path=source.path, collection="other"), schema(type))
    place = Workplace.make(tmp_path, source, "milvus")
    message = error_of(place, "migrate", ID, code=3)
    assert "'absent'" in message or not folder_exists
    assert str(source.path) in message
    assert not (tmp_path / "target.db").exists()
    assert folder_exists or not (tmp_path / "source").exists()


########
# Targets that do not fit
########


def test_a_target_that_is_not_empty(place: Workplace) -> None:
    fill(place.target, Records.of(5))
    before = read_everything(place.target)
    for verb in ("plan", "migrate"):
        message = error_of(place, verb, ID, code=2)
        assert message.startswith(f"collection '{COLLECTION}' in the target holds 5 records; set transfer.on_conflict")
    assert read_everything(place.target) == before


@pytest.mark.parametrize(
    ("vector", "told"),
    [
        (VectorSchema(name="embedding", dim=7, metric=Metric.EUCLIDEAN), "'embedding' has dim 7, the source needs 16"),
        (VectorSchema(name="embedding", dim=16, metric=Metric.DOT), "has metric dot, the source needs euclidean"),
        (VectorSchema(name="other", dim=16, metric=Metric.EUCLIDEAN), "it has no vector 'embedding' (it has 'other')"),
    ],
)
def test_a_target_whose_vector_differs(place: Workplace, vector: VectorSchema, told: str) -> None:
    collection(place.target, schema(place.target.type).model_copy(update={"vectors": (vector,)}))
    message = error_of(place, "migrate", ID, code=2)
    assert f"collection '{COLLECTION}' in the target does not fit the source" in message
    assert told in message
    assert read_everything(place.target) == {}


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_folder_in_use_by_another_process(tmp_path: Path, place: Workplace, side: str) -> None:
    endpoint = place.target if side == "target" else Endpoint(type="milvus", path=tmp_path / "s", collection=COLLECTION)
    fill(endpoint, Records.of(3))
    mine = Workplace.make(tmp_path / "mine", endpoint, "milvus") if side == "source" else place
    path = mine.migrations / f"{ID}.yaml"
    file = yaml.safe_load(path.read_text())
    file[side]["options"] = {"folder_wait_s": 0.2}
    path.write_text(yaml.safe_dump(file))
    with databases.keep_open(endpoint), databases.open_source(endpoint) as held:
        assert held.count() == 3
        message = error_of(mine, "plan", ID, code=3, child=True)
    assert str(endpoint.path) in message
    assert "in use" in message


########
# Files and settings
########


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", ":1: the file is empty"),
        ("source: [", ":1:"),
        ("{GOOD}taget: {}\n", "taget"),
        ("{GOOD}transfer:\n  batch_sise: 3\n", "batch_size"),
        ("{GOOD}transfer:\n  batch_size: many\n", "batch_size"),
        ("{GOOD}transfer:\n  on_conflict: maybe\n", "on_conflict"),
        ("source: {type: chroma, path: ./x, collection: a}\n", "'chroma' is not a database"),
        ("source: {type: qdrant, collection: a}\n", "give exactly one of 'url'"),
        ("{GOOD}source:\n  type: qdrant\n", "source"),
    ],
    ids=range(9),
)
def test_a_malformed_file(place: Workplace, text: str, told: str) -> None:
    path = place.migrations / f"{ID}.yaml"
    place.write()
    path.write_text(text.replace("{GOOD}", path.read_text()))
    message = error_of(place, "migrate", ID, code=2)
    assert f"{path}:" in message
    assert told in message
    assert not (place.folder / "target.db").exists()


def test_a_file_that_is_not_there(place: Workplace) -> None:
    assert "'movign'" in error_of(place, "migrate", "movign", code=2)


def test_one_collection_on_both_sides(tmp_path: Path, small_source: Endpoint) -> None:
    place = Workplace(tmp_path, small_source, small_source)
    place.write()
    assert f"source and target are the same qdrant collection '{COLLECTION}'" in error_of(place, "plan", ID, code=2)


def test_a_variable_that_is_not_set(place: Workplace) -> None:
    secret(place, "VECTORMIGRATE_TEST_UNSET")
    assert "'VECTORMIGRATE_TEST_UNSET' is not set" in error_of(place, "migrate", ID, code=2)


def test_more_workers_than_a_folder_allows(place: Workplace) -> None:
    assert "use 1 worker" in error_of(place, "migrate", ID, "--workers", "2", code=2)
    assert not (place.folder / "target.db").exists()


def test_verbs_that_need_a_plan(place: Workplace) -> None:
    for words in (("validate", ID), ("lookup", ID, "7"), ("stop", ID), ("throttle", ID, "--rate", "5")):
        assert f"'{ID}'" in error_of(place, *words, code=1)


def test_what_is_not_so_is_exit_code_1(place: Workplace) -> None:
    assert place.call("migrate", ID).returncode == 0
    assert place.call("lookup", ID, "7").returncode == 0
    assert place.call("lookup", ID, "999999").returncode == 1
    with databases.open_target(place.target) as database:
        database.delete(IdColumn.of(database.describe().ids.kinds[0], [7]))
    assert place.call("validate", ID, "--full").returncode == 1


def test_h21_records_that_a_target_refuses_are_listed_and_are_no_success(tmp_path: Path) -> None:
    source = Endpoint(type="qdrant", path=tmp_path / "source", collection=COLLECTION)
    fill(source, Records.of(20))
    with databases.open_target(source) as database:
        big = Dense(np.ones((1, 16), dtype=np.float32))
        ids = IdColumn.of(schema("qdrant").ids.kinds[0], [99])
        database.upsert(Batch(ids, None, {"embedding": big}, [{"text": "x" * 70_000}]))
    place = Workplace.make(tmp_path, source, "milvus")
    place.write(mapping={"allow": ["field.text.text_length", "payload.size"]})
    moved = place.run("migrate", ID)
    assert moved.returncode == 1, moved.stdout + moved.stderr
    assert "1 records were refused" in moved.stderr
    (listed,) = [
        json.loads(line)
        for file in (place.home / "vectormigrate" / ID / "refused").iterdir()
        for line in file.read_text().splitlines()
    ]
    assert listed["id"] == "99"
    assert "65535" in listed["reason"] or "65,535" in listed["reason"] or "65536" in listed["reason"]
    assert differences(place.target, Records.of(20)) == NOTHING


########
# Secrets
########


def secret(place: Workplace, variable: str, **source: str) -> None:
    """Make both sides name a variable; the source is a server that is not there, if `source` says so."""
    path = place.migrations / f"{ID}.yaml"
    file = yaml.safe_load(path.read_text())
    file["source"] = {**file["source"], "api_key_env": variable}
    if source:
        del file["source"]["path"]
        file["source"] |= source
    file["target"]["api_key_env"] = variable
    path.write_text(yaml.safe_dump(file))


def stored(home: Path) -> Iterator[tuple[str, bytes]]:
    """Everything that is in a home: files as they are, and every value of every database in it."""
    for file in home.rglob("*"):
        if not file.is_file():
            continue
        yield str(file), file.read_bytes()
        if file.suffix == ".db":
            with sqlite3.connect(file) as connection:
                yield str(file), "\n".join(connection.iterdump()).encode("utf-8", "replace")


@pytest.mark.parametrize("fails", [False, True])
def test_h30_a_key_is_in_no_log_event_run_tag_config_or_output(
    place: Workplace, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    monkeypatch.setenv("VECTORMIGRATE_TEST_KEY", KEY)
    address = {"url": "http://127.0.0.1:9"} if fails else {}
    secret(place, "VECTORMIGRATE_TEST_KEY", **address)
    outputs = []
    for words in (
        ("plan", ID),
        ("migrate", ID, "--max-retries", "0"),
        ("validate", ID),
        ("status", ID),
        ("lookup", ID, "7"),
    ):
        for form in ((), ("--json",), ("--verbose",)) if words[0] == "migrate" else (("--json",),):
            done = place.run(*words, *form)
            assert (done.returncode != 0) == (fails and words[0] != "status"), done.stderr
            outputs.append(done.stdout + done.stderr)
    assert all(KEY not in output for output in outputs)
    with open_home(place.home) as instance:
        runs = instance.get_runs()
        assert runs
        for run in runs:
            told = [run.run_config, run.tags, [entry.to_json() for entry in instance.all_logs(run.run_id)]]
            assert KEY not in json.dumps(told, default=repr)
            assert "VECTORMIGRATE_TEST_KEY" in json.dumps(told, default=repr) or not run.run_config.get("resources")
    contents = list(stored(place.home))
    assert any(b"vectormigrate/migration" in content for _, content in contents)
    assert [name for name, content in contents if KEY.encode() in content] == []
