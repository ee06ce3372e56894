"""Compaction changes no row, can be killed at any instant, and is never seen half done."""

import itertools
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from jepascore_core import allowed, store
from jepascore_core.__main__ import app
from jepascore_core.errors import RunError
from jepascore_core.files import read_json, write_json
from jepascore_core.locks import hold_briefly
from jepascore_core.processes import HOST, identity
from jepascore_core.runner import Hooks, score_work
from jepascore_core.store import compacting, database, journal, part_writer, parts
from jepascore_core.store.compacting import compact
from jepascore_core.store.repairing import repair
from jepascore_core.store.run_folder import finish_compaction
from jepascore_core.store.verifying import verify
from tests.runs_made import made_run
from tests.tiny import TinyDataset, tiny_work

N, PART, LARGE = 60, 4, 20
KILLS = 10


class Killed(BaseException):
    pass


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """A run of 60 images in fifteen parts."""
    rng = np.random.default_rng(0)
    run = made_run(tmp_path_factory.mktemp("runs"), rng.normal(size=(N, 3)), np.arange(N) % 3, rng.normal(size=N))
    (whole,) = parts.part_files(run.path)
    table = pq.read_table(whole)
    whole.unlink()
    for number in range(N // PART):
        part_writer.write_table(run.path, number + 1, table.slice(number * PART, PART))
    return run.path


@pytest.fixture
def copy(small, tmp_path) -> Path:
    return shutil.copytree(small, tmp_path / "runs" / small.name)


def rows(folder: Path) -> pa.Table:
    """Every row in the order of reading, and nothing of the store but the list of parts."""
    return pa.concat_tables([pq.ParquetFile(path).read() for path in parts.part_files(folder)])


def keys(folder: Path) -> list[str]:
    return database.query_arrow(folder, 'SELECT "key" FROM rows')["key"].to_pylist()


def test_rows_stay_as_they_are(copy, small):
    told = []
    came_to = compact(copy, part_rows=LARGE, on_progress=lambda *counts: told.append(counts))
    assert (came_to.before, came_to.after, came_to.rows) == (15, 3, N)
    assert told == [(5, 15), (10, 15), (15, 15)]
    assert rows(copy).equals(rows(small)) and keys(copy) == keys(small)
    assert verify(copy).sound
    assert len(list(copy.glob("part-*"))) == 3 and not list(copy.glob(".*.tmp"))
    assert store.counts(store.open_run(copy)) == store.counts(store.open_run(small))
    pd.testing.assert_frame_equal(
        store.extremes(store.open_run(copy), 7), store.extremes(store.open_run(small), 7), check_exact=True
    )


def test_a_second_compaction_has_nothing_to_do(copy):
    compact(copy, part_rows=LARGE)
    before = {path.name: path.stat().st_mtime_ns for path in parts.part_files(copy)}
    assert compact(copy, part_rows=LARGE).after == 3
    assert {path.name: path.stat().st_mtime_ns for path in parts.part_files(copy)} == before


def test_compacted_parts_are_compacted_again_in_order(copy, small):
    for part_rows in (8, LARGE, 1000):
        compact(copy, part_rows=part_rows)
        assert rows(copy).equals(rows(small))
    (name,) = [path.name for path in parts.part_files(copy)]
    assert len(name) < 45  # names do not grow


def test_row_groups_are_of_the_usual_size(copy, monkeypatch):
    monkeypatch.setattr(part_writer, "_ROW_GROUP", 16)
    compact(copy)
    (part,) = parts.part_files(copy)
    meta = pq.read_metadata(part)
    assert [meta.row_group(number).num_rows for number in range(meta.num_row_groups)] == [16] * 3 + [12]
    assert all(meta.row_group(0).column(leaf).statistics is not None for leaf in (0, 6))


def test_scoring_goes_on_after_a_compaction(tmp_path, monkeypatch):
    monkeypatch.setattr(part_writer, "_PART_ROWS", 6)

    def work():
        return tiny_work(tmp_path, TinyDataset(24, bad=(3,)))

    whole = rows(score_work(work(), Hooks(threading.Event())).path).sort_by("index")
    (run,) = store.list_runs(tmp_path)
    for path in parts.part_files(run.path)[2:]:
        path.unlink()
    compact(run.path)
    again = score_work(work(), Hooks(threading.Event()))
    assert again.progress().state == "done" and verify(again.path).sound
    assert rows(again.path).sort_by("index")["key"].equals(whole["key"])


STEPS = ("written", "checked", "journal", "renamed", *(f"removed {number}" for number in (1, 5)), "emptied")


def die_at(step: str, patch: pytest.MonkeyPatch) -> None:
    """Die right after a step of the first new part."""
    writes, unlinks = itertools.count(1), itertools.count(1)
    write_groups, problem_of, write, unlink, replace = (
        compacting.write_groups, parts.problem_of, journal.write, Path.unlink, Path.replace,
    )  # fmt: skip

    def dying(function, name, number=lambda *_: True):
        def call(*arguments, **options):
            answer = function(*arguments, **options)
            if step == name and number(*arguments):
                raise Killed
            return answer

        return call

    patch.setattr(compacting, "write_groups", dying(write_groups, "written"))
    if step == "checked":
        patch.setattr(parts, "problem_of", dying(problem_of, "checked", lambda path: path.name.endswith(".tmp")))
    patch.setattr(journal, "write", lambda *a: dying(write, ("journal", "emptied")[next(writes) - 1])(*a))
    patch.setattr(Path, "replace", dying(replace, "renamed", lambda a, b: "-c" in b.name))
    if step.startswith("removed"):

        def counted(path, **options):
            unlink(path, **options)
            if path.suffix == ".parquet" and next(unlinks) == int(step.split()[1]):
                raise Killed

        patch.setattr(Path, "unlink", counted)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("then", ["compact", "resume", "repair"])
def test_killed_after_each_step(copy, small, monkeypatch, step, then):
    with monkeypatch.context() as patch:
        die_at(step, patch)
        with pytest.raises(Killed):
            compact(copy, part_rows=LARGE)
    assert rows(copy).equals(rows(small)) and keys(copy) == keys(small)  # each row once, whatever lies about
    interrupted = step in ("journal", "renamed") or step.startswith("removed")
    assert bool(journal.parse(journal.read_bytes(copy)).part) == interrupted
    assert verify(copy).sound != interrupted
    left = len(list(copy.glob("part-*")))
    if then == "compact":
        compact(copy, part_rows=LARGE)
        assert len(list(copy.glob("part-*"))) == 3
    elif then == "resume":
        from jepascore_core.store.run_folder import prepare

        assert len(prepare(copy, {})) == N
        assert len(list(copy.glob("part-*"))) <= left
    else:
        assert any("compaction" in deed for deed in repair(copy)) == interrupted
    assert rows(copy).equals(rows(small)) and verify(copy).sound


def test_a_new_part_that_is_damaged_gives_way_to_the_old_ones(copy, small, monkeypatch):
    with monkeypatch.context() as patch:
        die_at("renamed", patch)
        with pytest.raises(Killed):
            compact(copy, part_rows=LARGE)
    new = copy / journal.parse(journal.read_bytes(copy)).part
    new.write_bytes(new.read_bytes()[:100])
    assert finish_compaction(copy) == 5
    assert rows(copy).equals(rows(small)) and (copy / f"{new.name}.damaged").exists()


@pytest.mark.parametrize(
    "garbage", [b"{", b"[]", b"null", b'{"part": 3, "supersedes": []}', b"\xff", b"[" * 9000,
                b'{"part": "../part-1.parquet", "supersedes": []}', b'{"part": "", "supersedes": ["run.json"]}']
)  # fmt: skip
def test_a_garbage_journal(copy, small, garbage):
    (copy / journal.FILE_NAME).write_bytes(garbage)
    assert rows(copy).equals(rows(small))
    assert [wrong.subject for wrong in verify(copy).wrong] == [journal.FILE_NAME]
    repair(copy)
    assert verify(copy).sound and rows(copy).equals(rows(small))


def test_a_damaged_part_is_never_compacted_away(copy):
    path = parts.part_files(copy)[9]
    data = path.read_bytes()
    column = pq.read_metadata(path).row_group(0).column(11)
    at = column.data_page_offset + column.total_compressed_size // 2
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])  # in a thumbnail: only its checksum tells
    with pytest.raises(RunError, match=f"{path.name} is damaged; run `verify --repair`"):
        compact(copy, part_rows=LARGE)
    assert path.exists() and not list(copy.glob(".*.tmp"))
    with pytest.raises(RunError, match="is damaged"):
        compact(copy, part_rows=LARGE)


def test_a_full_disk_changes_nothing(copy, small, monkeypatch):
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(compacting, "write_groups", full)
    with pytest.raises(RunError, match="No space left"):
        compact(copy)
    assert rows(copy).equals(rows(small)) and verify(copy).sound


def test_a_run_at_work_is_refused(copy):
    with hold_briefly(copy / ".lock"), pytest.raises(RunError, match="Another process is at work"):
        compact(copy)
    life = {"host": HOST, "pid": os.getpid(), "process": identity(os.getpid())}
    write_json(copy / "progress.json", {**read_json(copy / "progress.json"), "state": "running", **life})
    with pytest.raises(RunError, match="compact it when that has ended"):
        compact(copy)
    assert len(parts.part_files(copy)) == 15


def test_visitors_cannot_compact(copy, monkeypatch):
    monkeypatch.setenv(allowed.READ_ONLY, "1")
    with pytest.raises(RunError, match="read-only"):
        compact(copy)


def test_stopped_between_two_parts(copy, small):
    stop = threading.Event()
    compact(copy, part_rows=LARGE, stop=stop, on_progress=lambda *_: stop.set())
    assert len(parts.part_files(copy)) == 11 and rows(copy).equals(rows(small)) and verify(copy).sound


def test_read_at_every_instant(copy, small, monkeypatch):
    """Readers in other threads, through every layer, while parts come and go without a pause."""
    expected, wrong, looks = keys(small), [], itertools.count()
    done = threading.Event()
    monkeypatch.setattr(parts, "_TRUSTED_S", -1.0)

    def look(read, right):
        while not done.is_set():
            next(looks)
            if (got := read()) != right:
                wrong.append((read, got))

    def streamed():
        return [key for batch in database.query_batches(copy, 'SELECT "key" FROM rows') for key in batch[0].to_pylist()]

    readers = [
        (lambda: keys(copy), expected),
        (streamed, expected),
        (lambda: parts.count_rows(copy), (N, 0)),
        (lambda: parts.damaged_parts(copy), {}),
    ]
    threads = [threading.Thread(target=look, args=reader) for reader in readers]
    for thread in threads:
        thread.start()
    for part_rows in range(2 * PART, N + PART, PART):
        compact(copy, part_rows=part_rows)
    done.set()
    for thread in threads:
        thread.join()
    assert not wrong and next(looks) > 20
    assert rows(copy).equals(rows(small))


def test_a_listing_in_the_midst_of_a_change_is_done_again(copy, small, monkeypatch):
    """The worst instant: the folder is listed in part before a change and in part after it."""
    names = sorted(entry.name for entry in os.scandir(copy))
    scandir, calls = os.scandir, itertools.count()

    def torn(folder):
        if next(calls) == 0:
            compact(copy, part_rows=1000)
            return [entry for entry in scandir(small) if entry.name in names[:9]]
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", torn)
    listed = parts.part_files(copy)
    assert len(listed) == 1 and pq.read_metadata(listed[0]).num_rows == N


def test_a_stream_whose_parts_vanish_ends_in_a_sentence(copy, monkeypatch):
    monkeypatch.setattr(database, "_BATCH_ROWS", 4)
    stream = database.query_batches(copy, 'SELECT "key", thumbnail FROM rows')
    next(stream)
    for path in parts.part_files(copy):
        path.unlink()
    try:
        read = sum(map(len, stream))
        assert read == N - 4  # they were open already
    except RunError as error:
        assert "were moved or compacted while they were read; ask again" in str(error)


context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload([__name__])


def child(folder: Path, part_rows: int, said) -> None:
    said.send("ready")
    compact(folder, part_rows=part_rows)


@pytest.mark.slow
def test_killed_at_random_instants(copy, small):
    """SIGKILL, as the system sends it: after each, every row is there once, and the next compaction goes on."""
    seed = time.time_ns()
    dice, killed = random.Random(seed), 0
    sizes = itertools.cycle(range(2 * PART, N + PART, PART))
    for _ in range(KILLS):
        heard, said = context.Pipe(duplex=False)
        process = context.Process(target=child, args=(copy, next(sizes), said))
        process.start()
        heard.recv()
        time.sleep(dice.uniform(0, 0.06))
        process.kill()
        process.join(60)
        killed += process.exitcode == -signal.SIGKILL
        assert rows(copy).equals(rows(small)) and keys(copy) == keys(small), seed
    assert killed > KILLS // 4
    assert compact(copy, part_rows=1000).after == 1
    assert rows(copy).equals(rows(small)) and verify(copy).sound and len(list(copy.glob("part-*"))) == 1


def test_the_command(copy):
    result = CliRunner().invoke(app, ["compact", str(copy)])
    assert result.exit_code == 0 and f"{copy.name}: 15 parts before, 1 now, {N} rows" in result.stdout
    (copy / parts.part_files(copy)[0].name).write_bytes(b"")
    command = [sys.executable, "-m", "jepascore_core", "compact", str(copy)]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 1 and "verify --repair" in refused.stderr and "Traceback" not in refused.stderr
    assert json.loads((copy / journal.FILE_NAME).read_text())["part"] == ""
