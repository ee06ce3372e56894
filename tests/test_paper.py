"""The figure for print: what stands in it, where, how large, and in three formats."""

import io
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from jepascore_core import store
from jepascore_core.errors import RunError
from jepascore_core.paper_figure import paper_figure, wrapped
from jepascore_core.paper_layout import MM, PaperRow, describe, layout, paper_rows, side_mm, size_in_words
from jepascore_core.runner import Hooks, score_work
from jepascore_core.store import Run, ScoreRule
from jepascore_core.text import number
from tests.tiny import TinyDataset, jpeg, tiny_encoder, tiny_work

HOSTILE = "<script>$x_1$</script> & \x1b[31m\u202eneht\n" + "long" * 20


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Two encoders over one dataset of two classes, one image of which cannot be read."""
    home = tmp_path_factory.mktemp("runs")
    made = [scored(home), scored(home, encoder=tiny_encoder(null_dim=1))]
    made[1].meta["encoder"].update(name="other", digest="d2")
    return made


def scored(home: Path, dataset: TinyDataset | None = None, **options) -> Run:
    return store.open_run(score_work(tiny_work(home, dataset, **options), Hooks(threading.Event())).path)


def texts(svg: bytes) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def images(svg: bytes) -> int:
    return len(list(ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}image")))


def row(title: str, *sizes: int, label: str = "", side: tuple[int, int] = (160, 160)) -> PaperRow:
    picture = jpeg(Image.effect_noise(side, 60).convert("RGB"))
    frames = [pd.DataFrame({"thumbnail": [picture] * n, "score": np.arange(n, dtype=float)}) for n in sizes]
    return PaperRow(title, label, frames)


def test_rows_are_classes_by_encoders(runs: list[Run]) -> None:
    rows = paper_rows(runs, ["dog", "cat"], n=3)
    assert [(row.title, row.label) for row in rows] == [
        ("dog", "tiny"), ("dog", "other"), ("cat", "tiny"), ("cat", "other"),
    ]  # fmt: skip
    for row, run, name in zip(rows, [*runs, *runs], ["dog", "dog", "cat", "cat"], strict=True):
        for group, which in zip(row.groups, ("least", "most"), strict=True):
            expected = store.extremes(run, 3, which=which, class_name=name)
            assert group["key"].tolist() == expected["key"].tolist()
            assert group["score"].tolist() == expected["score"].tolist()


def test_without_classes_each_run_is_a_row(runs: list[Run]) -> None:
    (row,) = paper_rows(runs[:1], n=2)
    assert (row.title, row.label) == ("blobs", "")
    assert row.groups[0]["key"].tolist() == store.extremes(runs[0], 2)["key"].tolist()


def test_one_random_row_a_class_belongs_to_no_encoder(runs: list[Run]) -> None:
    rows = paper_rows(runs, ["cat"], n=3, random=True)
    assert [row.label for row in rows] == ["tiny", "other", "Random"]
    (group,) = rows[-1].groups
    assert len(group) == 6 and group["score"].isna().all()
    assert set(group["class_name"]) == {"cat"} and group["key"].is_unique
    assert group["key"].tolist() != sorted(group["key"])


@pytest.mark.parametrize(
    ("options", "words"),
    [({"classes": ["unicorn"]}, "unicorn; there are cat and dog"), ({"n": 0}, "at least 1, not 0")],
)
def test_what_is_not_there_is_one_sentence(options: dict, words: str, runs: list[Run]) -> None:
    with pytest.raises(RunError, match=words):
        paper_rows(runs, **options)


def test_a_broken_or_empty_run_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "broken-0000000000").mkdir()
    (tmp_path / "broken-0000000000" / "run.json").write_text("{")
    with pytest.raises(RunError, match="not valid JSON"):
        paper_rows([store.open_run("broken-0000000000", tmp_path)])
    empty = scored(tmp_path, TinyDataset(2, bad=(0, 1)))
    assert paper_rows([empty]) == []
    with pytest.raises(RunError, match="no scored image"):
        paper_figure(paper_rows([empty]))


def test_places_fill_the_width_without_touching() -> None:
    rows = [row("a", 4, 3), row("a", 4, 4, label="other"), row("b", 2, 1), row("b", 7, label="Random")]
    place = layout(rows, width_mm=120)
    assert place.side == pytest.approx(side_mm([4, 4], 120)) == pytest.approx((120 - 0.14 * 120 - 4 - 6 * 0.8) / 8)
    lefts = np.array(place.lefts)
    gaps = np.diff(lefts.ravel()) - place.side
    assert gaps == pytest.approx([0.8, 0.8, 0.8, 4.0, 0.8, 0.8, 0.8])
    assert lefts.max() + place.side == pytest.approx(120) and lefts.min() == pytest.approx(place.label)
    assert place.spread[0] == pytest.approx(place.label) and place.spread[-1] + place.side == pytest.approx(120)
    assert np.diff(place.spread) == pytest.approx(np.full(7, np.diff(place.spread)[0]))
    assert (np.diff(place.tops) > place.side).all() and place.tops[-1] + place.side < place.height


@pytest.mark.parametrize("width_mm", [88.0, 180.0])
def test_each_format_has_the_size_asked_for(width_mm: float) -> None:
    rows = [row("a", 3, 3), row("b", 3, 3)]
    height_mm = layout(rows, width_mm=width_mm).height
    expected = pytest.approx((width_mm, height_mm), abs=0.1)
    pdf = paper_figure(rows, "pdf", width_mm=width_mm)
    box = re.search(rb"/MediaBox \[ *0 0 ([\d.]+) ([\d.]+) *\]", pdf)
    assert pdf.startswith(b"%PDF-") and pdf.rstrip().endswith(b"%%EOF") and box
    assert (float(box[1]) / 72 / MM, float(box[2]) / 72 / MM) == expected
    svg = ElementTree.fromstring(paper_figure(rows, "svg", width_mm=width_mm))
    assert tuple(float(svg.attrib[name].removesuffix("pt")) / 72 / MM for name in ("width", "height")) == expected
    png = Image.open(io.BytesIO(paper_figure(rows, "png", width_mm=width_mm)))
    assert png.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    assert (png.width / 300 / MM, png.height / 300 / MM) == expected


def test_pdf_embeds_type_and_every_image_at_its_own_resolution() -> None:
    pdf = paper_figure([row("a", 2, 2, side=(160, 120))], "pdf")
    assert len(re.findall(rb"/Subtype /Image", pdf)) == 4
    assert len(re.findall(rb"/Height 120\b", pdf)) == len(re.findall(rb"/Width 120\b", pdf)) == 4  # the middle square
    assert re.search(rb"/FontName /[A-Z]{6}\+InterPrint", pdf) and b"/FontFile2" in pdf


def test_scores_and_names_are_the_stores(runs: list[Run]) -> None:
    rows = paper_rows(runs, ["cat"], n=2, random=True)
    svg = paper_figure(rows, "svg")
    scores = [number(score, 1) for row in rows[:2] for group in row.groups for score in group["score"]]
    assert [text for text in texts(svg) if text in scores] == scores
    assert {"cat", "tiny", "other", "Random", "Least likely", "Most likely"} < set(texts(svg))
    assert images(svg) == 2 * 4 + 4
    silent = paper_figure(rows, "svg", show_scores=False)
    assert not set(texts(silent)) & set(scores) and images(silent) == images(svg)


def test_the_pictures_are_the_thumbnails(runs: list[Run]) -> None:
    flat = [Image.new("RGB", (40, 20), colour) for colour in ("#ff0000", "#00ff00", "#0000ff", "#808000")]
    frame = pd.DataFrame({"thumbnail": [jpeg(image) for image in flat], "score": [1.0, 2.0, 3.0, 4.0]})
    rows = [PaperRow("", "", [frame[:2], frame[2:]])]
    place = layout(rows, width_mm=100)
    assert place.label == 0
    png = Image.open(io.BytesIO(paper_figure(rows, "png", width_mm=100))).convert("RGB")
    scale, middle = 300 * MM, place.tops[0] + place.side / 2
    shown = [png.getpixel((round((left + place.side / 2) * scale), round(middle * scale)))
             for lefts in place.lefts for left in lefts]  # fmt: skip
    assert np.abs(np.array(shown) - [image.getpixel((0, 0)) for image in flat]).max() < 6


def test_hostile_names_are_text(runs: list[Run]) -> None:
    svg = paper_figure([row(HOSTILE, 1, 1, label=HOSTILE), row("$\\alpha$ ${x}$", 1, 1)], "svg", width_mm=300)
    root = ElementTree.fromstring(svg)
    assert not [element for element in root.iter() if element.tag.endswith("script")]
    assert "$\\alpha$ ${x}$" in texts(svg)
    assert any("<script>$x_1$" in text for text in texts(svg))
    assert not re.search("[\x1b\u202e]", "".join(texts(svg)))
    for kind in ("pdf", "png"):
        assert paper_figure([row(HOSTILE, 1, 1, label="文字 ا")], kind)


def test_missing_and_broken_thumbnails_leave_a_hole() -> None:
    frame = pd.DataFrame({"thumbnail": [None, b"", b"\xff\xd8 no"], "score": [np.nan, 1.0, np.inf]})
    svg = paper_figure([PaperRow("a", "", [frame, frame])], "svg")
    assert images(svg) == 0 and texts(svg).count("1.0") == 2 and "nan" not in texts(svg)


@pytest.mark.parametrize(
    ("sizes", "options", "words"),
    [
        ((), {}, "no scored image"),
        ((1, 1), {"width_mm": 10}, "between 40 and 400 mm, not 10"),
        ((1, 1), {"kind": "gif"}, "pdf, png and svg, not 'gif'"),
        ((1, 1), {"columns": ("least", "best")}, "not 'best'"),
        ((40, 40), {"width_mm": 60}, "80 images do not fit"),
        ((2001, 2000), {}, "at most 4000 images"),
    ],
)
def test_what_cannot_be_drawn_is_one_sentence(sizes: tuple[int, ...], options: dict, words: str) -> None:
    with pytest.raises(RunError, match=words):
        paper_figure([row("a", *sizes)] if sizes else [], **options)


def test_lines_fit_and_say_when_they_are_cut() -> None:
    assert wrapped("cat", 20, size=7) == ["cat"] and wrapped("", 20, size=7) == []
    assert wrapped("tench, Tinca tinca", 17, size=7) == ["tench, Tinca", "tinca"]
    one, two = wrapped("a" * 50, 20, size=7, most=2)
    assert set(one) == {"a"} and two.endswith("…") and len(two) > 5
    assert wrapped("one two three four five six", 12, size=7, most=1)[0].endswith("…")


def test_the_same_rows_give_the_same_bytes_from_any_thread() -> None:
    rows = [row("a", 2, 2)]
    for kind in ("pdf", "svg", "png"):
        with ThreadPoolExecutor(3) as pool:
            assert len(set(pool.map(lambda _, kind=kind: paper_figure(rows, kind), range(3)))) == 1


def test_size_in_words_tells_the_coarsest_image() -> None:
    rows = [row("a", 3, 3), row("b", 3, 3, side=(100, 80))]
    place = layout(rows)
    dpi = round(80 / (place.side / 25.4))
    assert size_in_words(rows, place) == (
        f"180 × {place.height:.0f} mm, images of {place.side:.1f} mm with {dpi} dpi"
    )  # fmt: skip


def test_the_description_hides_folders(runs: list[Run]) -> None:
    dataset = runs[0].meta["dataset"] | {"id": "folder:/home/somebody/private pictures/birds"}
    run = replace(store.open_run(runs[0].path), meta=runs[0].meta | {"dataset": dataset})
    told = describe([run], ScoreRule())
    assert "folder:…/birds" in told and "somebody" not in told and "raw, eq. (5)" in told and "D = 5" in told


@pytest.mark.parametrize("suffix", ["pdf", "svg", "png"])
def test_the_command_writes_the_figure(suffix: str, runs: list[Run], tmp_path: Path) -> None:
    from jepascore_core.__main__ import app

    target = tmp_path / f"figure.{suffix}"
    words = ["extremes", str(runs[0].path), "--classes", "cat,dog", "--n", "2", "--random", "--out", str(target)]
    done = CliRunner().invoke(app, [*words, "--width", "88"])
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1] == str(target)
    assert re.search(r"88 × \d+ mm, images of [\d.]+ mm with \d+ dpi", done.stderr)
    rows = paper_rows(runs[:1], ["cat", "dog"], n=2, random=True)
    assert target.read_bytes() == paper_figure(rows, suffix, width_mm=88, about=describe(runs[:1], ScoreRule()))


def test_a_wrong_ending_leaves_no_file(runs: list[Run], tmp_path: Path) -> None:
    from jepascore_core.__main__ import app

    done = CliRunner().invoke(app, ["extremes", str(runs[0].path), "--out", str(tmp_path / "figure.jpg")])
    assert isinstance(done.exception, RunError) and "must end in .pdf, .svg or .png" in str(done.exception)
    assert not list(tmp_path.iterdir())
