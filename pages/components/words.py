"""The prose of the overview, and the states in which there is nothing to show."""

import streamlit as st

from jepascore_core import jobs
from jepascore_core.allowed import read_only as _read_only
from jepascore_core.view_policy import POLICY, POLICY_WORDS
from pages.components import live
from pages.components.guard import card
from pages.components.text import md, public_md

_WITHOUT_RUNS = ("Score images", "Theory lab")


def what_it_is() -> None:
    """The score in four sentences and one equation."""
    st.subheader("What the score says", anchor=False)
    st.markdown(
        "An encoder that is trained to spread its embeddings like a Gaussian must stretch space where its training "
        "data are dense and squeeze it where they are rare. The Jacobian of the encoder at an image measures that "
        "stretching, one singular value σₖ a direction:"
    )
    st.latex(r"\text{JEPA-SCORE}(x)=\sum_{k=1}^{\operatorname{rank} J_f(x)}\log\sigma_k\big(J_f(x)\big)")
    st.markdown(
        "In nats, eq. (5) of the paper; higher means *likelier under what the encoder learned*. "
        ":gray[Balestriero, Ballas, Rabbat and LeCun, “Gaussian Embeddings: How JEPAs Secretly Learn Your Data "
        "Density”.]"
    )


def what_it_is_not() -> None:
    """What a reader must not conclude."""
    st.subheader("What it does not mean", anchor=False)
    st.markdown(
        "- **Not a calibrated probability.** It is known up to a constant; only differences within one encoder count.\n"
        "- **Not comparable across encoders.** Embedding size, input size and scaling each shift it.\n"
        "- **Low need not mean outlier.** The direction has to be measured: on public benchmarks MetaCLIP is reported "
        "inverted, and larger DINOv2 models separate less than small ones. *Distributions* shows what holds here.\n"
        "- **Simple rivals are strong.** In the demo, mean brightness alone tells the sets apart about as well; "
        "the separation table sets it beside the score."
    )


def policy(name: str | None = None) -> str:
    """A policy of augmented views, by name and in words, Markdown; None is the one that new runs take."""
    known = {POLICY: POLICY_WORDS}
    name = name or POLICY
    return f"*{md(name)}*" + (f": {known[name]}" if name in known else "")


def read_only(text: str) -> None:
    """What a visitor cannot do here, said once and calmly; Markdown."""
    st.caption(f":material/lock: {text}")


def choose_images() -> None:
    """The way to the form that starts runs; nothing for visitors, who cannot."""
    if not _read_only() and st.button("Choose an encoder and images"):
        st.switch_page("pages/score_images.py")


def nothing_yet() -> None:
    """State of a page before the first result."""
    listed = live.scoring_jobs()
    if any(job.active for job in listed):
        st.skeleton(height=240)
        st.caption("The first images appear here within seconds.")
        return
    for job in listed[:1]:
        if job.state == "failed":
            st.error(public_md(job.message or "The last job failed."), icon=":material/error:")
    with card("empty", horizontal_alignment="center", gap="xsmall"):
        st.space("small")
        st.markdown("**No run to show yet**", text_alignment="center")
        st.caption("A run is one encoder over one dataset.", text_alignment="center")
        with st.container(horizontal=True, horizontal_alignment="center"):
            if _read_only():
                read_only("Runs are started by the owner of this dashboard.")
            elif st.button("Score the demo", icon=":material/play_arrow:"):
                jobs.start_demo()
                st.rerun()
            if not _read_only() and st.button("Choose an encoder and images", type="tertiary"):
                st.switch_page("pages/score_images.py")
        st.space("small")


def _about_scoring() -> str:
    return "Runs at work, and the newest results." if _read_only() else "Your own folder, or one picture dropped in."


def next_steps(*, have_runs: bool) -> None:
    """Where to go from here."""
    st.subheader("What to do next", anchor=False)
    steps = [
        ("pages/class_extremes.py", "Class extremes", "The least and most likely images of each class, side by side."),
        ("pages/distributions.py", "Distributions", "Is one dataset more familiar to the encoder than another?"),
        ("pages/singular_vectors.py", "Singular vectors", "What in an image carries its score."),
        ("pages/compare_encoders.py", "Compare encoders", "Do two encoders find the same images strange?"),
        ("pages/outliers.py", "Outliers", "Which method tells unusual images from usual ones?"),
        ("pages/map.py", "Map", "Which images lie together for the encoder."),
        ("pages/sensitivity.py", "Sensitivity", "Does the score notice blur, a strange class, a wrong label?"),
        ("pages/score_images.py", "Score images", _about_scoring()),
        ("pages/curation.py", "Curation", "Is keeping images by score better than keeping as many at random?"),
        ("pages/readiness.py", "Readiness", "How an encoder takes to a domain, beside runs it is at home in."),
        ("pages/theory_lab.py", "Theory lab", "Does the score follow a density that is known?"),
    ]
    with st.grid(4, min_column_width=180, gap="small"):
        for target, label, text in steps:
            with card(f"next_{label}", height="stretch", gap="xxsmall"):
                st.page_link(target, label=f"**{label}**", disabled=not have_runs and label not in _WITHOUT_RUNS)
                st.caption(text)
