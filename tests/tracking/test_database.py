"""The SQLite file of a store: made whole under a lock, also if processes are killed, and refused if it is broken."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from einthoven.atomic import PARTIAL
from einthoven.errors import UserError
from einthoven.tracking import database
from einthoven.tracking.server import client, connect, experiment_id, reach
from full_disk import full_disk

KILLED_BETWEEN_TABLES = """
import os, signal, sys
import mlflow.store.db.utils as utils
from einthoven.tracking.server import connect

utils._upgrade_db = lambda engine: os.kill(os.getpid(), signal.SIGKILL)
connect(sys.argv[1])
"""


def test_a_process_that_is_killed_between_two_tables_leaves_no_half_made_store(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    killed = subprocess.run([sys.executable, "-c", KILLED_BETWEEN_TABLES, uri], check=False, capture_output=True)
    assert killed.returncode == -9, killed.stderr
    (left,) = tmp_path.glob(f"{PARTIAL}*")
    assert (left / "content" / "mlflow.db").exists()
    assert not (tmp_path / "mlflow.db").exists()

    assert client(uri).search_experiments()
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


def test_an_interrupted_attempt_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(file: Path, *_: object) -> None:
        sqlite3.connect(file).execute("create table experiments (a)")
        raise KeyboardInterrupt

    monkeypatch.setattr(database, "_make_tables", interrupted)
    with pytest.raises(KeyboardInterrupt):
        connect(f"sqlite:///{tmp_path}/mlflow.db")
    assert list(tmp_path.iterdir()) == []


def test_whoever_waits_for_the_lock_takes_the_file_that_was_made_in_the_meantime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mlflow.db"
    sizes = iter([False, True])
    # The first look finds no file, the look under the lock finds that of another process.
    monkeypatch.setattr(database, "_has_content", lambda path: next(sizes))
    monkeypatch.setattr(database, "_make_tables", lambda path: pytest.fail("the store was made twice"))
    database.make_database(f"sqlite:///{file}")


def test_two_runs_may_create_one_experiment_at_once(tmp_path: Path, mlflow_db: Path) -> None:
    shutil.copy(mlflow_db, tmp_path / "mlflow.db")
    one = connect(f"sqlite:///{tmp_path}/mlflow.db")
    first = experiment_id(one, "raced")
    answers = iter([None, one.get_experiment(first)])
    # The other run created the experiment behind our first look.
    one.get_experiment_by_name = lambda name: next(answers)  # type: ignore[method-assign]
    assert experiment_id(one, "raced") == first


def test_a_relative_address_means_another_store_in_another_working_folder(
    tmp_path: Path, mlflow_db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locations = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        shutil.copy(mlflow_db, tmp_path / name)
        monkeypatch.chdir(tmp_path / name)
        one = connect("sqlite:///mlflow.db")
        experiment = one.get_experiment(one.create_experiment("new"))
        locations.append(experiment.artifact_location)
    assert locations == [str(tmp_path / name / "mlruns" / "1") for name in ("first", "second")]


def test_a_new_file_at_the_address_of_a_deleted_one_is_not_mixed_with_it(tmp_path: Path, mlflow_db: Path) -> None:
    file = shutil.copy(mlflow_db, tmp_path / "mlflow.db")
    uri = f"sqlite:///{file}"
    old = connect(uri)
    old.create_experiment("in the deleted file")
    engine = SqlAlchemyStore._engine_map[uri]
    # MLflow keeps the connections of several threads.
    for connection in [engine.connect() for _ in range(3)]:
        connection.close()
    file.rename(tmp_path / "lost.db")
    new = connect(uri)
    names = [[experiment.name for experiment in new.search_experiments()] for _ in range(4)]
    assert names == [["Default"]] * 4


@pytest.mark.parametrize("pages", [1, 3, 40])
def test_a_damaged_database_is_one_sentence_with_its_cure(tmp_path: Path, mlflow_db: Path, pages: int) -> None:
    content = mlflow_db.read_bytes()
    (tmp_path / "mlflow.db").write_bytes(content[: pages * 4096].ljust(len(content), b"\0"))
    with pytest.raises(UserError, match=r"tracking\.uri=.*broken.*move it away.*sync"):
        client(f"sqlite:///{tmp_path}/mlflow.db")


def test_a_database_without_all_its_tables_is_one_sentence_with_its_cure(tmp_path: Path) -> None:
    file = tmp_path / "mlflow.db"
    with sqlite3.connect(file) as half_made:
        half_made.execute("create table experiments (experiment_id integer)")
        half_made.execute("create table runs (run_uuid text)")
    with pytest.raises(UserError, match=r"broken \(its tables are not complete\) and has no run"):
        reach(f"sqlite:///{file}")


def test_the_database_of_another_program_stays_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "shop.db"
    with sqlite3.connect(file) as shop:
        shop.execute("create table orders (number integer)")
    content = file.read_bytes()
    with pytest.raises(UserError, match="another program, with the table orders"):
        client(f"sqlite:///{file}")
    assert file.read_bytes() == content


def test_a_migration_that_was_stopped_is_told_from_another_version(tmp_path: Path, mlflow_db: Path) -> None:
    for number, (rows, sentence) in enumerate(((0, "not complete"), (1, "another version of MLflow.*db upgrade"))):
        file = tmp_path / f"{number}.db"
        shutil.copy(mlflow_db, file)
        with sqlite3.connect(file) as store:
            store.execute("update alembic_version set version_num = '451aebb31d03'")
            store.execute("delete from runs")
            if rows:
                store.execute("insert into runs (run_uuid, experiment_id, lifecycle_stage) values ('a', 0, 'active')")
        with pytest.raises(UserError, match=sentence):
            client(f"sqlite:///{file}")


def test_a_store_on_a_full_disk_is_one_sentence_that_names_it(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    with pytest.raises(UserError, match=rf"tracking.uri={uri}: cannot be written \(.*room on its disk"), full_disk():
        connect(uri)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("locked", [".", "mlflow.db"])
def test_a_store_that_may_not_be_written_is_refused_at_once(
    tmp_path: Path, mlflow_db: Path, monkeypatch: pytest.MonkeyPatch, locked: str
) -> None:
    shutil.copy(mlflow_db, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    database.require_writable(uri)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path / locked)
    with pytest.raises(UserError, match=rf"this user may not write {tmp_path / locked}\).*tracking.offline=true"):
        database.require_writable(uri)
