"""Corrupted datasets: strength grows with severity, the same image is corrupted alike everywhere, ids lead back."""

import io
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jepascore_core.datasets import at_hand, expand, load_dataset
from jepascore_core.datasets.corrupted import CorruptedDataset
from jepascore_core.datasets.corruptions import (
    BLUR_SIGMA,
    CORRUPTIONS,
    JPEG_QUALITY,
    NOISE_SIGMA,
    OCCLUDED_AREA,
    SEVERITIES,
    STRENGTHS,
)
from jepascore_core.errors import DatasetError
from jepascore_core.naming import public_id
from jepascore_core.packs.originals import originals
from jepascore_core.runner import Hooks, score_work
from jepascore_core.runner.planning import plan
from jepascore_core.runner.reading import read_ahead, reader
from jepascore_core.store import row, scores
from jepascore_core.store.request import RunRequest, absolute_id, slug
from tests.tiny import TinyDataset, jpeg, tiny_encoder, tiny_transform, tiny_work

PHOTOS = "demo:photos"
COLOUR = (200, 40, 90)


def distance(clean: Image.Image, other: Image.Image) -> float:
    """Root mean square difference, 1 = white."""
    return float(np.sqrt(np.mean((np.asarray(clean, float) - np.asarray(other, float)) ** 2)) / 255)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_a_severer_corruption_is_farther_from_the_clean_image(kind: str) -> None:
    clean = load_dataset(PHOTOS)
    images = [(item.key, clean.read(item)) for item in clean.items[:: len(clean.items) // 12]]
    found = [[distance(x, CORRUPTIONS[kind](x, s, key)) for s in SEVERITIES] for key, x in images]
    means = np.mean(found, axis=0)
    assert means[0] > 0.003 and (np.diff(means) > 0).all()
    if kind != "jpeg":  # of a smooth image a coarser quantisation may keep more, by luck
        assert all(np.diff(distances).min() > 0 for distances in found)


@pytest.mark.parametrize("size", [(1, 1), (1, 90), (8, 8), (300, 500), (448, 224)])
@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_any_size_keeps_its_size_and_the_clean_image_its_pixels(kind: str, size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    for severity in SEVERITIES:
        corrupted = CORRUPTIONS[kind](image, severity, "k")
        assert corrupted.size == size and corrupted.mode == "RGB"
    assert np.array_equal(np.asarray(image), pixels)


def test_noise_has_the_strength_of_the_table() -> None:
    grey = Image.new("RGB", (224, 224), (128, 128, 128))
    for severity, sigma in zip(
        SEVERITIES[:3], NOISE_SIGMA, strict=False
    ):  # stronger noise is cut off at black and white
        assert distance(grey, CORRUPTIONS["noise"](grey, severity, "k")) == pytest.approx(sigma, rel=0.02)


def test_noise_of_a_large_image_has_grains_of_the_reference_size() -> None:
    large = np.asarray(CORRUPTIONS["noise"](Image.new("RGB", (448, 896), (128,) * 3), 1, "k"))
    assert np.array_equal(large[::2, ::2], large[1::2, 1::2]) and len(np.unique(large[::2, ::2])) > 50


def test_a_jpeg_of_the_reference_size_is_that_of_pillow() -> None:
    clean = load_dataset(PHOTOS)
    image = clean.read(clean.items[0])
    file = io.BytesIO()
    image.save(file, "JPEG", quality=JPEG_QUALITY[2])
    assert np.array_equal(np.asarray(CORRUPTIONS["jpeg"](image, 3, "k")), np.asarray(Image.open(file)))


def test_the_box_covers_the_share_of_the_table_and_lies_within_a_stronger_one() -> None:
    image = Image.new("RGB", (200, 100), COLOUR)
    before = np.zeros((100, 200), bool)
    for severity, share in zip(SEVERITIES, OCCLUDED_AREA, strict=True):
        covered = (np.asarray(CORRUPTIONS["occlusion"](image, severity, "k")) != COLOUR).any(2)
        assert covered.mean() == pytest.approx(share, abs=0.01)
        assert not (before & ~covered).any()
        before = covered


def test_keys_decide_noise_and_box() -> None:
    image = Image.new("RGB", (64, 64), COLOUR)
    for kind in ("noise", "occlusion"):
        first, same, other = (np.asarray(CORRUPTIONS[kind](image, 2, key)) for key in ("a", "a", "b"))
        assert np.array_equal(first, same) and not np.array_equal(first, other)
        CORRUPTIONS[kind](image, 2, "a\udcff")  # a file name that is not UTF-8


def test_every_severity_has_words() -> None:
    assert STRENGTHS.keys() == CORRUPTIONS.keys()
    assert all(len(words) == len(SEVERITIES) for words in STRENGTHS.values())
    from jepascore_core.datasets import corruptions

    for quality in JPEG_QUALITY:
        assert f"{quality}" in corruptions.__doc__


# The dataset


def test_it_has_the_clean_datasets_keys_classes_and_order() -> None:
    clean, corrupted = load_dataset(PHOTOS), load_dataset(f"corrupted:blur:3:{PHOTOS}")
    assert [(i.index, i.key, i.label, i.class_name) for i in corrupted.items] == [
        (i.index, i.key, i.label, i.class_name) for i in clean.items
    ]
    assert corrupted.class_names == clean.class_names and corrupted.id == f"corrupted:blur:3:{PHOTOS}"
    request = RunRequest("demo:jepa-tiny", PHOTOS, per_class=3, seed=5)
    assert [item.key for item in plan(corrupted, request)] == [item.key for item in plan(clean, request)]
    assert corrupted.file_of(corrupted.items[0]) is None


def test_fingerprints_tell_kinds_severities_and_datasets_apart() -> None:
    ids = [f"corrupted:{kind}:{s}:demo:{name}" for kind in CORRUPTIONS for s in (1, 2) for name in ("photos", "digits")]
    ids += [PHOTOS, f"corrupted:blur:1:corrupted:blur:1:{PHOTOS}"]
    assert len({load_dataset(dataset_id).fingerprint for dataset_id in ids}) == len(ids)


def test_batches_order_and_threads_change_nothing() -> None:
    dataset = CorruptedDataset("noise", 2, TinyDataset(12))
    read = reader(dataset, tiny_transform, jpeg)
    seen = []
    for items, batch_size, workers in ((dataset.items, 1, 1), (dataset.items[::-1], 5, 4)):
        batches = read_ahead(items, read, batch_size=batch_size, workers=workers, stop=threading.Event())
        seen.append({loaded.item.key: loaded for batch in batches for loaded in batch})
    for key, loaded in seen[0].items():
        assert loaded.views.equal(seen[1][key].views) and loaded.thumbnail == seen[1][key].thumbnail
        assert loaded.error is None


def test_another_process_corrupts_alike() -> None:
    script = (
        "import hashlib\nfrom jepascore_core.datasets import load_dataset\n"
        "for kind in ('blur', 'noise', 'jpeg', 'occlusion'):\n"
        "    d = load_dataset(f'corrupted:{kind}:4:demo:digits')\n"
        "    print(hashlib.sha256(d.read(d.items[7]).tobytes()).hexdigest())\n"
    )
    made = [
        subprocess.run([sys.executable, "-c", script], env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True)
        for seed in ("1", "2")
    ]
    assert made[0].stdout == made[1].stdout and len(set(made[0].stdout.split())) == 4


def test_a_run_pairs_with_the_clean_one_and_leaves_it_alone(tmp_path: Path) -> None:
    clean_set = TinyDataset(8, bad=(3,))
    clean_run = score_work(tiny_work(tmp_path, clean_set), Hooks(threading.Event()))
    before = {path.name: path.read_bytes() for path in clean_run.path.glob("*.parquet")}
    corrupted = score_work(tiny_work(tmp_path, CorruptedDataset("noise", 5, clean_set)), Hooks(threading.Event()))
    assert corrupted.path != clean_run.path and corrupted.name.startswith("tiny-blobs-noise-5-")
    first, second = scores(clean_run), scores(corrupted)
    assert list(first["key"]) == list(second["key"]) and len(first) == 7
    assert not np.allclose(first["score"], second["score"])
    assert {path.name: path.read_bytes() for path in clean_run.path.glob("*.parquet")} == before
    again = score_work(
        tiny_work(tmp_path, CorruptedDataset("noise", 5, TinyDataset(8, bad=(3,)))), Hooks(threading.Event())
    )
    assert again.path == corrupted.path


def test_thumbnails_and_exported_images_are_corrupted(tmp_path: Path) -> None:
    clean = load_dataset(PHOTOS)
    dataset = load_dataset(f"corrupted:occlusion:5:{PHOTOS}")
    loaded = reader(dataset, tiny_transform, jpeg)(dataset.items[0])
    assert loaded.thumbnail == jpeg(dataset.read(dataset.items[0])) != jpeg(clean.read(clean.items[0]))
    run = score_work(tiny_work(tmp_path, dataset, tiny_encoder(), per_class=1), Hooks(threading.Event()))
    item = plan(dataset, RunRequest("demo:tiny", dataset.id, per_class=1))[0]
    data, suffix = originals()(run, row(run, item.key))
    assert suffix == ".png"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), np.asarray(dataset.read(item)))


# Ids


def test_ids_expand_and_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    assert expand("corrupted:blur:3:mnist") == "corrupted:blur:3:hf:ylecun/mnist:test"
    assert expand(f"corrupted:blur:3:{tmp_path}") == f"corrupted:blur:3:folder:{tmp_path}"
    assert absolute_id("corrupted:jpeg:1:folder:.") == f"corrupted:jpeg:1:folder:{tmp_path}"
    assert slug("corrupted:blur:3:folder:/data/birds") == "birds-blur-3"
    assert public_id("corrupted:blur:3:folder:/home/me/birds") == "corrupted:blur:3:folder:…/birds"
    assert at_hand(f"corrupted:blur:3:{tmp_path}") and not at_hand("corrupted:blur:3:mnist")
    assert len(load_dataset("corrupted:blur:3:.").items) == 1


@pytest.mark.parametrize(
    ("dataset_id", "words"),
    [
        ("corrupted:blur:0:demo:photos", "whole number from 1 to 5; 0 is the clean dataset"),
        ("corrupted:blur:6:demo:photos", "whole number from 1 to 5"),
        ("corrupted:blur:x:demo:photos", "whole number from 1 to 5"),
        ("corrupted:fog:3:demo:photos", "no corruption 'fog'; there are blur, noise, jpeg, occlusion"),
        ("corrupted:blur:3", "is named corrupted:<kind>:<severity>:<dataset id>"),
        ("corrupted:blur:3:", "is named corrupted:<kind>:<severity>:<dataset id>"),
        ("corrupted:", "is named corrupted:<kind>:<severity>:<dataset id>"),
        ("corrupted:blur:3:demo:nothing", "No demo dataset named 'nothing'"),
        ("corrupted:blur:3:/no/such/path", "There is no dataset or path"),
    ],
)
def test_what_is_no_corruption_is_refused_in_one_sentence(dataset_id: str, words: str) -> None:
    with pytest.raises(DatasetError, match=words) as caught:
        load_dataset(dataset_id)
    assert "\n" not in str(caught.value)


def test_the_readme_tells_the_strengths_that_are_used() -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    shares = [f"{share:.0%}".replace("%", " %") for share in OCCLUDED_AREA]
    for kind, numbers in (("blur", BLUR_SIGMA), ("noise", NOISE_SIGMA), ("jpeg", JPEG_QUALITY), ("occlusion", shares)):
        (line,) = (line for line in readme.splitlines() if line.startswith(f"| `{kind}` |"))
        strengths = [f"{number:g}" if not isinstance(number, str) else number for number in numbers]
        assert [cell.strip() for cell in line.split("|")[3:-1]] == strengths
