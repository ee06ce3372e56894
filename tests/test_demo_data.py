"""The embedded demo datasets: real, offline, stable, and never trained on where they are judged."""

import socket
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from jepascore_core.datasets import demo, demo_photos
from jepascore_core.datasets.base import Item
from jepascore_core.datasets.demo import DEMO_NAMES, DISPLAY_PX, demo_dataset
from jepascore_core.datasets.demo_photos import (
    MAX_CROPS,
    PHOTOS,
    held_out_box,
    held_out_boxes,
    source_image,
    source_path,
    training_box,
    training_boxes,
    training_crops,
)
from jepascore_core.errors import DatasetError, ImageError

EXPECTED = {"photos": (7, 240, 336), "digits": (10, 300, 300), "galaxies": (3, 380, 400), "histology": (2, 200, 320)}


@pytest.mark.parametrize("name", DEMO_NAMES)
def test_every_item_is_listed_once_and_reads_as_square_rgb(name: str) -> None:
    dataset = demo_dataset(name)
    classes, least, most = EXPECTED[name]
    assert dataset.id == f"demo:{name}"
    assert len(dataset.class_names) == classes
    assert least <= len(dataset.items) <= most
    assert len({item.key for item in dataset.items}) == len(dataset.items)
    assert {item.class_name for item in dataset.items} == set(dataset.class_names)
    for index, item in enumerate(dataset.items):
        assert item.index == index
        assert dataset.class_names[item.label] == item.class_name
        assert item.key.isascii() and ".." not in item.key
    for item in dataset.items[:: len(dataset.items) // 12]:
        image = dataset.read(item)
        assert image.mode == "RGB"
        assert image.width == image.height >= 128


@pytest.mark.parametrize("name", DEMO_NAMES)
def test_made_again_without_network_it_is_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the demo must not use the network")

    first = demo_dataset(name)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    demo_dataset.cache_clear()
    source_image.cache_clear()
    second = demo_dataset(name)
    assert second is not first
    assert second.fingerprint == first.fingerprint
    assert second.items == first.items
    for item in first.items[::50]:
        assert np.array_equal(np.asarray(first.read(item)), np.asarray(second.read(item)))


def test_fingerprint_follows_the_recipe_and_the_source_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    made = {name: demo_dataset(name).fingerprint for name in DEMO_NAMES}
    assert len(set(made.values())) == len(DEMO_NAMES)
    monkeypatch.setattr(demo, "RECIPE", "another")
    demo_dataset.cache_clear()
    assert demo_dataset("digits").fingerprint != made["digits"]
    monkeypatch.undo()
    demo_dataset.cache_clear()
    assert demo_dataset("digits").fingerprint == made["digits"]
    one = demo_photos.source_digest(("skimage/data/coffee.png",), "recipe")
    other = demo_photos.source_digest(("skimage/data/chelsea.png",), "recipe")
    assert one != other


def test_reading_from_several_threads_gives_the_same_images() -> None:
    photos = demo_dataset("photos")
    items = photos.items[::20]
    serial = [photos.read(item).tobytes() for item in items]
    source_image.cache_clear()
    with ThreadPoolExecutor(4) as pool:
        assert [image.tobytes() for image in pool.map(photos.read, items)] == serial


@pytest.mark.parametrize("photo", PHOTOS, ids=lambda photo: photo.class_name)
def test_training_and_held_out_regions_share_no_pixel(photo: demo_photos.Photo) -> None:
    width, height = source_image(photo.source).size
    used = np.zeros((2, height, width), dtype=bool)
    for row, boxes in enumerate(([*training_boxes(photo, 1000), training_box(photo)], held_out_boxes(photo))):
        for left, top, right, bottom in boxes:
            assert 0 <= left < right <= width
            assert 0 <= top < bottom <= height
            used[row, top:bottom, left:right] = True
    assert not (used[0] & used[1]).any()
    left, top, right, bottom = held_out_box(photo)
    assert (right - left) * (bottom - top) == pytest.approx(width * height / 3, rel=0.01)


def test_training_crops_do_not_depend_on_held_out_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = training_crops(32, per_photo=60)
    assert expected.shape == (7 * 60, 32, 32, 3)
    painted = {}
    for photo in PHOTOS:
        image = source_image(photo.source).copy()
        image.paste((255, 0, 255), held_out_box(photo))
        painted[photo.source] = image
    monkeypatch.setattr(demo_photos, "source_image", painted.__getitem__)
    assert np.array_equal(training_crops(32, per_photo=60), expected)


@pytest.mark.parametrize("photo", PHOTOS, ids=lambda photo: photo.class_name)
def test_crops_of_one_photograph_overlap_by_at_most_a_third(photo: demo_photos.Photo) -> None:
    boxes = held_out_boxes(photo)
    assert 25 <= len(boxes) <= MAX_CROPS
    assert len({right - left for left, _, right, _ in boxes}) > 1  # more than one scale
    for a, b in combinations(boxes, 2):
        width = min(a[2], b[2]) - max(a[0], b[0])
        height = min(a[3], b[3]) - max(a[1], b[1])
        smaller = min(a[2] - a[0], b[2] - b[0]) ** 2
        assert 3 * max(width, 0) * max(height, 0) <= smaller


def test_photo_crops_show_the_source_at_their_key() -> None:
    photos = demo_dataset("photos")
    item = next(item for item in photos.items if item.class_name == "pagoda")
    x, y, side = (int("".join(filter(str.isdigit, part))) for part in item.key.split("/")[1].split("-"))
    crop = Image.open(source_path("sklearn/datasets/images/china.jpg")).convert("RGB").crop((x, y, x + side, y + side))
    assert photos.read(item) == crop.resize((DISPLAY_PX, DISPLAY_PX), Image.Resampling.BICUBIC)


def test_digits_are_those_of_scikit_learn() -> None:
    from sklearn.datasets import load_digits

    source, digits = load_digits(), demo_dataset("digits")
    for item in digits.items[::17]:
        digit, row = item.key.split("/")
        assert source.target[int(row)] == int(digit) == item.label
        shown = np.asarray(digits.read(item).convert("L").crop((20, 20, 140, 140)).resize((8, 8)), dtype=float)
        assert np.corrcoef(shown.ravel(), source.images[int(row)].ravel())[0, 1] > 0.98


def test_galaxy_classes_are_terciles_of_light() -> None:
    galaxies = demo_dataset("galaxies")
    light: dict[str, list[float]] = {name: [] for name in galaxies.class_names}
    for item in galaxies.items:
        light[item.class_name].append(np.asarray(galaxies.read(item).crop((40, 40, 120, 120))).mean())
    faint, medium, bright = (light[name] for name in ("faint galaxies", "medium galaxies", "bright galaxies"))
    assert max(len(faint), len(medium), len(bright)) - min(len(faint), len(medium), len(bright)) <= 1
    assert np.median(faint) < np.median(medium) < np.median(bright)


def test_errors_name_what_is_wrong() -> None:
    with pytest.raises(DatasetError, match="'cats'; there are photos, digits"):
        demo_dataset("cats")
    with pytest.raises(DatasetError, match="pip install --force-reinstall scikit-image"):
        source_path("skimage/data/no_such_picture.png")
    with pytest.raises(DatasetError, match="no_such_package"):
        source_path("no_such_package/picture.png")
    with pytest.raises(ImageError, match="no image 'cat/9999'"):
        demo_dataset("photos").read(Item(0, "cat/9999"))
