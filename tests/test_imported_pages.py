"""Every page on a home that holds only imported runs: no images, perhaps no spectra, embeddings, classes or encoder."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from streamlit.testing.v1 import AppTest

from jepascore_core import packs, report, store
from jepascore_core.errors import RunError
from jepascore_core.importing import ImportRequest, import_file
from jepascore_core.paper_layout import paper_rows
from jepascore_core.runner import score_dataset
from jepascore_core.store import Run, ScoreRule
from jepascore_core.store.request import RunRequest
from tests.test_pages import HOSTILE, PAGES, galleries, opened, words

pytestmark = pytest.mark.usefixtures("served_before", "nothing_left_at_work")
N, D = 40, 6


def files(folder: Path) -> dict[str, Path]:
    """A file of scores with classes, one without, one of spectra, and one with embeddings too."""
    rng = np.random.default_rng(0)
    keys, sigma = [f"set/{place}.png" for place in range(N)], np.exp(rng.normal(size=(N, D)))
    scores = pd.DataFrame({"key": keys, "score": np.log(sigma).sum(1), "label": [*"ab"] * (N // 2)})
    scores.to_csv(folder / "scores.csv", index=False)
    scores[["score"]].to_csv(folder / "bare.csv", index=False)
    scores.assign(key=[f"{HOSTILE[0]}/{key}" for key in keys], label=HOSTILE[1]).to_csv(folder / "hostile.csv")
    np.savez(folder / "spectra.npz", **dict(zip(keys, sigma, strict=True)))
    embedded = {"key": keys, "sigma": list(sigma), "embedding": list(rng.normal(size=(N, D)))}
    pd.DataFrame(embedded).to_parquet(folder / "embedded.parquet")
    (folder / "one.jsonl").write_text('{"key": "only", "svdvals": [3, 2, 1]}\n{"key": "bad", "svdvals": [0, 0, 0]}')
    return {path.stem: path for path in folder.iterdir()}


HOMES = {
    "scores only": [("bare", "theirs", "birds")],
    "scores with classes": [("scores", "theirs", "birds"), ("scores", "theirs", "cats"), ("scores", "other", "birds")],
    "hostile": [("hostile", HOSTILE[0], HOSTILE[1])],
    "spectra only": [("spectra", "theirs", "birds"), ("spectra", "timm:made_up", "birds")],
    "embeddings": [("embedded", "theirs", "birds"), ("scores", "other", "birds")],
    "one image": [("one", "theirs", "birds")],
}


@pytest.fixture(autouse=True)
def no_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JEPASCORE_DEMO", "0")


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found = files(tmp_path_factory.mktemp("files"))
    made = {}
    for name, wanted in HOMES.items():
        made[name] = tmp_path_factory.mktemp("home")
        for file, encoder, dataset in wanted:
            import_file(ImportRequest(found[file], encoder, dataset), made[name] / "runs")
    return made


@pytest.fixture
def home(request: pytest.FixtureRequest, homes: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("JEPASCORE_HOME", str(homes[request.param]))
    return str(request.param)


of_scores = pytest.mark.parametrize("home", ["scores with classes"], indirect=True)
of_spectra = pytest.mark.parametrize("home", ["spectra only"], indirect=True)


def calm(at: AppTest) -> str:
    """What a page says, which is no error."""
    assert not at.exception
    assert not at.error, [element.value for element in at.error]
    assert not at.get("skeleton")
    return words(at)


SHOWN = {
    "scores only": tuple(PAGES),
    "spectra only": tuple(PAGES),
    "scores with classes": ("Distributions", "Map"),
    "embeddings": ("Compare encoders", "Map"),
    "hostile": ("Overview", "Class extremes", "Singular vectors"),
    "one image": ("Distributions", "Class extremes", "Map"),
}


@pytest.mark.parametrize(
    ("home", "page"), [(home, page) for home, pages in SHOWN.items() for page in pages], indirect=["home"]
)
def test_every_page_shows_what_it_can(page: str, home: str) -> None:
    text = calm(at := opened(page))
    if page in ("Overview", "Class extremes"):
        tile = galleries(at)[0]["rows"][0]["cells"][0][0]
        assert tile["src"] == "" and tile["name"] and tile["badge"] and " ± " not in tile["tip"]
    if page == "Distributions":
        assert at.get("plotly_chart") and "brightness" not in text
    if page == "Map":
        assert ("without embeddings" in text) == (home != "embeddings")
    if page == "Singular vectors":
        assert "Neither the images nor the encoder" in text or home == "spectra only"
        given = home in ("scores only", "scores with classes", "hostile")
        assert ("imported as scores, without spectra" in text) == given


@pytest.mark.parametrize("home", ["scores only", "spectra only"], indirect=True)
@pytest.mark.parametrize("part", ["Spectrum", "Patches", "Vectors", "Neighbours", "Encoders", "Origin"])
def test_the_drawer_says_what_is_missing(part: str, home: str) -> None:
    run = store.list_runs()[0]
    text = calm(at := opened("Class extremes", image=store.scores(run)["key"].iloc[0], of=run.name, part=part))
    assert "No image: the run was imported from" in text
    assert at.metric[0].label == ("Imported score" if store.is_given(run) else "JEPA-SCORE (nats)")
    if part in ("Patches", "Vectors"):
        assert "the image and the encoder" in text


@of_scores
def test_a_convention_that_needs_spectra_is_explained(home: str) -> None:
    text = calm(opened("Distributions", score="Listing 1, ε 1e−4"))
    assert "imported as scores" in text and "Shown is the raw score" in text
    assert "in the unit of its file" in text


@of_spectra
def test_another_convention_of_spectra_is_shown(home: str) -> None:
    text = calm(opened("Distributions", score="Listing 1, ε 1e−2"))
    assert "Listing 1" in text and "Shown is the raw score" not in text


@of_scores
def test_imported_runs_of_one_name_compare(home: str) -> None:
    assert "Spearman 1.000" in calm(opened("Compare encoders"))


@pytest.mark.parametrize("home", ["scores with classes", "hostile", "embeddings"], indirect=True)
def test_reports_are_written_and_say_where_the_numbers_come_from(home: str) -> None:
    runs = store.list_runs()
    page = report.make_report(runs)
    assert "mported from" in page and "SHA-256" in page and "unknown: the results were imported" in page


@of_scores
def test_there_is_no_figure_and_no_picture_of_imported_runs(home: str, tmp_path: Path) -> None:
    runs = store.list_runs()
    with pytest.raises(RunError, match="without images"):
        paper_rows(runs)
    for kind in ("zip-images", "zip-thumbnails"):
        with pytest.raises(RunError, match="No image can be exported"):
            packs.pack(packs.select(runs[:1]), kind, tmp_path / "a.zip")


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run, Run]:
    """A run of ours and an import of its scores, shuffled, under the names of the encoder and the dataset."""
    home = tmp_path_factory.mktemp("known")
    request = RunRequest("demo:jepa-tiny", "demo:digits", per_class=1, device="cpu")
    ours = score_dataset(request, runs_dir=home / "runs")
    rows = pa.Table.from_batches(list(store.exports.stream(ours, ["key", "singular_values"]))).to_pandas()
    rows.sample(frac=1, random_state=0).to_parquet(home / "spectra.parquet")
    theirs, _ = import_file(ImportRequest(home / "spectra.parquet", "demo:jepa-tiny", "demo:digits"), home / "runs")
    return home, ours, theirs


@pytest.fixture
def on_known(known: tuple[Path, Run, Run], monkeypatch: pytest.MonkeyPatch) -> tuple[Run, Run]:
    monkeypatch.setenv("JEPASCORE_HOME", str(known[0]))
    return known[1], known[2]


def test_images_and_encoder_are_found_where_their_names_are_known(on_known: tuple[Run, Run]) -> None:
    theirs = on_known[1]
    labels = opened("Singular vectors").selectbox(key="run").options
    text = calm(at := opened("Singular vectors", run=next(label for label in labels if theirs.name[-10:] in label)))
    assert "the pictures show the encoder of its name" in text and "Right singular vectors" in text
    assert at.get("imgs") or at.get("image")


def test_the_same_images_are_exported(on_known: tuple[Run, Run], tmp_path: Path) -> None:
    packed = packs.pack(packs.select([on_known[1]]), "zip-images", tmp_path / "a.zip")
    assert (packed.images, packed.missing) == (10, 0)


def test_an_import_compares_with_a_run_of_ours(on_known: tuple[Run, Run]) -> None:
    assert "Spearman 1.000" in calm(opened("Compare encoders"))
    ours, theirs = on_known
    for rule in (ScoreRule(), ScoreRule("listing1", 1e-2)):
        common = store.common_images([ours, theirs], rule)
        np.testing.assert_allclose(common.scores(0), common.scores(1), rtol=1e-6)


def importing_page() -> AppTest:
    at = opened("Score images")
    at.session_state["tab"] = "Import results"
    return at.run()


def test_a_file_is_imported_on_the_page(homes: dict[str, Path], tmp_path: Path) -> None:
    at = importing_page()
    assert "make a run" in calm(at)
    content = files(tmp_path)["scores"].read_bytes()
    at.file_uploader[0].upload("../their scores.csv", content).run()
    at.selectbox(key="import_encoder").select_index(0).run()
    at.selectbox(key="import_dataset").select_index(0).run()
    assert "40 rows\\, 40 with a score" in calm(at)
    assert store.list_runs() == []  # nothing is written before it is asked for
    at.button(key="import_now").click().run()
    assert "is imported" in calm(at)
    (run,) = store.list_runs()
    assert run.meta["imported"]["file"].endswith("their scores.csv") and run.progress().done == N
    assert at.get("page_link")


@pytest.mark.parametrize(("name", "content"), [("a.csv", b"key,loss\na,1\n"), ("a.npz", b"PK\x03\x04"), ("a.npy", b"")])
def test_a_bad_file_is_one_sentence(name: str, content: bytes) -> None:
    at = importing_page()
    at.file_uploader[0].upload(name, content).run()
    at.selectbox(key="import_encoder").select_index(0).run()
    at.selectbox(key="import_dataset").select_index(0).run()
    assert not at.exception and len(at.error) == 1 and not any(button.key == "import_now" for button in at.button)
    assert store.list_runs() == []
