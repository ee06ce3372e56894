"""What a request may reach under ``JEPASCORE_DATA_ROOTS``: no link, no ``..`` and no other way leads out."""

import os
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from jepascore_core import allowed, store
from jepascore_core.__main__ import app
from jepascore_core.datasets import load_dataset
from jepascore_core.encoders import load_encoder
from jepascore_core.encoders.load import WEIGHTS
from jepascore_core.encoders.names import parse
from jepascore_core.errors import DatasetError, EncoderError, ImageError, ImportedFileError, RunError
from jepascore_core.importing import ImportRequest, import_file, look
from jepascore_core.jobs import children
from jepascore_core.store.key_lines import read_keys
from jepascore_core.store.request import RunRequest
from tests.helpers_allowed import a_parquet, a_run

ONE_SENTENCE = "This path leads outside the folders that JEPASCORE_DATA_ROOTS allows."


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A folder that is allowed, and one beside it that is not; the same files in both."""
    inside, outside = tmp_path / "data", tmp_path / "data-of-others"
    for number, root in enumerate((inside, outside)):
        (root / "photos" / "cat").mkdir(parents=True)
        for name in ("a.png", "b.png"):
            Image.new("RGB", (12, 12), (90 * number, 40, 60)).save(root / "photos" / "cat" / name)
        a_parquet(root / "table.parquet", (root / "photos" / "cat" / "a.png").read_bytes())
        shutil.copyfile(WEIGHTS / "jepa-tiny.safetensors", root / "net.safetensors")
        (root / "scores.csv").write_text("key,score\na,1.0\nb,2.0\n")
        (root / "keys.txt").write_text("cat/a.png\n")
        a_run(root / "kept")
    monkeypatch.setenv(allowed.DATA_ROOTS, os.pathsep.join([str(tmp_path / "elsewhere"), str(inside)]))
    return inside, outside


def refused(call, error: type[Exception]) -> None:
    """The call fails with the one sentence that names the setting and no path."""
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == ONE_SENTENCE


def reach(root: str | Path) -> None:
    """Every way of naming a file that a request has."""
    root = str(root)
    assert len(load_dataset(f"folder:{root}/photos").items) == 2
    assert len(load_dataset(f"{root}/photos").items) == 2
    assert len(load_dataset(f"corrupted:blur:1:folder:{root}/photos").items) == 2
    assert len(load_dataset(f"parquet:{root}/table.parquet").items) == 1
    assert load_encoder(f"file:{root}/net.safetensors", check=False).spec.embedding_dim > 0
    assert look(ImportRequest(Path(root, "scores.csv"), "e", "d")) is not None
    assert read_keys(Path(root, "keys.txt")) == [(None, "cat/a.png")]
    assert store.open_run(f"{root}/kept").name == "kept"


def nothing_is_reached(root: str | Path) -> None:
    root = str(root)
    for dataset in ("folder:{}/photos", "{}/photos", "corrupted:blur:1:folder:{}/photos", "parquet:{}/table.parquet",
                    "parquet:{}", "folder:{}/there is nothing here"):  # fmt: skip
        text = dataset.format(root)
        refused(lambda text=text: load_dataset(text), DatasetError)
    refused(lambda: load_encoder(f"file:{root}/net.safetensors", check=False), EncoderError)
    refused(lambda: load_encoder(f"file:{root}/net.safetensors@timm:vit_tiny_patch16_224", check=False), EncoderError)
    refused(lambda: import_file(ImportRequest(Path(root, "scores.csv"), "e", "d")), ImportedFileError)
    refused(lambda: read_keys(Path(root, "keys.txt")), RunError)
    refused(lambda: store.open_run(f"{root}/kept"), RunError)


def test_files_inside_are_reached_and_those_outside_are_not(places: tuple[Path, Path]) -> None:
    inside, outside = places
    reach(inside)
    nothing_is_reached(outside)  # whose path begins with the letters of the one that is allowed
    nothing_is_reached(f"{inside}/../{outside.name}")


def test_a_link_does_not_lead_out_and_one_within_does(places: tuple[Path, Path]) -> None:
    inside, outside = places
    (inside / "way out").symlink_to(outside)
    nothing_is_reached(inside / "way out")
    (inside / "within").symlink_to(inside)
    reach(inside / "within")
    (outside / "way in").symlink_to(inside)
    reach(outside / "way in")


def test_without_the_setting_any_file_is_reached(places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(allowed.DATA_ROOTS)
    reach(places[1])
    monkeypatch.setenv(allowed.DATA_ROOTS, os.pathsep)
    nothing_is_reached(places[0])


def test_links_among_images_do_not_lead_out(places: tuple[Path, Path]) -> None:
    inside, outside = places
    photos = inside / "photos"
    (photos / "cat" / "stolen.png").symlink_to(outside / "photos" / "cat" / "a.png")
    (photos / "dog").symlink_to(outside / "photos" / "cat")
    (photos / "cat" / "same.png").symlink_to(photos / "cat" / "a.png")
    dataset = load_dataset(f"folder:{photos}")
    assert [item.key for item in dataset.items] == ["cat/a.png", "cat/b.png", "cat/same.png"]
    (photos / "cat" / "a.png").unlink()
    (photos / "cat" / "a.png").symlink_to(outside / "photos" / "cat" / "a.png")  # after it was listed
    with pytest.raises(ImageError, match=allowed.DATA_ROOTS):
        dataset.read(dataset.items[0])
    assert dataset.read(dataset.items[1]).size == (12, 12)
    farm = inside / "farm"
    farm.mkdir()
    (farm / "1.png").symlink_to(outside / "photos" / "cat" / "a.png")
    with pytest.raises(DatasetError, match=allowed.DATA_ROOTS):
        load_dataset(f"folder:{farm}")


def test_nobody_learns_which_files_there_are_outside(places: tuple[Path, Path]) -> None:
    _, outside = places
    for name in ("net.safetensors", "nothing.safetensors"):
        with pytest.raises(EncoderError) as caught:
            parse(f"{outside}/{name}")
        assert "is a file" not in str(caught.value)
        refused(lambda text=f"{outside}/{name}": load_dataset(text), DatasetError)


def test_runs_of_the_runs_folder_are_opened_whatever_is_allowed(places: tuple[Path, Path]) -> None:
    home = store.runs_home(None)
    a_run(home / "mine")
    assert store.open_run("mine").name == "mine" and store.open_run(home / "mine").name == "mine"
    assert [run.name for run in store.list_runs()] == ["mine"]
    with pytest.raises(RunError, match="There is no run"):
        store.open_run("nobody's")
    shutil.copytree(home / "mine", home.parent / "above")
    refused(lambda: store.open_run("../above"), RunError)


def test_the_command_line_and_jobs_are_held_to_it(places: tuple[Path, Path]) -> None:
    _, outside = places
    argv = RunRequest("demo:jepa-tiny", f"folder:{outside}/photos", device="cpu").to_argv()
    found = CliRunner().invoke(app, ["score", *argv])
    assert str(found.exception) == ONE_SENTENCE
    assert not store.list_runs()
    told = outside.parent / "told"
    code = "from jepascore_core.allowed import data_roots; print(data_roots())"
    children.start_child([sys.executable, "-c", code], told)
    children.children[-1].wait(30)
    assert told.read_text().strip() == str(allowed.data_roots())


@pytest.mark.parametrize("name", ["\0", "~nobody-of-this-name/x", "a" * 5000, "\udcff", "."])
def test_odd_paths_are_refused_in_one_sentence(name: str, places: tuple[Path, Path]) -> None:
    refused(lambda: load_dataset(f"folder:{name}"), DatasetError)
    refused(lambda: load_encoder(f"file:{name}", check=False), EncoderError)
