"""Dimension × samples: how well a score follows log p over sizes of the problem (paper Fig. 2, top right)."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from jepascore_core import jobs, store
from jepascore_core.allowed import read_only
from jepascore_core.jobs import TheoryRequest
from jepascore_core.lab_plots import correlation_heatmap
from jepascore_core.theory.encoder import LabConfig
from jepascore_core.theory.grid import all_kept, grid, kept, summary
from pages.components import lab, live, pickers, work
from pages.components.captions import chart
from pages.components.guard import card, guard
from pages.components.text import count, duration, md, number, plural

SHOWN = {
    "Raw": "",
    "Sphere": "sphere_",
    "Corrected": "corrected_",
    "Untrained, raw": "untrained_raw_",
    "One Gaussian": "gaussian_",
}
KINDS = ("Pearson", "Spearman")
FIELDS = {f"{prefix}{kind.lower()}" for prefix in SHOWN.values() for kind in KINDS}
SCALES = ("1", "2", "4")
SIZES = ("2", "4", "8", "16", "32", "64")
COUNTS = ("100", "300", "1000", "3000", "10000", "30000")


def draw() -> None:
    """The controls, the heatmap and what it says, and the form that fills it."""
    pickers.tell_unknown({
        "objective": pickers.one_of(lab.OBJECTIVES),
        "break": pickers.one_of(lab.BREAKS),
        "ratio": pickers.one_of(SCALES),
        "of": pickers.one_of(SHOWN),
        "r": pickers.one_of(KINDS),
    })
    with st.container(horizontal=True):
        objective = lab.OBJECTIVES[lab.pick_objective()]
        broken = lab.BREAKS[lab.pick_break()]
        ratio = _pick_ratio()
        shown, kind = _pick_number()

    def results() -> None:
        _jobs()
        records = matching(_records(), objective, broken, ratio)
        with card("heatmap"):
            if records:
                _heatmap(records, shown, kind)
            else:
                _empty()

    live.live(results)
    if read_only():
        return
    with guard():
        _form(objective, broken, ratio)


def matching(records: Sequence[dict[str, Any]], objective: str, broken: str, ratio: float) -> list[dict[str, Any]]:
    """Records of one heatmap: only dimension, samples and seed differ; all else is as the form asks for."""
    chosen = {"objective": objective, "broken": broken, "scale_ratio": ratio}

    def fits(record: dict[str, Any]) -> bool:
        names = ("dim", "samples", "seed")
        cell: dict[str, Any] = {name: record.get(name) for name in names}
        return record.get("config") == asdict(LabConfig(**cell, **chosen))  # type: ignore[arg-type]

    return [record for record in records if fits(record) and record.keys() >= FIELDS]


def _records() -> list[dict[str, Any]]:
    """Every kept experiment; read again only when the folder changed."""
    home = store.runs_home(None)
    try:
        times = sorted((path.name, path.stat().st_mtime_ns) for path in (home / "theory").glob("*.json"))
    except OSError:
        times = []
    return _kept(str(home), hash(tuple(times)))


@st.cache_data(max_entries=8, show_spinner=False)
def _kept(home: str, version: int) -> list[dict[str, Any]]:
    return all_kept(Path(home))


def _pick_ratio() -> float:
    """Choose the mixtures' scale ratio; kept in the URL as ``ratio``."""
    with pickers.chip("Scale ratio", pickers.current_one("ratio", SCALES, "2")):
        ratio = st.segmented_control(
            "Scale ratio", SCALES, default="2", key="ratio", bind="query-params", required=True,
        )  # fmt: skip
        st.caption("Widest component of the mixture over the narrowest; 1 makes all of one volume.")
    return float(ratio if ratio in SCALES else "2")


def _pick_number() -> tuple[str, str]:
    """Choose whose correlation is shown, and which; kept in the URL as ``of`` and ``r``."""
    with pickers.chip("Score", pickers.current_one("of", list(SHOWN), "Raw")):
        shown = st.radio(
            "Score", list(SHOWN), key="of", bind="query-params",
            captions=[*lab.ABOUT_SCORES, "the same net before its first step", "fitted to the samples; no network"],
        )  # fmt: skip
    with pickers.chip("Correlation", pickers.current_one("r", KINDS, "Pearson")):
        kind = st.segmented_control(
            "Correlation", KINDS, default="Pearson", key="r", bind="query-params", required=True,
            help="Pearson asks for a straight line between score and log p; Spearman for the same order.",
        )  # fmt: skip
    return shown if shown in SHOWN else "Raw", kind if kind in KINDS else "Pearson"


def _jobs() -> None:
    """Grids at work, failed and stopped."""
    for job in jobs.list_jobs():
        if job.kind == "theory" and job.active:
            work.draw_at_work(job)
        elif job.kind == "theory" and job.state == "failed":
            work.draw_failed(job)
        elif job.kind == "theory" and job.state != "done":
            work.draw_resumable(job)


def _heatmap(records: Sequence[dict[str, Any]], shown: str, kind: str) -> None:
    """The numbers over dimension and samples, and what they say of the paper's claim."""
    field = f"{SHOWN[shown]}{kind.lower()}"
    dims, samples = (sorted({record[name] for record in records}) for name in ("dim", "samples"))
    cells = pd.DataFrame(summary(records, field), columns=["dim", "samples", "seeds", "mean", "low", "high"])
    left, right = st.columns([8, 4], gap="medium")
    with left:
        chart(correlation_heatmap(cells, dims, samples), key="lab_heatmap", alt=f"{kind} over dimension and samples")
        seeds = sorted({int(n) for n in cells["seeds"]}) or [0]
        over = plural(seeds[0], "seed") if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
        st.caption(
            f"{kind} of {_named(shown)} with the true log p on {count(records[0]['config']['held_out'])} held-out "
            f"points; mean and 95 % interval over {over}."
        )
    with right:
        st.markdown(
            "**The paper** claims that *in all cases* Gaussian embeddings make the net internalise the density."
        )
        st.markdown(f"**Here** {_reached(records, kind)}")


def _named(shown: str) -> str:
    """A score in the middle of a sentence."""
    return {
        "Raw": "the raw score, eq. (5),",
        "Untrained, raw": "the untrained net's raw score",
        "One Gaussian": "a single fitted Gaussian",
    }.get(shown, f"the {shown.lower()} score")


def _reached(records: Sequence[dict[str, Any]], kind: str) -> str:
    """What the raw score reaches over the grid, beside the untrained net and one Gaussian."""
    means = {
        name: {(c["dim"], c["samples"]): c["mean"] for c in summary(records, f"{prefix}{kind.lower()}")}
        for name, prefix in SHOWN.items()
    }
    raw = means["Raw"]
    if not raw:
        return "the raw score does not vary in any cell."
    low, high = min(raw.values()), max(raw.values())
    span = f"{number(low)}" if math.isclose(low, high, abs_tol=0.005) else f"{number(low)} to {number(high)}"
    told = [f"the raw score reaches {kind} {span}."]
    for name, words in (("Untrained, raw", "the untrained net"), ("One Gaussian", "one Gaussian without a network")):
        behind = [cell for cell, value in raw.items() if value < means[name].get(cell, -1) + 0.02]
        reach = [means[name][cell] for cell in raw if cell in means[name]]
        if reach:
            beaten = (
                "beaten everywhere"
                if not behind
                else f"not beaten in {count(len(behind))} of {plural(len(raw), 'cell')}"
            )
            told.append(
                f"{words[0].upper()}{words[1:]} reaches {number(min(reach))} to {number(max(reach))}: {beaten}."
            )
    best = max(("Sphere", "Corrected"), key=lambda name: sum(means[name].values()) / max(1, len(means[name])))
    lift = [means[best][cell] - raw[cell] for cell in raw if cell in means[best]]
    if lift and sum(lift) / len(lift) > 0.05:
        told.append(f"The {best.lower()} score, which adds what eq. (5) leaves out, does better.")
    return " ".join(told)


def _empty() -> None:
    """Before the first experiment of this kind."""
    with st.container(horizontal_alignment="center", gap="xxsmall"):
        st.space("small")
        st.markdown("**No experiment of this kind yet**", text_alignment="center")
        st.caption(
            "Each cell will be one training for each seed: how well the score follows log p at that dimension and "
            "number of samples." + ("" if read_only() else " Start a grid below; cells fill as they are done."),
            text_alignment="center",
        )
        st.space("small")


def _form(objective: str, broken: str, ratio: float) -> None:
    """Ask for a grid, say what it takes, and start it."""
    with card("grid_form"):
        st.markdown("**Run a grid** :gray[with the objective, the break and the scale ratio chosen above]")
        with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
            dims = st.pills(
                "Dimensions", SIZES, default=["2", "8", "32"], selection_mode="multi", key="grid_dims",
                help="Of the data; each is a row of the heatmap.",
            )  # fmt: skip
            samples = st.pills(
                "Samples", COUNTS, default=["1000", "10000"], selection_mode="multi", key="grid_samples",
                format_func=lambda text: count(int(text)), help="To train on; each is a column of the heatmap.",
            )  # fmt: skip
            seeds = st.number_input(
                "Seeds", 1, 10, 3, key="grid_seeds", width=110, help="Repetitions of each cell, for its interval.",
            )  # fmt: skip
            request = TheoryRequest(
                dims=tuple(sorted(int(d) for d in dims if d in SIZES)),
                samples=tuple(sorted(int(n) for n in samples if n in COUNTS)),
                seeds=int(seeds), objective=objective, broken=broken, scale_ratio=ratio,
            )  # fmt: skip
            st.space("stretch")
            if st.button("Start", type="primary", icon=":material/play_arrow:", disabled=not request.experiments):
                jobs.start_theory(request)
                st.rerun()
        st.caption(_cost(request))


def _cost(request: TheoryRequest) -> str:
    """How many experiments are new, and about how long they take, by those that were run here."""
    if not request.experiments:
        return "Choose a dimension and a number of samples."
    home = store.runs_home(None)
    configs = grid(
        request.dims, request.samples, request.seeds,
        objective=request.objective, broken=request.broken, scale_ratio=request.scale_ratio, steps=request.steps,
    )  # fmt: skip
    new = [config for config in configs if kept(config, home) is None]
    if not new:
        return f"All {plural(len(configs), 'experiment')} are here already; starting gives them back at once."
    told = f"{plural(len(new), 'new experiment')}" + (
        f", {len(configs) - len(new)} are here" if len(new) < len(configs) else ""
    )
    took = {record.get("dim"): float(record.get("elapsed_s") or 0) for record in _records()}
    if all(config.dim in took for config in new):
        return f"{md(told)}; about {duration(sum(took[config.dim] for config in new))} by those run before."
    return f"{md(told)}; seconds to a minute each. It runs in a process of its own: close this page, it goes on."
