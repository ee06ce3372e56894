"""Faults of disk, rights, clock, memory and files, each on a real run of the real command line.

After each: what was said is one sentence, what is whole can be read, what is damaged is named, and the same request
ends with the rows of a run that nothing happened to. A function is one fault; it gives the sentence that a person would
have read, and raises where a promise is broken.
"""

import json
import math
import os
import random
import re
import shutil
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from jepascore_core import jobs, store
from jepascore_core.datasets import load_dataset
from jepascore_core.runner.planning import plan
from jepascore_core.store import parts
from jepascore_core.store.request import RunRequest
from tests.chaos import surroundings
from tests.chaos.dashboards import Dashboard
from tests.chaos.outcome import Outcome
from tests.chaos.scene import PHOTOGRAPHS, Scene, limited, photographs_in, same_bytes_or_values, unbroken_in
from tests.chaos.surroundings import Unavailable, bound_by_permissions, many_parts, slowly
from tests.chaos.trials import home_at, tried
from tests.children import wait_for


def campaign(trials: int = 120, seed: int = 0, work: Path = Path("chaos")) -> list[Outcome]:
    """Every fault once, then those that differ from time to time again, in turn.

    Args:
        trials: How many; fewer do without the last of the faults.
        seed: Of what the faults leave open.
        work: A folder for the runs.

    Returns:
        One outcome for each trial.
    """
    dice = random.Random(seed)
    with home_at(work):
        photographs = photographs_in(work / "photographs")
        unbroken = unbroken_in(work / "unbroken", photographs)
        again = [RANDOM[number % len(RANDOM)] for number in range(max(0, trials - len(FAULTS)))]
        return [
            befallen(fault, Scene(work / f"fault-{number}", photographs, unbroken, dice))
            for number, fault in enumerate([*FAULTS[:trials], *again])
        ]


def befallen(fault: Callable[[Scene], str], scene: Scene) -> Outcome:
    """One trial."""
    scene.folder.mkdir(parents=True)

    def both() -> tuple[str, float | None]:
        words = fault(scene)
        return words, scene.memory_mb

    return tried("faults", fault.__name__.replace("_", " "), both)


# the disk


def disk_full(scene: Scene) -> str:
    """The disk is full at some byte of some file; later there is room."""
    try:
        with surroundings.small_disk(scene.runs, scene.dice.choice((4, 12, 24, 40, 64, 100, 140))):
            words = scene.command(*scene.scoring(), before=[many_parts]).refused("No space left on device")
            for run in store.list_runs(scene.runs):
                assert run.progress().state in ("failed", "interrupted", "queued"), run.progress()
                assert_rows_are_right(scene)
            surroundings.enlarge(scene.runs, 20_000)
            scene.scored_again()
            return words
    except Unavailable as reason:
        return f"{a_file_that_cannot_grow(scene)} (no small disk: {reason})"


def a_file_that_cannot_grow(scene: Scene) -> str:
    """The system refuses to make a file longer."""
    limit = partial(surroundings.small_files, scene.dice.randint(6, 16) * 1000)
    words = scene.command(*scene.scoring(), before=[many_parts, limit]).refused("Cannot write in")
    assert_rows_are_right(scene)
    scene.scored_again()
    return words


def read_only_folder(scene: Scene) -> str:
    """A finished and an unfinished run on a disk that cannot be written."""
    run = scene.copy()
    parts.part_files(run.path)[0].unlink()
    try:
        with surroundings.read_only(scene.runs):
            words = scene.command(*scene.scoring()).refused("Read-only file system")
            assert_rows_are_right(scene)
            scene.command("show", run.name).done()
            scene.command("runs").done()
            scene.verified()
            scene.command("verify", run.path, "--repair")
            scene.command("tags", run.name)
    except Unavailable as reason:
        return f"not tried: {reason}"
    scene.scored_again()
    return words


def no_permission_to_write(scene: Scene) -> str:
    """The run's folder, or the runs folder, belongs to somebody else."""
    run = scene.copy()
    parts.part_files(run.path)[0].unlink()
    locked = scene.dice.choice((run.path, scene.runs))
    if locked == scene.runs:
        shutil.rmtree(run.path)
    with mode_of(locked, 0o500):
        words = scene.command(*scene.scoring(), before=[bound_by_permissions]).refused("Permission denied")
        scene.command("runs", before=[bound_by_permissions]).done()
    scene.scored_again()
    return words


def no_permission_to_read(scene: Scene) -> str:
    """One part cannot be opened; the rest can."""
    run = scene.copy()
    path = scene.dice.choice(parts.part_files(run.path))
    with mode_of(path, 0o000):
        ended = scene.command("runs", "--json", before=[bound_by_permissions]).done()
        (listed,) = json.loads(ended.out)
        assert path.name in listed["problem"] and "cannot be opened" in listed["problem"], listed["problem"]
        assert listed["done"] == PHOTOGRAPHS - pq.read_metadata(path).num_rows, listed
        scene.command("show", run.name, before=[bound_by_permissions]).done()
        scene.command(*scene.scoring(), before=[bound_by_permissions]).refused("cannot be opened")
    scene.scored_again()
    return listed["problem"]


def no_permission_to_list(scene: Scene) -> str:
    """The runs folder cannot be read at all."""
    scene.copy()
    with mode_of(scene.runs, 0o000):
        ended = scene.command("runs", before=[bound_by_permissions])
    assert ended.code and "not readable" in ended.err, ended
    scene.whole()
    return "the runs folder is not readable"


def images_without_permission(scene: Scene) -> str:
    """Some images cannot be opened: they are named, the others scored."""
    scene.photographs = photographs_in(scene.folder / "photographs", 12)
    locked = sorted(scene.photographs.glob("*/*.jpg"))[:3]
    for path in locked:
        path.chmod(0o000)
    scene.command(*scene.scoring(), before=[bound_by_permissions]).done()
    failures = store.failures(scene.run())
    assert sorted(failures["key"]) == [str(path.relative_to(scene.photographs)) for path in locked], failures
    return failures["error"].iloc[0]


# the clock


def clock_set_back(scene: Scene) -> str:
    """The clock goes back an hour, then a year, in the midst of a run."""
    command = scene.start(*scene.scoring(), before=[slowly, surroundings.clock_set_back])
    states = set()
    while command.running:
        for run in store.list_runs(scene.runs):
            progress = run.progress()
            states.add(progress.state)
            assert (progress.eta_s or 0) >= 0 and (progress.images_per_s or 1) > 0, progress
            assert progress.state in ("queued", "waiting", "running", "done"), progress
        time.sleep(0.05)
    scene.ended(command).done()
    assert "running" in states, states
    progress = scene.run().progress()
    assert all(seconds >= 0 for seconds in progress.stages.values()), progress.stages
    scene.whole()
    return f"{progress.done} of {progress.planned} at {progress.images_per_s:.3g} a second"


def files_from_the_future(scene: Scene) -> str:
    """The clock was wrong when the run was made: its files are a year younger than now."""
    run = scene.copy()
    later = time.time() + 4e7
    for path in [*run.path.iterdir(), run.path]:
        os.utime(path, (later, later))
    lost = scene.dice.choice(parts.part_files(run.path))
    lost.unlink()
    os.utime(run.path, (later, later))
    assert len(scene.seen()) == store.counts(run)["done"] < PHOTOGRAPHS
    scene.scored_again()
    return "scored again what was missing"


# damaged parts


def part_cut_off(scene: Scene) -> str:
    """A part ends too early."""
    return damaged(scene, lambda data, dice: data[: dice.randrange(len(data))])


def part_of_zeros(scene: Scene) -> str:
    """A part has its length and nothing else, as after a power cut."""
    return damaged(scene, lambda data, dice: bytearray(len(data)))


def part_with_zeroed_block(scene: Scene) -> str:
    """A block of a disk came back empty."""

    def without(data: bytearray, dice: random.Random) -> bytearray:
        start = dice.randrange(0, len(data), 512)
        data[start : start + 512] = bytes(len(data[start : start + 512]))
        return data

    return damaged(scene, without)


def bit_flipped_in_header(scene: Scene) -> str:
    """One bit among the first four bytes."""
    return damaged(scene, lambda data, dice: flipped(data, dice, 0, 4))


def bit_flipped_in_pages(scene: Scene) -> str:
    """One bit of the rows."""
    return damaged(scene, lambda data, dice: flipped(data, dice, 4, len(data) - 8 - footer_bytes(data)))


def bit_flipped_in_footer(scene: Scene) -> str:
    """One bit of what says where the rows are."""
    return damaged(scene, lambda data, dice: flipped(data, dice, len(data) - 8 - footer_bytes(data), len(data) - 8))


def bit_flipped_in_last_bytes(scene: Scene) -> str:
    """One bit of the footer's length and the mark behind it."""
    return damaged(scene, lambda data, dice: flipped(data, dice, len(data) - 8, len(data)))


def garbage_behind_a_part(scene: Scene) -> str:
    """A part is longer than it was."""
    return damaged(scene, lambda data, dice: data + dice.randbytes(dice.randint(1, 5000)))


def damaged(scene: Scene, damage: Callable[[bytearray, random.Random], bytes]) -> str:
    """Damage one part; the others are read, it is named, and its images are scored again."""
    run = scene.copy()
    path = scene.dice.choice(parts.part_files(run.path))
    pristine = scene.unbroken / run.name / path.name
    path.write_bytes(damage(bytearray(path.read_bytes()), scene.dice))
    scene.command("show", run.name)
    lost = pd.read_parquet(pristine, columns=["key"])["key"].tolist()
    assert_rows_are_right(scene, lost)
    told = scene.verified("--repair")
    named = [words for words in told if path.name in words]
    assert named or same_bytes_or_values(path, pristine), f"the damage is not named: {told}"
    scene.scored_again()
    assert not scene.verified(), "wrong after the repair"
    return named[0] if named else "nothing is lost"


def flipped(data: bytearray, dice: random.Random, start: int, stop: int) -> bytearray:
    """The same bytes with another bit somewhere from ``start`` to ``stop``."""
    data[dice.randrange(start, stop)] ^= 1 << dice.randrange(8)
    return data


def footer_bytes(data: bytearray) -> int:
    """Length of a Parquet file's footer."""
    return int.from_bytes(data[-8:-4], "little")


def part_of_another_version(scene: Scene) -> str:
    """A part that a later version wrote is named, left alone, and the others are read."""
    run = scene.copy()
    path = scene.dice.choice(parts.part_files(run.path))
    table = pq.read_table(path)
    others = (
        table.replace_schema_metadata({"jepascore_format_version": "99"}),
        table.drop_columns(["sphere_term"]),
        table.append_column("more", table["index"]),
    )
    pq.write_table(scene.dice.choice(others), path)
    (listed,) = json.loads(scene.command("runs", "--json").done().out)
    assert path.name in listed["problem"], listed
    assert_rows_are_right(scene, table["key"].to_pylist())
    assert any(path.name in words for words in scene.verified()), "verify does not name it"
    scene.command(*scene.scoring()).refused(path.name, "score into another runs folder")
    assert path.exists()
    return listed["problem"]


# garbage


def garbage_in_run_json(scene: Scene) -> str:
    """The file that says what a run is holds anything."""
    run = scene.copy()
    (run.path / "run.json").write_bytes(garbage(scene.dice))
    (listed,) = json.loads(scene.command("runs", "--json").done().out)
    assert "run.json" in listed["problem"], listed
    scene.command("show", run.name)
    assert_rows_are_right(scene)
    assert any("run.json" in words for words in scene.verified()), "verify does not name it"
    scene.scored_again()
    return listed["problem"]


def garbage_in_progress_json(scene: Scene) -> str:
    """The file that says how far a run is holds anything."""
    run = scene.copy()
    (run.path / "progress.json").write_bytes(garbage(scene.dice))
    (listed,) = json.loads(scene.command("runs", "--json").done().out)
    assert "progress.json" in listed["problem"] and listed["done"] == PHOTOGRAPHS, listed
    scene.command("show", run.name).done()
    assert_rows_are_right(scene)
    assert any("progress.json" in words for words in scene.verified("--repair")), "verify does not name it"
    scene.whole()
    return listed["problem"]


def anything_in_the_json(scene: Scene) -> str:
    """Sound files with one value replaced by another: no command breaks, and no row is lost."""
    run = scene.copy()
    name = scene.dice.choice(("run.json", "progress.json"))
    content = json.loads((run.path / name).read_text())
    where = scene.dice.choice([(), *((key,) for key, value in content.items() if isinstance(value, dict))])
    held: dict[str, Any] = content
    for key in where:
        held = held[key]
    if not held:
        held["new"] = 0
    key = scene.dice.choice(sorted(held))
    held[key] = scene.dice.choice(VALUES)
    (run.path / name).write_text(json.dumps(content))
    for command in ("runs", "show", "verify"):
        scene.command(command, *([] if command == "runs" else [run.path]))
    assert_rows_are_right(scene)
    scene.command(*scene.scoring())
    assert_rows_are_right(scene)
    return f"{name}: {'.'.join((*where, key))}"


VALUES = (
    None, True, -1, 0, 3, 10**30, -(10**400), 1e308, float("nan"), float("-inf"), "", "x" * 100_000, "\0", "\ud800",
    "../..", [], [[]], {}, {"id": {}}, [None] * 1000,
)  # fmt: skip


def garbage(dice: random.Random) -> bytes:
    """Bytes that hold no sound JSON object of ours."""
    return dice.choice(
        (
            b"", b"{", b"[]", b"null", b"true", b"NaN", b"1e999", b'"text"', b"{}", b" " * 100_000,
            dice.randbytes(2000), b"\xff\xfe{\0}\0", b"\xef\xbb\xbf{}", b"[" * 200_000, b'{"a":' * 100_000,
            b"9" * 10_000, b"-" + b"9" * 400,
            b'{"planned": ' + b"9" * 5000 + b"}", b'{"format_version": NaN}', b'{"state": "done"', b'{"encoder": 3}',
            b'{"format_version": 1, "encoder": {}, "dataset": []}', b'{"state": 1}', b'{"state": "done", "done": -1}',
            b'{"state": "running", "done": 1e400}', b'{"state": ["done"]}', b'{"state": {"a": 1}, "pid": "x"}',
        )
    )  # fmt: skip


# others at work


def run_folder_deleted(scene: Scene) -> str:
    """Somebody deletes the run's folder while it is scored."""
    return deleted(scene, lambda: scene.run().path)


def runs_folder_deleted(scene: Scene) -> str:
    """Somebody deletes the whole runs folder while a run is scored."""
    return deleted(scene, lambda: scene.runs)


def deleted(scene: Scene, what: Callable[[], Path]) -> str:
    """Delete a folder under a run; it ends with a sentence, and can be asked for again."""
    command = scene.start(*scene.scoring(), before=[slowly])
    wait_for(lambda: list(scene.runs.glob("*/part-*.parquet")), "part")
    folder = what()
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)
    words = scene.ended(command).refused("gone|No such file")
    assert not list(scene.runs.glob("*/part-*")), "rows of a run that nobody can name"
    scene.scored_again()
    return words


def two_command_lines(scene: Scene) -> str:
    """Two command lines ask for one run, while a third process reads it."""
    first = scene.start(*scene.scoring(), before=[slowly])
    wait_for(lambda: list(scene.runs.glob("*/part-*.parquet")), "part")
    second = scene.start(*scene.scoring(), before=[slowly])
    while first.running:
        assert_rows_are_right(scene)
        scene.command("show", scene.run().name).done()
    scene.ended(first).done()
    scene.ended(second).done()
    scene.whole()
    return "the second waits"


def two_dashboards_and_a_command_line(scene: Scene) -> str:
    """A command line scores a run that one dashboard asks for as well, while two look at it."""
    command = scene.start(*scene.scoring(), before=[slowly])
    wait_for(lambda: list(scene.runs.glob("*/part-*.parquet")), "part")
    dashboards = [Dashboard(scene.folder, starts=starts) for starts in (True, False)]
    scene.ended(command).done()
    told = [dashboard.ended() for dashboard in dashboards]
    assert not any(told), told
    scene.whole()
    (job,) = jobs.list_jobs(scene.runs)
    assert job.state == "done", job
    return "nothing to see on any page"


# the dataset


def files_change_while_they_are_read(scene: Scene) -> str:
    """Some images vanish and others are replaced before their turn: they are named, and the others scored."""
    own = scene.folder / "photographs"
    shutil.copytree(scene.photographs, own)
    request = RunRequest("demo:jepa-tiny", f"folder:{own}")
    last = [item.key for item in plan(load_dataset(request.dataset_id), request)][-6:]
    scene.photographs = own
    command = scene.start(*scene.scoring(), before=[slowly])
    wait_for(lambda: list(scene.runs.glob("*/part-*.parquet")), "part")
    for key in last[:3]:
        (own / key).unlink()
    for key in last[3:]:
        (own / key).write_bytes((own / key).read_bytes() + b"\0" * 100)
    scene.ended(command).done()
    failures = store.failures(scene.run()).set_index("key")["error"]
    assert sorted(failures.index) == sorted(last), failures.to_dict()
    assert all("gone" in failures[key] for key in last[:3]) and all("changed" in failures[key] for key in last[3:])
    assert_rows_are_right(scene, last)
    assert not scene.verified()
    return failures[scene.dice.choice(last)]


def dataset_taken_away(scene: Scene) -> str:
    """The disk that holds the images is unplugged, and comes back."""
    own, away = scene.folder / "photographs", scene.folder / "away"
    shutil.copytree(scene.photographs, own)
    scene.photographs = own
    command = scene.start(*scene.scoring(), before=[slowly])
    wait_for(lambda: list(scene.runs.glob("*/part-*.parquet")), "part")
    own.rename(away)
    words = scene.ended(command).refused("cannot be reached")
    assert store.failures(scene.run()).empty, "images are blamed"
    assert_rows_are_right(scene)
    away.rename(own)
    scene.scored_again()
    return words


# memory


def out_of_memory(scene: Scene) -> str:
    """The process may take little more memory than it has; where a library ends it, that is as a kill."""
    megabytes = scene.dice.choice((8, 16, 32, 64, 96, 128, 192, 256))
    ended = scene.outcome(scene.start(*scene.scoring(), before=[limited(megabytes)]))
    if "Timeout (" in ended.err:
        assert re.search(r'threading.py", line \d+ in start', ended.err), f"hangs: {ended.err[-2000:]}"
        words = "Python waits for a thread that it has no memory to begin; ended as by a kill"
    elif ended.code in (-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS) or "libgomp: " in ended.err[-300:]:
        # libraries in C and C++ may end a process that has no memory for them, with words of theirs or none
        words = ended.err.strip().rpartition("\n")[2] or f"a library ended it, exit code {ended.code}"
    else:  # threads of libraries may leave a traceback; the last word is ours
        assert ended.code in (0, 1), f"exit code {ended.code}: {ended.err[-600:]}"
        words = ended.last_words() if ended.code else "enough"
    if store.list_runs(scene.runs):
        assert_rows_are_right(scene)
    scene.scored_again()
    return words


def assert_rows_are_right(scene: Scene, lost: list[str] | None = None) -> None:
    """Fail unless a reader sees rows of the unbroken run only: all of them, save those lost, where some were named."""
    seen = scene.seen().set_index("key")["score"]
    expected = scene.rows().set_index("key")["jepa_score"]
    assert seen.index.is_unique, "a row comes twice"
    whole = seen.drop(lost or [], errors="ignore")
    wrong = [key for key, score in whole.items() if not abs(score - expected.get(key, math.nan)) < 1e-5]
    assert not wrong, f"wrong rows: {wrong[:5]}"
    if lost is not None:
        missing = set(expected.index) - set(lost) - set(seen.index)
        assert not missing, f"whole rows that cannot be read: {sorted(missing)[:5]}"


class mode_of:
    """A path has another mode for the length of a block."""

    def __init__(self, path: Path, mode: int) -> None:
        self._path, self._mode = path, mode

    def __enter__(self) -> None:
        self._before = self._path.stat().st_mode
        self._path.chmod(self._mode)

    def __exit__(self, *_: object) -> None:
        self._path.chmod(self._before)


RANDOM = (
    bit_flipped_in_pages, disk_full, bit_flipped_in_footer, garbage_in_run_json, part_cut_off, anything_in_the_json,
    out_of_memory, bit_flipped_in_pages, garbage_in_progress_json, bit_flipped_in_footer, part_with_zeroed_block,
)  # fmt: skip
FAULTS = (
    disk_full, bit_flipped_in_pages, read_only_folder, garbage_in_run_json, no_permission_to_write, clock_set_back,
    out_of_memory, part_cut_off, run_folder_deleted, bit_flipped_in_footer, no_permission_to_read,
    garbage_in_progress_json,
    part_of_another_version, a_file_that_cannot_grow, no_permission_to_list, images_without_permission,
    files_from_the_future, part_of_zeros, part_with_zeroed_block, bit_flipped_in_header, bit_flipped_in_last_bytes,
    garbage_behind_a_part, anything_in_the_json, runs_folder_deleted, two_command_lines, dataset_taken_away,
    files_change_while_they_are_read, two_dashboards_and_a_command_line,
)  # fmt: skip
