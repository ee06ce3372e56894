"""Langevin samples of an experiment in two dimensions, animated beside the data (paper Fig. 2, bottom)."""

import pandas as pd
import streamlit as st

from jepascore_core.lab_plots import walk_plot
from jepascore_core.theory.found import LabWalk
from jepascore_core.theory.live import WALK_STEPS, WALKERS, Experiment
from jepascore_core.theory.objectives import LAB_OBJECTIVES
from pages.components import lab, lab_words
from pages.components.captions import chart
from pages.components.guard import guard
from pages.components.text import column, count, number, public_md

POLL_S = 1.0


def draw(experiment: Experiment) -> None:
    """A button, then progress, then the samples and their distance from the data."""
    working = experiment.sampling is not None and experiment.sampling.active

    @st.fragment(run_every=POLL_S if working else None)
    def body() -> None:
        lab.shelf().watch(experiment.config, lab.watcher())
        now = experiment.sampling
        if working and now is not None and not now.active:
            st.rerun()
        with guard():
            st.markdown("**Langevin samples** :gray[the gradient of the score instead of the true one]")
            if experiment.walk is not None:
                _samples(experiment, experiment.walk)
            elif now is not None and now.active:
                st.caption(f"{count(now.done)} of {count(2 * WALK_STEPS)} steps, half of them with the exact gradient.")
                st.progress(min(1.0, now.done / (2 * WALK_STEPS)))
            else:
                _ask(experiment)

    body()


def _ask(experiment: Experiment) -> None:
    """What will be done, and the button that does it."""
    if experiment.sampling is not None and experiment.sampling.message:
        st.error(public_md(experiment.sampling.message), icon=":material/error:")
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button("Draw samples", icon=":material/play_arrow:", key="draw_samples"):
            lab.shelf().sample(experiment)
            st.rerun()
        st.caption(
            f"{count(WALKERS)} points start anywhere in a box and follow the gradient of the score, with noise, for "
            f"{count(WALK_STEPS)} steps. If the score is the density, they end up like the data. A few seconds."
        )


def _samples(experiment: Experiment, walk: LabWalk) -> None:
    """The animation, the verdict and its numbers."""
    on_sphere = LAB_OBJECTIVES[experiment.config.objective].on_sphere
    kind = lab_words.SCORE_NAMES["raw" if on_sphere else "corrected"]
    st.markdown(lab_words.walk(walk.tests, kind))
    paths = {"gradient of the score": walk.paths["score"], "exact gradient": walk.paths["exact"]}
    figure = walk_plot(walk.data, paths, walk.box, walk.every)
    chart(figure, key="lab_samples", alt="Held-out data beside Langevin samples of the score and the exact gradient")
    left, right = st.columns([6, 5], gap="medium", vertical_alignment="bottom")
    names = {"uniform": "uniform start", "score": "the score's samples", "exact": "the exact gradient's"}
    tests = [walk.tests[name] for name in names]
    frame = pd.DataFrame({
        "": list(names.values()),
        "energy distance": column([number(test.distance, 3) for test in tests]),
        "95 % of chance": column([number(test.null_95, 3) for test in tests]),
        "p": column([number(test.p_value, 3) for test in tests]),
    })
    left.table(frame, border="horizontal", hide_index=True, alt="Energy distance of each sample from the data")
    right.caption(
        f"Energy distance from {count(len(walk.data))} held-out points, in units of the data. Chance: both samples "
        f"shuffled together 200 times. Drawn in {number(walk.elapsed_s, 0)} s, {count(WALK_STEPS)} steps each."
    )
