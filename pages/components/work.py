"""Jobs at work and runs that stopped half-way: progress, cancel, resume, and results as they arrive."""

from collections.abc import Collection, Sequence

import streamlit as st

from jepascore_core import jobs
from jepascore_core.allowed import read_only
from jepascore_core.distribution_plots import histogram_plot
from jepascore_core.jobs import Job
from jepascore_core.store import Run, ScoreRule
from pages.components import live, loaders, pickers
from pages.components.captions import caption
from pages.components.curves import drawn_curves
from pages.components.gallery import Row, gallery
from pages.components.guard import card
from pages.components.inspector import pick, reopen
from pages.components.steady import steady
from pages.components.text import count, md, plural, public_md, shown

STOPPED = ("cancelled", "interrupted", "failed")


def draw() -> None:
    """All of it; called again and again while a job is at work."""
    reopen()
    listed = jobs.list_jobs()
    at_work = [job for job in listed if job.active]
    others = live.foreign_runs(at_work)
    for job in at_work:
        draw_at_work(job)
    for run in others:
        with card(f"other_{run.name}"):
            live.draw_run(run)
    for job in listed:
        if job.state == "failed":
            draw_failed(job)
    running = [found for job in at_work if (found := live.current_run(job))] + others
    _draw_stopped([job for job in listed if _can_go_on(job)], {run.name for run in running})
    arriving = [run for run in running if pickers.scored(run)]
    for run in (arriving or pickers.readable_runs())[:1]:
        _results(run, arriving=bool(arriving))


def _draw_stopped(ended: Sequence[Job], busy: Collection[str]) -> None:
    """Work that ended before its last image and that nobody is at: whole jobs first, then single runs."""
    covered = {name for job in ended for name in job.runs} | set(busy)
    stopped = [run for run in pickers.readable_runs(filled=False) if run.name not in covered and _stopped(run)]
    if ended or stopped:
        st.subheader("Not finished", anchor=False)
    for job in ended:
        draw_resumable(job)
    for run in stopped:
        _resumable(run)


def _can_go_on(job: Job) -> bool:
    """Whether a job was stopped with something left that no run's folder tells: later runs of several, or all."""
    several = job.kind in ("demo", "sensitivity")
    return job.state in ("cancelled", "interrupted") and (several or not job.runs)


def draw_resumable(job: Job) -> None:
    """A job that was stopped, and how to take it up again."""
    with card(f"ended_{job.id}"):
        left, middle, right = st.columns([7, 1, 1], vertical_alignment="center")
        behind = f" after {count(job.done)} of {plural(job.planned, 'experiment')}" if job.planned else ""
        left.markdown(f"**{md(live.title(job))}** :gray[{job.state}{behind}. {public_md(job.message)}]")
        if read_only():
            return
        resumed = middle.button("Resume", key=f"again_{job.id}", width="stretch")
        if resumed or right.button("Dismiss", key=f"dismiss_{job.id}", width="stretch"):
            if resumed:
                jobs.resume(job)
            else:
                jobs.dismiss(job)
            st.rerun()


def draw_at_work(job: Job) -> None:
    """A job at work, and how to cancel it."""
    with card(f"job_{job.id}"):
        left, right = st.columns([8, 1], vertical_alignment="center")
        with left:
            live.draw_progress(job)
        if not read_only() and right.button("Cancel", key=f"cancel_{job.id}", width="stretch"):
            jobs.cancel(job)
            st.rerun()


def draw_failed(job: Job) -> None:
    """Why a job failed."""
    left, right = st.columns([8, 1], vertical_alignment="center")
    why = job.message or "it failed, and the log in the runs folder says why."
    left.error(f"**{md(live.title(job))}**: {public_md(why)}", icon=":material/error:")
    if not read_only() and right.button("Dismiss", key=f"dismiss_{job.id}", width="stretch"):
        jobs.dismiss(job)
        st.rerun()


def _stopped(run: Run) -> bool:
    """Whether a run stopped before its end and can be taken up again."""
    return run.progress().state in STOPPED and isinstance(run.meta.get("request"), dict)


def _resumable(run: Run) -> None:
    progress = run.progress()
    with card(f"stopped_{run.name}"):
        left, right = st.columns([8, 1], vertical_alignment="center")
        behind = f"{count(progress.done + progress.failed)} of {plural(progress.planned, 'image')}"
        left.markdown(f"**{md(run.label)}** :gray[{progress.state} after {behind}. {public_md(progress.message)}]")
        if not read_only() and right.button("Resume", key=f"resume_{run.name}", width="stretch"):
            jobs.start(run.request())
            st.rerun()


def _results(run: Run, *, arriving: bool) -> None:
    """Histogram and extremes of one run, while it goes on and after."""
    st.subheader("Arriving now" if arriving else "Newest results", anchor=False)
    rule = ScoreRule()
    groups = [loaders.extremes(run, 7, which, rule) for which in ("least", "most")]
    note = f"{pickers.encoder_name(run)}, {plural(pickers.scored(run), 'image')}"
    gallery(
        [Row(pickers.dataset_name(run), note, groups, run.name)],
        key="arriving",
        columns=("least", "most"),
        on_pick=pick,
    )
    drawn = drawn_curves([run], rule, dots=0)
    if drawn and len(drawn[0].places) > 1:
        with card("arriving_histogram"):
            steady(
                lambda: histogram_plot([item.curve for item in drawn]), drawn[0].identity, key="arriving_chart",
                alt=f"Histogram of the scores of {run.label}", growing=arriving,
            )  # fmt: skip
            caption([run], [len(drawn[0].places)], rule)
    failures = loaders.failures(run)
    if len(failures):
        with st.expander(f"{plural(len(failures), 'image')} could not be scored"):
            failures["error"] = failures["error"].map(shown)
            st.dataframe(failures[["key", "error"]], hide_index=True, alt="Images without a score and why")
