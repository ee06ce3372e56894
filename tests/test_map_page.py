"""The Map page on a real tiny store: what is drawn, what is circled, and maps that are still being made."""

import base64
import json
import shutil
import threading
from pathlib import Path

import numpy as np
import plotly.io
import pytest
from streamlit.testing.v1 import AppTest

from jepascore_core import mapping, store
from jepascore_core.jobs import maps
from jepascore_core.mapping import Circled, make_map, scored_points
from jepascore_core.runner import Hooks, score_dataset, score_work
from jepascore_core.store import Run, ScoreRule
from jepascore_core.store.maps import MapRequest, map_file, write_map
from jepascore_core.store.request import RunRequest
from pages.components import circled, circled_address, map_controls
from tests.tiny import TinyDataset, tiny_work

pytestmark = pytest.mark.usefixtures("served_before", "nothing_left_at_work")
ROOT = Path(__file__).parent.parent
HOSTILE = ("<script>alert(1)</script> :cat: $x$ [a](b)", "**bold** :red[=cmd|'/c calc'!A1] \\ `tick`")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of one encoder, one of them with hostile names and failures, and one run of another encoder."""
    home = tmp_path_factory.mktemp("filled")
    runs = home / "runs"
    runs.mkdir()
    keys = [f"{HOSTILE[i % 2]}/{i}{'<b>' * (i % 3)}.png" for i in range(30)]
    hostile = TinyDataset(30, bad=(3, 8), keys=keys, class_names=HOSTILE)
    hostile.id = "folder:/hostile"
    score_work(tiny_work(runs, hostile), Hooks(threading.Event()))
    score_work(tiny_work(runs, TinyDataset(40)), Hooks(threading.Event()))
    score_dataset(RunRequest("demo:jepa-tiny", "demo:digits", per_class=2, device="cpu"), runs_dir=runs)
    return home


@pytest.fixture
def on_filled(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy, since pages keep maps beside the runs."""
    shutil.copytree(filled, tmp_path / "home")
    monkeypatch.setenv("JEPASCORE_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "runs"


def opened(**query: str | list[str]) -> AppTest:
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60).run()
    for name, value in query.items():
        at.query_params[name] = value
    return check(at.switch_page("pages/map.py").run())


def check(at: AppTest) -> AppTest:
    assert not at.exception
    assert not at.error, [error.value for error in at.error]
    return at


def words(at: AppTest) -> str:
    kinds = (at.title, at.markdown, at.caption, at.error, at.warning)
    return "\n".join(str(element.value) for kind in kinds for element in kind).replace("\\", "")


def figures(at: AppTest) -> list:
    return [plotly.io.from_json(chart.proto.spec) for chart in at.get("plotly_chart")]


def across(figure) -> np.ndarray:
    """Where the dots of a figure lie, x."""
    sent = figure.data[0].x  # as Plotly writes numbers for a browser
    return np.frombuffer(base64.b64decode(sent["bdata"]), sent["dtype"])


def galleries(at: AppTest) -> list[dict]:
    """What the gallery component was sent, of each map."""
    sent = [json.loads(element.proto.json) for element in at.get("bidi_component") if element.proto.json]
    return [data for data in sent if "rows" in data]


def run_of(label: str) -> Run:
    return next(run for run in store.list_runs() if run.label == label)


TINY, HOSTILE_RUN, DIGITS = "tiny · blobs", "tiny · hostile", "jepa-tiny · digits"


def test_runs_of_one_encoder_share_a_map(on_filled: Path) -> None:
    at = opened(runs=[TINY, HOSTILE_RUN])
    (figure,) = figures(at)
    assert len(across(figure)) == 68
    found = make_map(MapRequest(tuple(sorted(run_of(label).name for label in (TINY, HOSTILE_RUN)))))
    assert f"{100 * sum(found.share):.1f} % of the variance" in words(at)
    assert f"Trustworthiness **{found.trust:.2f}**" in words(at)
    assert "blobs (40 images), hostile (28 images)" in words(at) or "hostile (28 images), blobs (40 images)" in words(
        at
    )
    (data,) = galleries(at)
    assert "Lowest 5 % of the map: 4 images" in words(at)
    assert sum(len(row["cells"][0]) for row in data["rows"]) == 4


def test_encoders_have_a_map_each(on_filled: Path) -> None:
    at = opened(runs=[DIGITS, TINY])
    assert [len(across(figure)) for figure in figures(at)] == [20, 40]
    assert "each encoder has a map of its own" in words(at) and len(galleries(at)) == 2


def test_more_encoders_than_fit_are_told(on_filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(map_controls, "MOST_PANELS", 1)
    at = opened(runs=[DIGITS, TINY])
    assert len(figures(at)) == 1 and "Shown are the first 1 of 2" in words(at)


def test_the_address_restores_the_view(on_filled: Path) -> None:
    at = opened(runs=[TINY], colour="Class", dot="9", order="Most likely first", score="Listing 1, ε 1e−2")
    (figure,) = figures(at)
    assert figure.data[0].marker.size == 9 and "cat :gray[20]" in words(at) and "dog :gray[20]" in words(at)
    assert "Highest 5 % of the map: 2 images" in words(at) and "Listing 1, ε 1e−2, in nats" in words(at)
    (row,) = galleries(at)[0]["rows"]
    best = store.extremes(run_of(TINY), 2, which="most", rule=ScoreRule("listing1", 1e-2))
    assert [tile["id"].split("\n")[1] for tile in row["cells"][0]] == best["key"].tolist()
    assert "cat :gray[20]" in words(opened(runs=[TINY], colour="Class", classes=["cat", "nonsense"]))
    assert "other classes :gray[20]" in words(opened(runs=[TINY], colour="Class", classes=["cat"]))
    assert "blobs :gray[40]" in words(opened(runs=[TINY, HOSTILE_RUN], colour="Run"))


def test_an_address_that_means_nothing_shows_the_usual_view(on_filled: Path) -> None:
    at = opened(runs=[DIGITS], colour="Mood", projection="tSNE", neighbours="4", order="")
    assert "unknown projection, neighbours and colour" in words(at)
    assert "PCA of D = 16" in words(at) and figures(at)[0].data[0].marker.showscale
    check(opened(**dict.fromkeys(("colour", "projection", "neighbours", "order", "dot", "classes", "score"), "")))


def test_names_from_data_are_never_markup(on_filled: Path) -> None:
    for colour in map_controls.COLOURS:
        at = opened(runs=[HOSTILE_RUN], colour=colour)
        raw = "\n".join(str(element.value) for kind in (at.markdown, at.caption) for element in kind)
        assert "<script>" not in raw and ":red[=cmd" not in raw and ":cat:" not in raw and "**bold**" not in raw
        assert not any("<script>" in text or "<b>" in text for text in figures(at)[0].data[0].text)


def circle(at: AppTest, chosen: Circled) -> AppTest:
    corners = [",".join(str(value) for corner in zip(*area, strict=True) for value in corner) for area in chosen.areas]
    dots = [".".join(map(str, chosen.singles))] if chosen.singles else []
    at.query_params["circled"] = [f"1:pca:{text}" for text in corners + dots]
    return check(at.run())


def test_what_is_circled_is_shown_in_order_of_score(on_filled: Path) -> None:
    run = run_of(TINY)
    found = make_map(MapRequest((run.name,)))
    points = scored_points(found, [store.ranking(run)])
    middle = float(np.median(points.xy[:, 0]))
    right = points.xy[:, 0] > middle
    at = circle(opened(runs=[TINY]), Circled(areas=(((middle, 1e6), (-1e6, 1e6)),)))
    assert "Circled: 20 images" in words(at)
    (row,) = galleries(at)[0]["rows"]
    shown = [tile["id"].split("\n")[1] for tile in row["cells"][0]]
    assert set(shown) == {points.keys[i] for i in np.flatnonzero(right)}
    scores = store.scores(run).set_index("key")["score"]
    assert [scores[key] for key in shown] == sorted(scores[key] for key in shown)
    assert row["cells"][0][0]["src"].startswith("data:image/jpeg;base64,")
    cats = np.mean([points.class_names[code] == "cat" for code in points.class_codes[right]])
    assert f"cat {100 * cats:.0f} % (50 % of the map)" in words(at)
    next(button for button in at.button if button.label == "Select all").click().run()
    assert "20 images selected" in words(check(at))  # by the bar that tags and exports
    next(button for button in at.button if button.key == "clear_0").click().run()
    assert "Lowest 5 % of the map" in words(check(at)) and "20 images selected" in words(at)


def test_what_is_circled_survives_another_colour_and_not_another_map(on_filled: Path) -> None:
    at = circle(opened(runs=[TINY]), Circled(areas=(((-1e6, 1e6), (-1e6, 1e6)),)))
    assert "Circled: 40 images" in words(at) and len(figures(at)[0].layout.selections) == 1
    at.slider(key="dot").set_value(8).run()
    assert "Circled: 40 images" in words(check(at)) and len(figures(at)[0].layout.selections) == 1
    at.multiselect(key="runs").set_value([TINY, HOSTILE_RUN]).run()
    assert "Circled" not in words(check(at)) and "circled" not in at.query_params


@pytest.mark.parametrize(
    "text",
    [
        "1:pca:1,2",
        "1:pca:nan,0,1,1",
        pytest.param("1:pca:" + 5000 * "9", id="too many digits"),
        "1:pca:a,b,c,d",
        "1:pca:",
        "1:umap15:0,0,1,1",
        "x",
    ],
)
def test_an_address_that_circles_nothing(text: str, on_filled: Path) -> None:
    assert "Lowest 5 % of the map" in words(opened(runs=[TINY], circled=[text]))


def test_many_circled_images_come_in_steps(on_filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(circled, "SHOWN", 12)
    at = circle(opened(runs=[TINY]), Circled(areas=(((-1e6, 1e6), (-1e6, 1e6)),)))
    assert len(galleries(at)[0]["rows"][0]["cells"][0]) == 12
    next(button for button in at.button if button.label == "More of 40").click().run()
    assert len(galleries(check(at))[0]["rows"][0]["cells"][0]) == 24


def test_a_click_shows_the_images_around(on_filled: Path) -> None:
    at = circle(opened(runs=[TINY]), Circled(singles=(5,)))
    run = run_of(TINY)
    key = dict(zip(store.ranking(run).index, store.ranking(run).keys.to_pylist(), strict=True))[
        store.embedded(run)[0][5]
    ]
    assert "Around the clicked image: 24 images" in words(at)
    assert galleries(at)[0]["selected"] == f"{run.name}\n{key}"
    assert galleries(circle(opened(runs=[TINY]), Circled(singles=(999,))))[0:] == []


class Address(dict):
    """The address as Streamlit shows it to a page."""

    def get_all(self, name: str) -> list[str]:
        return list(self.get(name, []))


def test_selections_of_the_figure_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    address = Address()
    monkeypatch.setattr(circled.st, "session_state", {})
    monkeypatch.setattr(circled.st, "query_params", address)
    numbers, zeros = np.array([7, 5, 6]), np.zeros(3, np.int64)
    points = mapping.Points(numbers, zeros, zeros, np.zeros((3, 2)), zeros, zeros, zeros, ("",), list("abc"))
    lasso = {"x": [0, 1.00004, 1], "y": [0, 0, 1], "xref": "x", "yref": "y"}
    assert circled.before(0, "pca", "map", "red") == (Circled(), 0)
    assert not circled.after(0, {}, points)
    now = circled.after(0, {"lasso": [lasso], "points": [{"point_index": 1}]}, points)
    assert now == Circled(areas=(((0, 1, 1), (0, 0, 1)),)) and address == {"circled": ["1:pca:0,0,1,0,1,1"]}
    assert circled.before(0, "pca", "map", "red") == (Circled(), 0)  # the figure on the screen stays as it is
    assert circled.before(0, "pca", "map", "blue") == (now, 0)  # a new one is drawn with it,
    assert circled.after(0, {}, points) == now  # and knows nothing of it by itself
    clicked = circled.after(0, {"points": [{"point_index": 1}, {"point_index": 9}, {}]}, points)
    assert clicked == Circled(singles=(5,)) and address == {"circled": ["1:pca:5"]}
    address["circled"] = ["1:pca:0,0,1,0,1,1", "2:pca:7"]  # a person goes back
    assert circled.before(0, "pca", "map", "blue") == (now, 1)
    assert circled.after(0, {"points": [{"point_index": 1}]}, points) == Circled(singles=(5,))
    assert circled.after(0, {}, points) == Circled()  # a person has cleared it
    assert address == {"circled": ["2:pca:7"]}
    circled.after(0, {"box": [{"x": [0, 1], "y": [2, 3]}]}, points)
    address["circled"].append("1:umap15:6.7")  # of a map that is still being made
    assert circled.before(0, "pca", "other map", "red") == (Circled(), 1)
    assert circled.before(0, "umap15", "yet another", "red") == (Circled(singles=(6, 7)), 1)


def test_a_long_lasso_fits_an_address() -> None:
    turn = np.linspace(0, 2 * np.pi, 500)
    (area,) = circled_address.coarse(Circled(areas=((tuple(1e-3 * np.cos(turn)), tuple(np.sin(turn))),))).areas
    assert len(area[0]) == 48 and (area[0][0], area[1][0]) == (1e-3, 0) and np.hypot(*area).max() <= 1.001


def test_a_kept_umap_is_shown_at_once(on_filled: Path) -> None:
    request = MapRequest((run_of(TINY).name,), "umap", 5)
    found = make_map(MapRequest(request.runs))
    found = mapping.RunMap(request, found.codes, found.index, found.xy[:, ::-1], found.dim, None, 0.875, 3.0)
    write_map(map_file(request, on_filled), found)
    at = opened(runs=[TINY], projection="UMAP", neighbours="5")
    assert "UMAP of D = 5, 5 neighbours, seed 0" in words(at) and "**0.88**" in words(at)
    assert "Distances on a UMAP map are not distances in the embedding" in words(at)
    np.testing.assert_array_equal(np.sort(across(figures(at)[0])), np.sort(found.xy[:, 0]))


def test_pca_is_shown_while_umap_is_made_and_cancelled(on_filled: Path) -> None:
    at = opened(runs=[TINY], projection="UMAP")
    assert "UMAP of tiny (40 images, 1 s so far) is being made" in words(at) and "PCA of D = 5" in words(at)
    request = MapRequest((run_of(TINY).name,), "umap")
    assert maps.make(request).since_s is not None
    next(button for button in at.button if button.label == "Cancel").click().run()
    assert "is being made" not in words(check(at)) and at.radio(key="projection").value == "PCA"
    assert not maps.at_work(on_filled / ".maps")


def test_why_there_is_no_umap_is_told(on_filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maps, "make", lambda request, **_: maps.Making(problem="<b>no</b> memory."))
    forgotten: list[MapRequest] = []
    monkeypatch.setattr(maps, "forget", lambda request, **_: forgotten.append(request))
    at = opened(runs=[TINY], projection="UMAP")
    assert "UMAP of tiny: <b>no</b> memory. Shown is PCA." in words(at)
    next(button for button in at.button if button.label == "Try again").click().run()
    assert forgotten == [MapRequest((run_of(TINY).name,), "umap")]


def test_a_handful_of_images_has_a_pca_and_no_umap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JEPASCORE_HOME", str(tmp_path))
    score_work(tiny_work(store.runs_home(), TinyDataset(1)), Hooks(threading.Event()))
    at = opened(projection="UMAP")
    assert "UMAP needs at least 10 images; tiny has 1" in words(at) and "Lowest 5 % of the map: 1 image" in words(at)
    assert "Trustworthiness" not in words(at) and len(across(figures(at)[0])) == 1


def test_nothing_chosen_is_a_calm_page(on_filled: Path) -> None:
    at = opened()
    at.multiselect(key="runs").set_value([]).run()
    assert "Choose a run above" in words(check(at)) and not figures(at)


def test_a_browser_without_webgl_gets_vector_graphics(on_filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pages.components import embedding_map

    monkeypatch.setattr(embedding_map.map_plots, "SVG_DOTS", 10)
    assert figures(opened(runs=[TINY]))[0].data[0].type == "scattergl"
    monkeypatch.setattr(embedding_map, "_no_webgl", lambda: True)
    monkeypatch.setattr(embedding_map.map_plots, "MOST_SVG_DOTS", 15)
    at = opened(runs=[TINY])
    assert figures(at)[0].data[0].type == "scatter" and len(across(figures(at)[0])) == 15
    assert "This browser has no WebGL, so that 15 dots are drawn of 40" in words(at)


def test_a_sample_says_so(on_filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pages.components import embedding_map

    for module in (embedding_map, mapping):
        monkeypatch.setattr(module, "MOST_IMAGES", 20)
    at = opened(runs=[TINY], score="Corrected")
    assert "Mapped are 20 of 40 images: the first of each run, a seeded sample" in words(at)
