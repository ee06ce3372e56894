"""Figures of the theory lab, and what they draw: known answers for ellipses, the map of the sphere, and the cells."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from jepascore_core import lab_plots
from jepascore_core.theory.encoder import LabConfig
from jepascore_core.theory.plane import broken, lambert, plane, tissot
from jepascore_core.theory.scores import SCORES, ideal_projections
from jepascore_core.theory.training import LabTraining

torch.set_num_threads(1)
GENERATOR = torch.Generator().manual_seed(0)


def on_sphere(n: int, around: tuple[float, float, float] | None = None, within: float = math.pi) -> torch.Tensor:
    """Points spread evenly over the unit sphere, or over a cap of it."""
    points = nn.functional.normalize(torch.randn(n, 3, generator=GENERATOR, dtype=torch.float64), dim=1)
    return points if around is None else points[points @ torch.tensor(around).double() > math.cos(within)]


@pytest.mark.parametrize("out", [2, 3])
def test_a_linear_encoders_ellipses_become_circles(out: int) -> None:
    linear = nn.Linear(2, out, bias=False).double()
    centres = torch.tensor([[0.0, 0.0], [3.0, -1.0]], dtype=torch.float64)
    outlines, radius = tissot(linear, centres, 1.0)  # type: ignore[arg-type]
    with torch.no_grad():
        lengths = (linear(outlines) - linear(centres).unsqueeze(1)).norm(dim=2)
    sigma = torch.linalg.svdvals(linear.weight.detach())
    assert torch.allclose(lengths, torch.tensor(radius).double().expand_as(lengths)) or radius / sigma[1] > 0.8
    reach = (outlines - centres.unsqueeze(1)).norm(dim=2)
    assert torch.allclose(reach.amax(1), (radius / sigma[1]).clamp(max=0.8).expand(2), atol=0.01)
    assert torch.allclose(reach.amin(1), (radius / sigma[0]).expand(2), rtol=0.02)


def test_ellipses_shrink_where_the_encoder_expands() -> None:
    class Cubic(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + x**3

    outlines, _ = tissot(Cubic(), torch.tensor([[0.0, 0.0], [0.5, 0.5]], dtype=torch.float64), 1.0)  # type: ignore[arg-type]
    inner, outer = ((outline - outline.mean(0)).norm(dim=1).mean() for outline in outlines)
    assert float(inner / outer) == pytest.approx(1.75)  # 1 + 3x² at 0 and 0.5


def test_a_collapsed_encoder_still_gives_finite_ellipses() -> None:
    flat = nn.Linear(2, 3, bias=False).double()
    with torch.no_grad():
        flat.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]))
    outlines, radius = tissot(flat, torch.zeros(1, 2, dtype=torch.float64), 1.0)  # type: ignore[arg-type]
    assert outlines.isfinite().all() and radius > 0
    assert outlines[0, :, 0].abs().max() < 0.2 and float(outlines[0, :, 1].abs().max()) == pytest.approx(0.8)
    assert tissot(flat, torch.zeros(0, 2, dtype=torch.float64), 1.0)[0].shape == (0, 33, 2)  # type: ignore[arg-type]


@pytest.mark.parametrize("centre", [(0.0, 0.0, 1.0), (1.0, 0.0, 0.0), (0.3, -0.5, -0.7), (0.0, 0.0, 0.0)])
def test_lamberts_projection_preserves_area(centre: tuple[float, float, float]) -> None:
    points = lambert(on_sphere(40_000), torch.tensor(centre))
    radius = points.norm(dim=1)
    assert float(radius.max()) <= 2 + 1e-9
    for reach in (0.5, 1.0, 1.5):  # evenly spread over the disc of radius 2
        assert float((radius < reach).double().mean()) == pytest.approx(reach**2 / 4, abs=0.012)
    quadrant = ((points[:, 0] > 0) & (points[:, 1] > 0)).double().mean()
    assert float(quadrant) == pytest.approx(0.25, abs=0.012)


def test_lamberts_projection_puts_the_centre_in_the_middle_and_its_opposite_on_the_rim() -> None:
    pole = torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64)
    assert torch.allclose(lambert(pole.unsqueeze(0), pole), torch.zeros(1, 2).double(), atol=1e-9)
    near = nn.functional.normalize(-pole + torch.tensor([0.0, 1e-3, 0.0]), dim=0)
    assert float(lambert(near.unsqueeze(0), pole).norm()) == pytest.approx(2.0, abs=1e-3)


def test_lines_break_where_they_jump() -> None:
    line = torch.tensor([[0.0, 0.0], [0.1, 0.0], [1.9, 0.0], [1.8, 0.0]])
    assert broken(line).isnan().any(1).tolist() == [False, False, True, False, False]
    assert len(broken(line[:2])) == 2


@pytest.mark.parametrize("objective", ["uniformity", "sigreg"])
@pytest.mark.parametrize("how", ["none", "collapsed"])
def test_a_plane_holds_what_the_figure_draws(objective: str, how: str) -> None:
    lab = LabTraining(LabConfig(objective=objective, broken=how, steps=2, samples=200, held_out=100))
    for _ in lab.run():
        pass
    drawn = plane(lab)
    at = torch.tensor([[drawn.axes[0, 5], drawn.axes[1, 9]]])
    assert drawn.log_density[9, 5] == pytest.approx(float(lab.mixture.log_density(at)))
    assert set(drawn.scores) == set(SCORES)
    assert all(np.isfinite(grid).all() for grid in drawn.scores.values())
    assert drawn.on_sphere == (objective == "uniformity")
    if drawn.on_sphere:
        assert np.nanmax(np.linalg.norm(np.concatenate(drawn.warped), axis=1)) <= 2 + 1e-6
    for figure in (
        lab_plots.density_plot(drawn.axes, drawn.log_density, -2.0, points=drawn.points, outlines=drawn.ellipses),
        lab_plots.warped_plot(drawn.warped, drawn.circles, drawn.embedded, on_sphere=drawn.on_sphere),
    ):
        assert json.loads(figure.to_json())
        assert figure.layout.yaxis.scaleanchor == "x"
    with pytest.raises(ValueError, match="two dimensions"):
        plane(LabTraining(LabConfig(dim=3, samples=50, held_out=10)))


def test_the_ideal_of_a_sphere_is_uniform_in_three_dimensions_and_gaussian_in_many() -> None:
    assert ideal_projections(3)["excess_kurtosis"] == pytest.approx(-1.2)  # of a uniform variable
    many = ideal_projections(4000)
    assert abs(many["excess_kurtosis"]) < 0.01 and many["ks"] < 0.001
    assert ideal_projections() == {"std": 1.0, "skewness": 0.0, "excess_kurtosis": 0.0, "ks": 0.0}


def test_cells_carry_their_number_and_interval() -> None:
    cells = pd.DataFrame(
        [(2, 1000, 3, 0.95, 0.9, 0.99), (8, 1000, 3, -0.051, -0.2, 0.1), (2, 100, 1, 0.4, None, None)],
        columns=["dim", "samples", "seeds", "mean", "low", "high"],
    )
    figure = lab_plots.correlation_heatmap(cells, [2, 8], [100, 1000])
    texts = {(note.y, note.x): note.text for note in figure.layout.annotations}
    assert len(texts) == 4
    assert "0.95" in texts["d = 2", "N = 1\u202f000"] and "0.90 to 0.99" in texts["d = 2", "N = 1\u202f000"]
    assert "−0.05" in texts["d = 8", "N = 1\u202f000"]  # a true minus
    assert "one seed" in texts["d = 2", "N = 100"]
    assert "–" in texts["d = 8", "N = 100"]
    (heatmap,) = figure.data
    assert np.isnan(np.asarray(heatmap.z, float)[1, 0]) and (heatmap.zmin, heatmap.zmax) == (-1, 1)
    assert json.loads(figure.to_json())


def test_the_walk_is_animated_from_start_to_end() -> None:
    draw = np.random.default_rng(0)
    paths = {"a": draw.normal(size=(4, 5, 2)), "b": draw.normal(size=(4, 5, 2))}
    figure = lab_plots.walk_plot(draw.normal(size=(5, 2)), paths, np.array([[-3.0, -3.0], [3.0, 3.0]]), 10)
    assert [frame.name for frame in figure.frames] == ["0", "10", "20", "30"]
    assert [list(frame.traces) for frame in figure.frames] == [[1, 2]] * 4
    assert np.allclose(figure.frames[0].data[1].x, paths["b"][0][:, 0], atol=0.01)
    assert np.allclose(figure.data[1].x, paths["a"][-1][:, 0])


def test_agreement_stands_around_the_medians_with_a_line_of_slope_one() -> None:
    truth = np.linspace(-9, -1, 50)
    figure = lab_plots.agreement_plot(
        truth, {"Trained": truth + 100, "Untrained": -truth}, {"Trained": "", "Untrained": ""}
    )
    dots, line = figure.data[:2]
    assert np.median(dots.y) == pytest.approx(0)
    assert np.allclose(np.interp(truth, line.x, line.y), dots.y)


@pytest.mark.parametrize("n", [0, 1, 700])
def test_losses_draw_at_any_length(n: int) -> None:
    frame = pd.DataFrame({"step": range(n)} | dict.fromkeys(("loss", "invariance", "regulariser"), 0.5))
    figure = lab_plots.loss_plot(frame, 600)
    names = [note.text for note in figure.layout.annotations]
    assert len(names) == (3 if n else 0)
    if n:  # three names at one height stand apart
        assert len({round(note.y, 6) for note in figure.layout.annotations}) == 3
    assert lab_plots.eigenvalue_plot([]).data and lab_plots.eigenvalue_plot([2.0, 0.0]).data
