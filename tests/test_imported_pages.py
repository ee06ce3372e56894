"""Every page on a home that holds only imported runs: no images, perhaps no spectra, embeddings, classes or encoder."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from jepascore_core import store
from jepascore_core.importing import ImportRequest, import_file
from tests.test_pages import PAGES, opened, words

pytestmark = pytest.mark.usefixtures("served_before", "nothing_left_at_work")
N, D = 40, 6


def files(folder: Path) -> dict[str, Path]:
    """A file of scores with classes, one without, one of spectra, and one with embeddings too."""
    rng = np.random.default_rng(0)
    keys, sigma = [f"set/{place}.png" for place in range(N)], np.exp(rng.normal(size=(N, D)))
    scores = pd.DataFrame({"key": keys, "score": np.log(sigma).sum(1), "label": [*"ab"] * (N // 2)})
    scores.to_csv(folder / "scores.csv", index=False)
    scores[["score"]].to_csv(folder / "bare.csv", index=False)
    np.savez(folder / "spectra.npz", **dict(zip(keys, sigma, strict=True)))
    embedded = {"key": keys, "sigma": list(sigma), "embedding": list(rng.normal(size=(N, D)))}
    pd.DataFrame(embedded).to_parquet(folder / "embedded.parquet")
    return {path.stem: path for path in folder.iterdir()}


HOMES = {
    "scores only": [("bare", "theirs", "birds")],
    "scores with classes": [("scores", "theirs", "birds"), ("scores", "theirs", "cats"), ("scores", "other", "birds")],
    "spectra only": [("spectra", "theirs", "birds"), ("spectra", "timm:made_up", "birds")],
    "embeddings": [("embedded", "theirs", "birds"), ("scores", "other", "birds")],
}


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


everywhere = pytest.mark.parametrize("home", HOMES, indirect=True)


def errors(at: AppTest) -> list[str]:
    return [str(element.value) for element in at.error]


@everywhere
@pytest.mark.parametrize("page", PAGES)
def test_every_page_shows_what_it_can(page: str, home: str) -> None:
    at = opened(page)
    assert not at.exception and not errors(at)
    print(words(at))


@everywhere
@pytest.mark.parametrize("part", ["Spectrum", "Patches", "Vectors", "Neighbours", "Encoders", "Origin"])
def test_the_drawer_says_what_is_missing(part: str, home: str) -> None:
    run = store.list_runs()[0]
    key = store.scores(run)["key"].iloc[0]
    at = opened("Class extremes", image=key, of=run.name, part=part)
    assert not at.exception and not errors(at)
    print(words(at))
