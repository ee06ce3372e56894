"""The report: its numbers are the store's, and nothing in it comes to life."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import threading
from base64 import b64decode
from collections import Counter
from datetime import UTC, datetime
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import ks_2samp
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from jepascore_core import store
from jepascore_core.brightness import brightness
from jepascore_core.errors import RunError
from jepascore_core.naming import distinct_names, printable, public_id, without_folders
from jepascore_core.report import make_report, strips, write_report
from jepascore_core.runner import Hooks, score_work
from jepascore_core.separation import separation
from jepascore_core.store import Run, ScoreRule
from tests.tiny import TinyDataset, tiny_encoder, tiny_work

ROOT = Path(__file__).parent.parent
MADE = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
EVIL = "</style></title><script>alert(1)</script><img src=x onerror=alert(2)>'\"`{{7*7}}${x}&amp;\x1b[31m\u202e]]>"
HOSTILE = (EVIL, "javascript:alert(3)//<svg/onload=alert(4)>")
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """What a browser would make of a report: elements with their attributes, and the text of the page."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attributes}))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data

    def tags(self, name: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.elements if tag == name]

    def numbers(self) -> list[float]:
        return [float(attributes["value"]) for attributes in self.tags("data")]


def scored(home: Path, dataset: TinyDataset | None = None, **options) -> Run:
    return store.open_run(score_work(tiny_work(home, dataset, **options), Hooks(threading.Event())).path)


def edited(run: Run, **sections: dict) -> Run:
    """The run after somebody has written into its run.json."""
    meta = json.loads((run.path / "run.json").read_text())
    for name, values in sections.items():
        meta[name] = {**meta[name], **values} if isinstance(values, dict) else values
    (run.path / "run.json").write_text(json.dumps(meta))
    return store.open_run(run.path)


class Birds(TinyDataset):
    id = "demo:birds"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def runs(home: Path) -> list[Run]:
    """Two datasets under one encoder, and one of them under a second encoder; one image cannot be read."""
    other = tiny_encoder(null_dim=1)
    other.digest = "d2"
    return [scored(home), scored(home, Birds(17)), scored(home, Birds(17), encoder=other)]


@pytest.fixture(scope="module")
def html(runs: list[Run]) -> str:
    return make_report(runs, made=MADE)


def test_separation_is_that_of_other_libraries(runs: list[Run], html: str) -> None:
    first, second = (store.scores(run)["score"].to_numpy() for run in runs[:2])
    auroc = roc_auc_score(np.r_[np.ones(len(first)), np.zeros(len(second))], np.r_[first, second])
    found = separation(first, second)
    a, b = (brightness(run) for run in runs[:2])
    rival = roc_auc_score(np.r_[np.ones(len(a)), np.zeros(len(b))], np.r_[a, b])
    expected = [np.median(first), *np.quantile(first, [0.05, 0.95])]
    expected += [np.median(second), *np.quantile(second, [0.05, 0.95]), auroc, found.low, found.high]
    expected += [ks_2samp(first, second).statistic, max(rival, 1 - rival)]
    assert Page(html).numbers()[: len(expected)] == pytest.approx(expected)
    lines = [row for row in Page(html).rows if row[0] == "birds"]
    assert lines[0][1] == "17" and f"{auroc:.2f} ({found.low:.2f}–{found.high:.2f})" in lines[0]
    assert found.direction in lines[0]


def test_strips_are_the_stores_extremes(runs: list[Run]) -> None:
    page = Page(make_report(runs[:1], n=4, made=MADE))
    expected = [
        store.extremes(runs[0], 4, which=which, class_name=name)
        for name in (None, "cat", "dog")
        for which in ("least", "most")
    ]
    assert page.numbers()[3:] == [score for frame in expected for score in frame["score"]]
    pictures = [b64decode(image["src"].removeprefix("data:image/jpeg;base64,")) for image in page.tags("img")]
    assert pictures == [picture for frame in expected for picture in frame["thumbnail"]]
    keys = [image["alt"].split(", ")[-1] for image in page.tags("img")]
    assert keys == [key for frame in expected for key in frame["key"]]
    assert "23 images, median" in page.text and "cat" in page.text


def test_every_encoder_has_a_chapter_with_its_provenance(runs: list[Run], html: str) -> None:
    page = Page(html)
    assert re.findall(r'class="chapter"[^>]*>([^<]*)', html) == ["tiny, 8 px (d1)", "tiny, 8 px (d2)"]
    assert "1, by construction" in page.text and "2 Jan 2026, 03:04 UTC" in page.text
    for run in runs:
        (row,) = [row for row in page.rows if row and row[0] == run.name]
        assert run.meta["dataset"]["fingerprint"][:12] in row[1]
        assert row[2] == str(store.counts(run)["done"]) and row[5] == "raw, eq. (5)" and row[6] == "float32, cpu"
    assert f"torch {runs[0].meta['versions']['torch']}" in page.text
    assert page.text.count("Medians") + html.count("<figcaption>") == 6
    assert (
        "tiny, D = 5, 8 px, float32: blobs (23 images) and birds (17 images). Score: raw, eq. (5), in nats."
        in page.text
    )


def test_failures_are_named(runs: list[Run], html: str) -> None:
    page = Page(html)
    assert ["dog/0003.png", "The file is empty."] in page.rows
    assert "blobs: 1 image without a score" in page.text


def test_the_commands_make_it_again(runs: list[Run], html: str) -> None:
    from jepascore_core.__main__ import app

    command = re.search(r"python -m jepascore_core (report .*?) --out report.html", Page(html).text)
    assert command
    words = shlex.split(command[1])
    assert words == ["report", *(run.name for run in runs)]
    assert "python -m jepascore_core score --encoder=demo:tiny --dataset=demo:birds" in Page(html).text
    shown = CliRunner().invoke(app, ["report", "--help"])
    assert shown.exit_code == 0
    named = make_report(runs[:1], rule=ScoreRule("listing1", 1e-2), classes=["cat, wild", "dog"], n=2)
    line = re.search(r"jepascore_core (report .*?) --out", Page(named).text)
    assert line and shlex.split(line[1])[2:] == [
        "--score", "listing1", "--eps", "0.01", "--classes", '"cat, wild",dog', "--n", "2",
    ]  # fmt: skip


def test_it_is_whole_and_loads_nothing(html: str) -> None:
    page = Page(html)
    assert not page.open
    assert html.startswith("<!DOCTYPE html>") and page.tags("html")[0]["lang"] == "en"
    assert not {"script", "link", "iframe", "object", "embed", "a", "form", "base"} & {tag for tag, _ in page.elements}
    for tag, attributes in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("src", "href", "xlink:href", "srcset", "action", "data", "poster"):
                assert value.startswith(("data:image/jpeg;base64,", "#")), (tag, name, value[:40])
    assert "url(http" not in html and "@import" not in html
    policy = next(meta["content"] for meta in page.tags("meta") if "Policy" in meta.get("http-equiv", ""))
    assert policy.startswith("default-src 'none'") and "script-src" not in policy
    assert "plotly" not in html.lower()


def test_it_can_be_heard(html: str) -> None:
    page = Page(html)
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(image["alt"] for image in page.tags("img"))
    figures = [svg for svg in page.tags("svg") if "dot" not in svg.get("class", "")]
    assert len(figures) == 6 and all(svg["role"] == "img" and svg["aria-label"] for svg in figures)
    assert all(cell.get("scope") in ("col", "row") for cell in page.tags("th"))
    assert html.count("<table") == html.count("<caption>")


def test_figures_share_no_id_and_take_the_pages_colours(html: str) -> None:
    ids = Counter(attributes["id"] for _, attributes in Page(html).elements if "id" in attributes)
    assert [name for name, n in ids.items() if n > 1] == []
    used = set(re.findall(r"(?:url\(|href=\")#([\w-]+)", html))
    assert used and used <= set(ids)
    svgs = "".join(re.findall(r"<svg.*?</svg>", html, re.DOTALL))
    assert "var(--ink)" not in svgs and "var(--muted)" in svgs and "var(--line)" in svgs
    assert not re.search("#01020[345]", html) and "font-family" not in svgs


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    keys = [f"{EVIL}/{i}" for i in range(12)]
    run = scored(tmp_path, TinyDataset(12, bad=(3,), keys=keys, class_names=HOSTILE))
    evil = dict.fromkeys(("id", "name", "digest", "pooling", "licence", "paper", "family"), EVIL)
    run = edited(
        run, encoder=evil, dataset={"id": f"folder:/tmp/{EVIL}", "fingerprint": EVIL}, device=EVIL, precisions=[EVIL],
        versions={EVIL: EVIL}, created=EVIL, request={"encoder_id": EVIL, "dataset_id": EVIL},
        sample={"classes": [EVIL]},
    )  # fmt: skip
    twin = edited(scored(tmp_path, TinyDataset(12, class_names=HOSTILE), seed=1), encoder=evil)
    html = make_report([run, twin], made=MADE)
    test_it_is_whole_and_loads_nothing(html)
    page = Page(html)
    assert "<script>alert(1)</script>" in page.text and "{{7*7}}" in page.text and "${x}" in page.text
    assert not re.search("[\x00-\x08\x0b\x0e-\x1f\u202e]", html)
    assert all(set(attributes) <= {"src", "alt"} for attributes in page.tags("img"))
    html.encode()


def test_no_folder_of_this_machine_is_told(runs: list[Run], home: Path, html: str) -> None:
    secret = "/home/somebody/my pictures/birds"
    shutil.copytree(runs[0].path, home / "moved")
    request = {"encoder_id": "file:/home/somebody/nets/vit.safetensors", "dataset_id": f"folder:{secret}"}
    run = edited(
        store.open_run(home / "moved"),
        dataset={"id": request["dataset_id"]},
        encoder={"id": request["encoder_id"]},
        request=request,
    )
    told = make_report([run], made=MADE)
    assert "folder:…/birds" in told and "file:…/vit.safetensors" in told and "--dataset=folder:…/birds" in told
    for text in (told, html):
        assert not re.search("somebody|my pictures", text)
        assert str(home) not in text and str(Path.home()) + "/" not in text
    shutil.rmtree(home / "moved")


def test_words_lose_their_folders() -> None:
    assert public_id(r"folder:C:\Users\me\birds") == "folder:…/birds"
    assert public_id("folder:birds") == "folder:birds" and public_id("torchvision:DTD:test") == "torchvision:DTD:test"
    assert without_folders("Cannot read /a/b c/d.png.", ["/a/b c"]) == "Cannot read …/d.png."
    assert without_folders(r"C:\Users\me\d.png is gone") == "…/d.png is gone"
    assert without_folders("cat/0001.png, 1/2, https://a.b/c/d") == "cat/0001.png, 1/2, https://a.b/c/d"
    assert printable("a\u00a0b\tc\ud800\u202e👩\u200d🔬") == "a\u00a0b c��👩\u200d🔬"


def test_an_empty_run_is_said_to_be_empty(tmp_path: Path, runs: list[Run]) -> None:
    empty = scored(tmp_path, TinyDataset(2, bad=(0, 1)))
    page = Page(make_report([empty], made=MADE))
    assert "no image of this run has a score yet" in page.text and not page.tags("figure") and not page.numbers()
    assert "2 images without a score" in page.text
    both = Page(make_report([empty, *runs[:1]], made=MADE))
    assert "no image of this run has a score yet" in both.text and len(both.tags("figure")) == 3


def test_one_image_is_enough(tmp_path: Path, runs: list[Run]) -> None:
    single = scored(tmp_path, TinyDataset(1))
    page = Page(make_report([runs[1], single], made=MADE))
    assert "AUROC" not in page.text and len(page.tags("figure")) == 3


def test_what_cannot_be_reported_is_one_sentence(tmp_path: Path, runs: list[Run]) -> None:
    (tmp_path / "broken-0000000000").mkdir()
    (tmp_path / "broken-0000000000" / "run.json").write_text("{")
    with pytest.raises(RunError, match="broken-0000000000 cannot be shown"):
        make_report([store.open_run("broken-0000000000", tmp_path)])
    with pytest.raises(RunError, match="at least one run"):
        make_report([])
    with pytest.raises(RunError, match="sphere score is not available"):
        make_report(runs, rule=ScoreRule("sphere"))
    with pytest.raises(RunError, match=r"must end in \.html"):
        write_report(runs, tmp_path / "report.pdf")
    with pytest.raises(RunError, match="Cannot write"):
        write_report(runs, tmp_path / "no such folder" / "report.html")


@pytest.mark.parametrize("name", ["sphere", "corrected", "listing1"])
def test_other_conventions(name: str, runs: list[Run]) -> None:
    rule = ScoreRule(name)
    page = Page(make_report(runs[:2], rule=rule, made=MADE))
    expected = store.scores(runs[0], rule=rule)["score"]
    assert page.numbers()[0] == pytest.approx(expected.median())
    assert ("AUROC (95 %)" in page.text) == (name != "corrected")
    assert page.tags("figure")


def test_runs_of_one_dataset_are_told_apart(tmp_path: Path) -> None:
    runs = [scored(tmp_path, seed=seed, views=views) for seed, views in ((0, 1), (1, 1), (0, 2))]
    names = list(distinct_names(runs).values())
    assert names[2] == "blobs, 2 views" and len(set(names)) == 3
    assert names[:2] == [f"blobs · {run.name[-10:]}" for run in runs[:2]]


class Noise(TinyDataset):
    """Photographs that JPEG cannot compress: thumbnails are larger than any of the demo's."""

    def read(self, item):
        return Image.effect_noise((160, 160), 45).convert("RGB")


def test_pictures_keep_to_their_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [scored(tmp_path, Noise(16), seed=seed) for seed in range(2)]
    whole = make_report(runs, made=MADE)
    size = sum(len(image["src"]) for image in Page(whole).tags("img"))
    monkeypatch.setattr(strips, "IMAGE_BYTES", size // 2)  # of six strips: two of whole runs, and one of a class
    small = make_report(runs, made=MADE)
    assert sum(len(image["src"]) for image in Page(small).tags("img")) < size // 2 + 40 * 72
    assert re.findall(r"<h4>(\w+)", small) == ["All", "cat", "All"] and small.index("--classes")
    assert re.findall(r"<h4>(\w+)", whole) == ["All", "cat", "dog"] * 2 and "--classes" not in whole


def test_eight_runs_of_large_thumbnails_stay_below_five_megabytes(tmp_path: Path) -> None:
    run = scored(tmp_path, Noise(24))
    runs = []
    for number in range(8):
        shutil.copytree(run.path, tmp_path / f"run-{number:010d}")
        runs.append(edited(store.open_run(tmp_path / f"run-{number:010d}"), dataset={"id": f"demo:set{number}"}))
    html = make_report(runs, made=MADE)
    assert 2_500_000 < len(html.encode()) < 5_000_000 and html.count("All of set") == 8


def test_the_same_runs_give_the_same_report(runs: list[Run], html: str) -> None:
    assert make_report([*runs, runs[0]], made=MADE) == html  # a run named twice is one run


def test_the_command_writes_the_file(runs: list[Run], home: Path, tmp_path: Path) -> None:
    from jepascore_core.__main__ import app

    target = tmp_path / "report.html"
    words = ["report", *(run.name for run in runs[:2]), "--runs-dir", str(home), "--n", "3", "--classes", "cat"]
    done = CliRunner().invoke(app, [*words, "--out", str(target)])
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1] == str(target) and re.search(r"\d\.\d MB", done.stderr)
    page = Page(target.read_text())
    assert "--classes cat --n 3" in page.text and len(page.tags("img")) == 2 * 2 * 6


def test_figures_and_reports_do_not_wait_for_torch_nor_pages_for_matplotlib() -> None:
    code = (
        "import sys, jepascore_core.paper_layout; assert 'matplotlib' not in sys.modules\n"
        "import jepascore_core.paper_figure, jepascore_core.report; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)
