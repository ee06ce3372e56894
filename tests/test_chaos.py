"""The short version of the fault campaign (``make chaos``): a few kills and faults, on other dice each time."""

import json
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos import __main__ as chaos
from tests.chaos import faults, kills
from tests.chaos.outcome import Outcome
from tests.chaos.scene import Scene, photographs_in, unbroken_in
from tests.chaos.trials import home_at, tried

SOME = (
    faults.disk_full,
    faults.read_only_folder,
    faults.no_permission_to_read,
    faults.bit_flipped_in_footer,
)


@pytest.fixture(scope="module")
def work() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder, home_at(Path(folder)):
        yield Path(folder)


def kept(outcomes: list[Outcome]) -> list[Outcome]:
    broken = [outcome for outcome in outcomes if not outcome.ok]
    assert not broken, broken
    return outcomes


@pytest.mark.slow
def test_killed_at_some_kinds_of_instants(work: Path) -> None:
    outcomes = kept(kills.campaign(4, time.time_ns(), work / "kills"))
    assert len({outcome.trial for outcome in outcomes}) == 4


@pytest.fixture(scope="module")
def unbroken(work: Path) -> tuple[Path, Path]:
    photographs = photographs_in(work / "photographs")
    return photographs, unbroken_in(work / "unbroken", photographs)


@pytest.mark.slow
@pytest.mark.parametrize("fault", SOME, ids=lambda fault: fault.__name__)
def test_a_fault_loses_nothing(fault, work: Path, unbroken: tuple[Path, Path]) -> None:
    scene = Scene(work / fault.__name__, *unbroken, random.Random(time.time_ns()))
    (outcome,) = kept([faults.befallen(fault, scene)])
    assert outcome.words and outcome.memory_mb


def test_a_broken_promise_is_told_and_fails_the_campaign(tmp_path, monkeypatch, capsys) -> None:
    def broken(*_: object) -> str:
        raise AssertionError("two rows are missing")

    def outcomes(trials: int, seed: int, work: Path) -> list[Outcome]:
        return [tried("kills", "gently", lambda: f"below {work}"), tried("kills", "hard", broken)][:trials]

    monkeypatch.setattr(kills, "campaign", outcomes)
    out = tmp_path / "chaos.json"
    for trials, code in ((2, 1), (1, 0)):
        monkeypatch.setattr("sys.argv", ["chaos", "kills", f"--trials={trials}", f"--json={out}"])
        with pytest.raises(SystemExit) as ended:
            chaos.main()
        assert ended.value.code == code
        told = capsys.readouterr().out
        assert ("BROKEN  kills, hard: AssertionError: two rows are missing" in told) == (trials == 2)
        found = json.loads(out.read_text())
        assert found["campaigns"][0] | {"trials": trials, "kept": 1} == found["campaigns"][0]
        assert chaos.table(found["rows"]) in told and found["environment"]["versions"]["torch"]
        assert found["rows"][0]["words"] == "below …/kills"  # no folder of this machine


def test_every_fault_is_in_the_campaign() -> None:
    shape = {"scene": Scene, "return": str}
    named = {name for name, each in vars(faults).items() if getattr(each, "__annotations__", {}) == shape}
    assert named == {fault.__name__ for fault in faults.FAULTS} and set(faults.RANDOM) <= set(faults.FAULTS)
