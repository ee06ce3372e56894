"""Short versions of the campaign of mutated inputs and of the fuzzing; ``tests.chaos`` has the long ones."""

import os
import time
from pathlib import Path

import pytest

from tests.chaos import files, fuzz, images
from tests.chaos.limits import Guarded


def test_mutated_images_are_scored_or_named(tmp_path: Path, one_thread: None) -> None:
    folder, kinds = tmp_path / "photos", set()
    for number, (kind, name, data) in enumerate(images.images(48, seed=1)):
        (folder / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        (folder / "ab"[number % 2] / f"{name}.png").write_bytes(data)
        kinds.add(kind)
    words = [images.read_image((str(folder), path.name)) for path in sorted(folder.rglob("*.png"))]
    assert len(words) == 48 and len(kinds) > 8
    read = words.count("read")
    assert 5 < read < 43, "the mutations do no harm, or too much"
    assert images.score_folder(str(folder)) == f"{read} scored, {48 - read} refused"


def test_mutated_files_are_taken_or_refused(tmp_path: Path, one_thread: None) -> None:
    words = [files.guarded((use, argument)) for _, use, argument, _ in files.trials(30, 2, tmp_path)]
    refused = sum(text.startswith("refused") for text in words)
    assert 5 < refused < 29


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    kinds = set()
    for kind, use, argument, marker in files.pickles(tmp_path / "pickles"):
        if "@" not in argument:  # those are tests of their own, in test_encoder_files
            files.guarded((use, argument))
            assert not marker.exists(), (kind, argument)
            kinds.add(kind)
    assert len(kinds) == 6
    files.pickle.loads(files.pickle.dumps(files.Evil(tmp_path / "owned")))
    assert (tmp_path / "owned").is_dir(), "the pickle does no harm to one who loads it"


@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_parsers_keep_their_promises_for_any_bytes(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JEPASCORE_FUZZ", str(tmp_path))
    target = fuzz.TARGETS[name]
    for data in (b"", b"\xff\xfe", b"[" * 2000, *target.seeds):
        target.check(data)
    fuzz._unguided(target, 40, seed=0)


def crash(case: object) -> str:
    os.abort()


def hang(case: object) -> str:
    while True:
        pass


def swell(case: int) -> str:
    return f"{len(bytearray(case))} bytes"


def fail(case: object) -> str:
    raise KeyError("a")


def test_a_guard_names_what_crashes_hangs_or_swells() -> None:
    with Guarded(memory_mb=400, imports=()) as child:
        assert child.do("tests.test_mutations:swell", 10).ok
        crashed = child.do("tests.test_mutations:crash", 0)
        assert not crashed.ok and crashed.words == "It crashed: SIGABRT."
        begun = time.monotonic()
        hung = child.do("tests.test_mutations:hang", 0, busy_s=0.5)
        assert not hung.ok and hung.words.startswith("It hung") and time.monotonic() - begun < 30
        large = child.do("tests.test_mutations:swell", 450 << 20)
        assert not large.ok and large.words.startswith("It took")
        after = child.do("tests.test_mutations:swell", 10)
        assert after.ok and after.memory_mb < 400, "the peak of one case is not that of the next"
        assert child.do("tests.test_mutations:fail", 0).words == "KeyError: 'a'"
