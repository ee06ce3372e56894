"""Mutated inputs: images, tables, metadata, weights. Each is scored, or named in a sentence.

``python -m tests.chaos.inputs 2000`` runs this campaign alone.
"""

import dataclasses
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.chaos import files
from tests.chaos.images import images
from tests.chaos.limits import Guarded, Told
from tests.chaos.outcome import Outcome

CAMPAIGN = "inputs"
_BATCH = 40  # images in a folder
_USE = "tests.chaos.files:guarded"
_RUN_BUSY_S = 200.0  # a run reads forty of them


def campaign(trials: int = 2000, seed: int = 0, work: Path = Path("chaos")) -> list[Outcome]:
    """Put mutated files through what reads them.

    Args:
        trials: Number of images; half as many other files follow.
        seed: Of all chances.
        work: An empty folder; files that did harm are kept below ``harmful``.

    Returns:
        An outcome for each image, for each run over forty of them, and for each other file.
    """
    work = work.absolute()
    environment = {"JEPASCORE_HOME": str(work / "home"), "JEPASCORE_DEMO": "0"}
    with Guarded(environment) as child:
        return [
            *_images(trials, seed, work / "images", child),
            *_files(trials // 2, seed, work / "files", child),
            *_trainings(trials // 40, seed, work / "trainings", child),
            *_pickles(work / "pickles", child),
        ]


def _files(trials: int, seed: int, work: Path, child: Guarded) -> Iterator[Outcome]:
    """Tables, results, metadata and weights."""
    for kind, use, argument, path in files.trials(trials, seed, work):
        told = child.do(_USE, (use, argument))
        if not told.ok:
            _keep(path, work)
        yield _outcome(f"file, {kind}", told, path.parent.name if path.parent != work else path.name)


def _trainings(trials: int, seed: int, work: Path, child: Guarded) -> Iterator[Outcome]:
    """Checkpoints of a training that was interrupted."""
    if not trials:
        return
    work.mkdir(parents=True, exist_ok=True)
    made = child.do(_USE, ("make_training", str(work / "net.safetensors")))
    yield _outcome("file, training as it was", made, "net")
    checkpoint = work / "net.checkpoint.pt"
    whole = checkpoint.read_bytes()
    for number in range(trials):
        draw = random.Random(f"training {seed} {number}")
        checkpoint.write_bytes(files.mutated_bytes(whole, draw))
        told = child.do(_USE, ("use_training", str(work / "net.safetensors")))
        if not told.ok:
            _keep(checkpoint, work)
        yield _outcome("file, training", told, f"training {number}")


def _pickles(work: Path, child: Guarded) -> Iterator[Outcome]:
    """A pickle wherever one might be loaded."""
    for kind, use, argument, marker in files.pickles(work):
        told = child.do(_USE, (use, argument))
        if marker.exists():
            told = dataclasses.replace(told, ok=False, words="It was loaded.")
            marker.rmdir()
        yield _outcome(kind, told, Path(argument).name)


def _images(trials: int, seed: int, work: Path, child: Guarded) -> Iterator[Outcome]:
    """Images by themselves, then the same ones in a run."""
    from jepascore_core.datasets.images import image_suffixes

    batch: list[tuple[str, str]] = []
    for number, (kind, name, data) in enumerate(images(trials, seed)):
        folder = work / f"batch {number // _BATCH:03d}" / "photos"
        key = f"{'ab'[number % 2]}/{name}" + ("" if Path(name).suffix in image_suffixes() else ".png")
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(data)
        batch.append((kind, key))
        if len(batch) == _BATCH or number == trials - 1:
            yield from _batch(folder, batch, work, child)
            batch = []


def _batch(folder: Path, batch: list[tuple[str, str]], work: Path, child: Guarded) -> Iterator[Outcome]:
    """A folder of images: each by itself, then a run of all that did no harm."""
    for kind, key in batch:
        told = child.do("tests.chaos.images:read_image", (str(folder), key))
        if not told.ok:
            _keep(folder / key, work)
            (folder / key).unlink()
        yield _outcome(f"image, {kind}", told, key)
    if any(path.is_file() for path in folder.rglob("*")):
        told = child.do("tests.chaos.images:score_folder", str(folder), busy_s=_RUN_BUSY_S)
        if not told.ok:
            shutil.copytree(folder, work.parent / "harmful" / folder.parent.name, dirs_exist_ok=True)
        yield _outcome("run of forty images", told, folder.parent.name)
    shutil.rmtree(folder.parent)


def _outcome(trial: str, told: Told, name: str) -> Outcome:
    words = told.words if told.ok else f"{name}: {told.words}"
    return Outcome(CAMPAIGN, trial, told.ok, words, round(told.seconds, 3), round(told.memory_mb, 1))


def _keep(path: Path, work: Path) -> None:
    """Keep a file that did harm."""
    kept = work.parent / "harmful"
    kept.mkdir(exist_ok=True)
    shutil.copy(path, kept / f"{path.parent.name} {path.name}")


def summary(outcomes: list[Outcome]) -> str:
    """A line for each kind of trial, and one for each failure."""
    lines = []
    for trial in sorted({outcome.trial for outcome in outcomes}):
        own = [outcome for outcome in outcomes if outcome.trial == trial]
        most = max((outcome.memory_mb or 0 for outcome in own), default=0)
        slowest = max(outcome.seconds for outcome in own)
        good = sum(outcome.ok for outcome in own)
        read = sum(outcome.words == "read" for outcome in own)
        lines.append(f"{trial:40} {good:5}/{len(own):<5} {read:5} read  {slowest:7.2f} s  {most:7.0f} MB")
    failures = [f"FAILED {outcome.trial}: {outcome.words}" for outcome in outcomes if not outcome.ok]
    return "\n".join([*lines, *failures, f"{len(outcomes)} trials, {len(failures)} failed"])


def main() -> None:
    """Run the campaign with as many images as the command line says."""
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    work, begun = Path(tempfile.mkdtemp(prefix="inputs-")), time.monotonic()
    print(summary(campaign(trials, seed, work)), flush=True)
    print(f"{time.monotonic() - begun:.0f} s; harmful files, if any, lie in {work}")


if __name__ == "__main__":
    main()
