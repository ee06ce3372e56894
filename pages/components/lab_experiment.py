"""One experiment of the theory lab: trained while one watches, then judged against the truth (paper Fig. 2)."""

import pandas as pd
import streamlit as st

from jepascore_core.lab_plots import agreement_plot, density_plot, eigenvalue_plot, loss_plot, warped_plot
from jepascore_core.theory.encoder import LabConfig
from jepascore_core.theory.found import LabResult
from jepascore_core.theory.live import Experiment
from jepascore_core.theory.objectives import LAB_OBJECTIVES
from jepascore_core.theory.plane import Plane
from jepascore_core.theory.scores import ideal_projections
from pages.components import lab, lab_walk, lab_words
from pages.components.captions import chart
from pages.components.guard import card, guard, hide_status
from pages.components.text import column, count, duration, number, public_md, significant

POLL_S = 1.0


def draw() -> None:
    """The controls, then the training as it goes on, then what it found."""
    config, which = lab.pick_experiment()
    experiment = lab.shelf().watch(config, lab.watcher())
    if experiment.training.active:
        hide_status()
    if experiment.result is None:
        _follow(config)
        return
    _found(experiment, experiment.result, which)


def _follow(config: LabConfig) -> None:
    """The training, looked at again and again until it ends."""

    @st.fragment(run_every=POLL_S)
    def body() -> None:
        experiment = lab.shelf().watch(config, lab.watcher())
        if experiment.result is not None:
            st.rerun()
        with guard():
            _progress(experiment)
            _training(experiment)

    body()


def _progress(experiment: Experiment) -> None:
    """How far the training is, or why it ended."""
    work, steps = experiment.training, experiment.config.steps
    if work.state == "failed":
        st.error(public_md(work.message), icon=":material/error:")
        if st.button("Try again", icon=":material/refresh:", key="train_again"):
            lab.shelf().forget(experiment.config)
            st.rerun()
        return
    said = {
        "waiting": "Waiting for another experiment to end",
        "working": f"Training: step {count(work.done)} of {count(steps)}",
    }.get(work.state, "Starting again")
    if work.done == steps:
        said = "Trained; taking the Jacobians of the held-out points"
    left = ""
    if experiment.history and work.done < steps:
        left = f" :gray[about {duration(experiment.history[-1].elapsed_s / work.done * (steps - work.done))} left]"
    with st.container(gap="xxsmall"):
        st.markdown(f"**{said}**{left}")
        st.progress(work.done / steps)


def _training(experiment: Experiment) -> None:
    """Loss and the state of the embedding, live or at the end."""
    config, diagnosed = experiment.config, experiment.diagnosed
    with card("training"):
        left, middle, right = st.columns([5, 3, 4], gap="medium")
        with left:
            st.markdown("**Loss**")
            steps = [(s.step, s.loss, s.invariance, s.regulariser) for s in list(experiment.history)]
            frame = pd.DataFrame(steps, columns=["step", "loss", "invariance", "regulariser"])
            chart(loss_plot(frame, config.steps), key="lab_loss", alt="Loss and its two terms over the steps")
        with middle:
            st.markdown("**Covariance of the embedding**")
            eigenvalues = diagnosed.eigenvalues if diagnosed else None
            figure = eigenvalue_plot(eigenvalues or [])
            chart(figure, key="lab_eigenvalues", alt="Eigenvalues of the embeddings' covariance, ideally 1 each")
        with right:
            st.markdown("**Random projections of the embedding**")
            _projections(config, diagnosed.projections if diagnosed else None)
        st.caption(lab_words.training(config))


def _projections(config: LabConfig, projections: dict[str, float] | None) -> None:
    """Moments of random projections beside what they would be at the optimum."""
    on_sphere = LAB_OBJECTIVES[config.objective].on_sphere
    ideal = ideal_projections(config.embedding_dim if on_sphere else None)
    names = {"std": "standard deviation", "skewness": "|skewness|", "excess_kurtosis": "excess kurtosis", "ks": "KS"}
    shown = projections or {}
    facts = pd.DataFrame({
        "": list(names.values()),
        "here": column([number(shown.get(name), 2) for name in names]),
        "uniform on the sphere" if on_sphere else "Gaussian": column([number(ideal[name], 2) for name in names]),
    })
    st.table(facts, border="horizontal", hide_index=True, alt="Moments of random projections beside the ideal")


def _found(experiment: Experiment, result: LabResult, which: str) -> None:
    """The verdict, Figure 2 top left, the scatter and its numbers, Langevin samples, and how it was trained."""
    config = experiment.config
    st.markdown(lab_words.verdict(config, result.correlations, which))
    if result.plane is not None:
        with card("plane"):
            _plane(result.plane, result, which)
    left, right = st.columns([8, 5], gap="small")
    with left, card("agreement", height="stretch"):
        _agreement(result, which)
    with right, card("numbers", height="stretch"):
        _numbers(result)
    if result.plane is not None:
        with card("walk"):
            lab_walk.draw(experiment)
    _training(experiment)


def _plane(plane: Plane, result: LabResult, which: str) -> None:
    """Figure 2, top left: the density with ellipses, the score, the warped grid."""
    truth, score = result.truth, result.scores[which]
    shift = float(truth.mean() - score.mean())
    top = float(plane.log_density.max())
    left, middle, right = st.columns(3, gap="medium")
    with left:
        st.markdown("**True log p** :gray[with ellipses]")
        figure = density_plot(plane.axes, plane.log_density, top, points=plane.points, outlines=plane.ellipses)
        chart(figure, key="lab_truth", alt="True log-density with the data and the ellipses of the local expansion")
    with middle:
        st.markdown(f"**{_title(which)}** :gray[plus a constant]")
        figure = density_plot(plane.axes, plane.scores[which] + shift, top, name="score + constant")
        chart(figure, key="lab_score", alt="The score over the plane, on the same colour scale")
    with right:
        st.markdown(f"**Embedding** :gray[{'on the sphere' if plane.on_sphere else 'in the plane'}, warped grid]")
        figure = warped_plot(plane.warped, plane.circles, plane.embedded, on_sphere=plane.on_sphere)
        chart(figure, key="lab_warped", alt="A regular grid of the data plane as the encoder places it")
    st.caption(lab_words.plane(significant(plane.radius, 1), on_sphere=plane.on_sphere))


def _title(which: str) -> str:
    """A score's name as a heading."""
    name = lab_words.SCORE_NAMES[which]
    return f"{name[0].upper()}{name[1:]}"


def _agreement(result: LabResult, which: str) -> None:
    """Score against the true log-density, trained and untrained."""
    panels = {"Trained": which, "Untrained": f"untrained_{which}"}
    notes = {
        name: f"r = {number(result.correlations[f'{key}_pearson'])}, "
        f"ρ = {number(result.correlations[f'{key}_spearman'])}"
        for name, key in panels.items()
    }
    figure = agreement_plot(result.truth, {name: result.scores[key] for name, key in panels.items()}, notes)
    chart(figure, key="lab_agreement", alt="Score against true log-density, trained and untrained")
    st.caption(
        f"The {lab_words.SCORE_NAMES[which]}, on {count(len(result.truth))} held-out points; r is Pearson’s, "
        "ρ Spearman’s correlation. The dotted line is log p itself, moved to the median."
    )


def _numbers(result: LabResult) -> None:
    """Each score's correlations, trained and untrained, and the baseline without a network."""
    found = result.correlations
    kinds = ("pearson", "spearman")
    rows = [
        [name, *(f"{number(found[f'{name}_{kind}'])} ({number(found[f'untrained_{name}_{kind}'])})" for kind in kinds)]
        for name in lab.SCORES.values()
    ]
    rows.append(["one\u00a0Gaussian", *(number(found[f"gaussian_{kind}"]) for kind in kinds)])
    frame = pd.DataFrame(rows, columns=["", "Pearson (untrained)", "Spearman (untrained)"])
    st.markdown("**Correlation with the true log p**")
    st.table(frame, border="horizontal", hide_index=True, alt="Correlation of each score with the true log-density")
    st.caption(lab_words.numbers())
