"""Raw, sphere and corrected score out of stored rows, against the Jacobian itself in float64."""

import copy
import json
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor, nn

from jepascore_core import store
from jepascore_core.density import fit_gaussian
from jepascore_core.errors import RunError
from jepascore_core.runner import Hooks, score_work
from jepascore_core.store import Run, ScoreRule, gaussian, part_writer, parts
from tests.tiny import SIDE, D, TinyDataset, tiny_encoder, tiny_work

N, BAD = 30, 7
NAMED = ("raw", "sphere", "corrected")


def scored(home: Path, dataset: TinyDataset | None = None, **options) -> Run:
    encoder = tiny_encoder(**options.pop("encoder", {}))
    return score_work(
        tiny_work(home, dataset or TinyDataset(N, bad=(BAD,)), encoder, **options), Hooks(threading.Event())
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of several parts, one image of which is bad."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JEPASCORE_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setattr(part_writer, "_PART_ROWS", 8)
        return scored(tmp_path_factory.mktemp("runs"))


def jacobians(dataset: TinyDataset) -> tuple[Tensor, Tensor]:
    """J (N, D, P) and f(x) (N, D) of every readable image, by autograd in float64."""
    encoder = tiny_encoder()
    model = copy.deepcopy(encoder.model).double().eval()
    items = [item for item in dataset.items if item.index != BAD]
    images = [encoder.transform(dataset.read(item)).double() for item in items]
    by_image = [torch.func.jacrev(lambda x: model(x[None])[0])(image).flatten(1) for image in images]
    return torch.stack(by_image), torch.stack([model(image[None])[0] for image in images]).detach()


def direct(convention: str) -> Tensor:
    """The named score from the Jacobian."""
    jacobian, z = jacobians(TinyDataset(N, bad=(BAD,)))
    raw = torch.linalg.svdvals(jacobian).log().sum(1)
    if convention == "sphere":
        unit = nn.functional.normalize(z, dim=1)
        across = torch.eye(D).double() - unit.unsqueeze(2) * unit.unsqueeze(1)  # of x/‖x‖ at z, times ‖z‖
        return torch.linalg.svdvals(across @ jacobian / z.norm(dim=1).view(-1, 1, 1))[:, : D - 1].log().sum(1)
    return raw + fit_gaussian(z).log_density(z) if convention == "corrected" else raw


@pytest.mark.parametrize("convention", NAMED)
def test_stored_rows_give_the_named_scores(convention: str, run: Run) -> None:
    got = store.scores(run, rule=ScoreRule(convention))
    assert list(got["index"]) == [i for i in range(N) if i != BAD]
    np.testing.assert_allclose(got["score"], direct(convention), rtol=0, atol=2e-4)


@pytest.mark.parametrize("convention", ["sphere", "corrected"])
def test_every_question_follows_the_rule(convention: str, run: Run, tmp_path: Path) -> None:
    rule = ScoreRule(convention)
    ranked = store.scores(run, rule=rule).sort_values(["score", "key"])
    pages = [store.extremes(run, 10, rule=rule, offset=start)["key"].tolist() for start in (0, 10, 20)]
    assert [key for page in pages for key in page] == list(ranked["key"])
    assert store.extremes(run, 1, which="most", rule=rule)["key"][0] == ranked["key"].iloc[-1]
    low, high = ranked["score"].iloc[[4, 8]]
    assert list(store.extremes(run, 50, which="between", rule=rule, low=low, high=high)["key"]) == list(
        ranked["key"][4:9]
    )
    assert store.neighbours_of(run, ranked["key"].iloc[3], 2, rule=rule) == ranked["key"].iloc[5]
    assert store.percentile(run, ranked["score"].median(), rule=rule) == pytest.approx(50)
    medians = store.class_counts(run, rule=rule).set_index("class_name")["median"]
    np.testing.assert_allclose(medians, ranked.groupby("class_name")["score"].median())
    assert store.export(run, tmp_path / "out.parquet", rule=rule) == N
    written = pq.read_table(tmp_path / "out.parquet").to_pandas().dropna(subset="jepa_score")
    np.testing.assert_allclose(written["jepa_score"], ranked.sort_index()["score"])
    assert not ranked["score"].equals(store.scores(run)["score"])


def test_of_several_views_the_plain_image_counts(run: Run, tmp_path: Path) -> None:
    views = scored(tmp_path, views=3)
    for convention in ("sphere", "corrected"):
        expected = store.scores(run, rule=ScoreRule(convention))["score"]
        np.testing.assert_allclose(store.scores(views, rule=ScoreRule(convention))["score"], expected, atol=1e-4)


def test_a_linear_encoder_has_one_raw_score_and_a_corrected_one_of_a_gaussian(tmp_path: Path) -> None:
    torch.manual_seed(3)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, D))
    run = scored(tmp_path, TinyDataset(60), encoder={"model": linear})
    raw = store.scores(run)["score"]
    assert raw.max() - raw.min() < 1e-4
    z = np.stack(pq.read_table(parts.part_files(run.path)).sort_by("index")["embedding"].to_pylist())
    precision = np.linalg.inv(np.cov(z.T))
    distance = np.einsum("ni,ij,nj->n", z - z.mean(0), precision, z - z.mean(0))
    corrected = store.scores(run, rule=ScoreRule("corrected"))["score"]
    assert np.corrcoef(corrected, -distance)[0, 1] > 0.97  # shrinkage is all that differs


def test_fewer_embeddings_than_dimensions_are_shrunk(tmp_path: Path) -> None:
    few = store.fitted_gaussian(scored(tmp_path, TinyDataset(4)))
    assert (few.samples, few.dim) == (4, D) and few.shrinkage > 0
    assert np.isfinite(few.log_density["log_density"].to_numpy()).all()


def test_the_gaussian_is_fitted_once_for_each_version_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = scored(tmp_path)
    parts._looks.clear()  # a second after the last part, what is known of the folder may be older
    assert store.fitted_gaussian(run) is store.fitted_gaussian(run)
    monkeypatch.setattr(gaussian, "_FIT_NUMBERS", 1)
    before = store.fitted_gaussian(run)
    path = parts.part_files(run.path)[0]
    path.touch()
    parts._looks.clear()
    assert store.fitted_gaussian(run) is not before


def test_embeddings_come_as_stored(run: Run, tmp_path: Path) -> None:
    stored = pq.read_table(parts.part_files(run.path))["embedding"].drop_null().to_pylist()
    assert sorted(map(tuple, store.embeddings(run).tolist())) == sorted(map(tuple, stored))
    assert store.embeddings(run, limit=3).shape == (3, D)
    assert store.embeddings(changed(scored(tmp_path), without("embedding"))).shape == (0, 0)


def changed(run: Run, change) -> Run:
    """The run with its rows changed."""
    for path in parts.part_files(run.path):
        table = pq.ParquetFile(path).read()
        pq.write_table(change(table), path)
    return store.open_run(run.path)


def without(column: str):
    def change(table: pa.Table) -> pa.Table:
        place = table.schema.get_field_index(column)
        return table.set_column(place, table.field(place), pa.nulls(len(table), table.field(place).type))

    return change


@pytest.mark.parametrize(
    ("column", "convention"), [("sphere_term", "sphere"), ("embedding", "sphere"), ("embedding", "corrected")]
)
def test_a_run_that_lacks_a_column_says_so(column: str, convention: str, tmp_path: Path) -> None:
    run = changed(scored(tmp_path), without(column))
    sentence = store.why_not(run, ScoreRule(convention))
    assert sentence and f"The {convention} score is not available" in sentence and sentence.endswith(".")
    with pytest.raises(RunError, match="not available"):
        store.extremes(run, 3, rule=ScoreRule(convention))
    assert store.why_not(run, ScoreRule()) is None and len(store.scores(run)) == N - 1


def test_rows_without_a_sphere_term_are_left_out(tmp_path: Path) -> None:
    def change(table: pa.Table) -> pa.Table:
        place = table.schema.get_field_index("sphere_term")
        cells = table["sphere_term"].to_pylist()
        return table.set_column(place, table.field(place), pa.array([None, *cells[1:]], pa.float64()))

    run = changed(scored(tmp_path), change)
    assert len(store.scores(run, rule=ScoreRule("sphere"))) < len(store.scores(run))
    assert store.extremes(run, 99, rule=ScoreRule("sphere"))["score"].notna().all()


def test_null_directions_rule_the_sphere_score_out(tmp_path: Path) -> None:
    run = scored(tmp_path, encoder={"null_dim": 1})
    assert "1 direction by construction" in store.why_not(run, ScoreRule("sphere"))
    assert store.why_not(run, ScoreRule("corrected")) is None
    with pytest.raises(RunError, match="does not hold the part"):
        store.scores(run, rule=ScoreRule("sphere"))


def test_a_run_without_rows_is_empty_or_refused(tmp_path: Path) -> None:
    run = scored(tmp_path)
    for path in parts.part_files(run.path):
        path.unlink()
    assert store.scores(run, rule=ScoreRule("sphere")).empty
    assert "no embedding" in store.why_not(run, ScoreRule("corrected"))
    (run.path / "run.json").write_text(json.dumps({"format_version": 1}))
    assert "null dimension" in store.why_not(store.open_run(run.path), ScoreRule("corrected"))
