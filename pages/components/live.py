"""Work in progress on every page: start the demo once, follow running jobs, redraw as results arrive."""

import os
from collections.abc import Callable, Sequence

import streamlit as st

from jepascore_core import jobs, store
from jepascore_core.allowed import read_only
from jepascore_core.jobs import Job
from jepascore_core.store import Run
from jepascore_core.store.request import short_name
from pages.components import pickers
from pages.components.guard import card, guard, hide_status
from pages.components.text import count, duration, md, number, plural, public_md

POLL_S = 1.5


def start_demo_once() -> None:
    """Score the demo when there is nothing at all to show, unless ``JEPASCORE_DEMO=0`` or read-only."""
    wanted = os.environ.get("JEPASCORE_DEMO", "1") != "0" and not read_only()
    if wanted and not store.list_runs() and not scoring_jobs():
        jobs.start_demo()


def scoring_jobs() -> list[Job]:
    """Jobs that make runs, newest first."""
    return [job for job in jobs.list_jobs() if job.kind != "theory"]


def active_jobs() -> list[Job]:
    """Jobs that are at work or waiting for the device."""
    return [job for job in jobs.list_jobs() if job.active]


def foreign_runs(working: Sequence[Job]) -> list[Run]:
    """Runs at work that no listed job started, such as from the command line or another machine."""
    mine = {name for job in working for name in job.runs}
    return [run for run in store.list_runs() if not run.problem and run.name not in mine and run.progress().active]


def live(draw: Callable[[], None]) -> None:
    """Draw, and while a job is at work draw again whenever its rows change."""
    before = _signature()
    working = before[1]
    if working:
        hide_status()

    @st.fragment(run_every=POLL_S if working else None)
    def body() -> None:
        if _signature() != before:
            st.rerun()
        with guard():
            draw()

    body()


def banner() -> None:
    """Progress of the running jobs, at the head of a page; nothing when all is quiet."""
    if not _signature()[1]:
        return

    @st.fragment(run_every=1.0)
    def body() -> None:
        working = active_jobs()
        others = foreign_runs(working)
        if not working and not others:
            st.rerun()
        with guard(), card("progress", gap="xsmall"):
            for job in working:
                draw_progress(job)
            for run in others:
                draw_run(run)

    body()


def draw_progress(job: Job) -> None:
    """One job: what it does, how far it is, how fast, and how long it will take."""
    if job.kind == "theory":
        _draw_theory(job)
        return
    run = current_run(job)
    if run is None or job.state != "scoring":
        st.markdown(f"**{md(title(job))}** :gray[{public_md(job.message or job.state)}]")
        st.progress(0.0)
        return
    draw_run(run)


def _draw_theory(job: Job) -> None:
    """A grid of experiments: how many are there, which one is in work."""
    facts = [job.message or job.state]
    if job.planned:
        facts.insert(0, f"{count(job.done)} of {plural(job.planned, 'experiment')}")
    if job.eta_s is not None:
        facts.append(f"about {duration(job.eta_s)} left")
    st.markdown(f"**{md(title(job))}** :gray[{public_md(' · '.join(facts))}]")
    st.progress(min(1.0, job.done / max(1, job.planned)))


def draw_run(run: Run) -> None:
    """One run: how far it is, how fast, and how long it will take."""
    progress = run.progress()
    done, planned = progress.done + progress.failed, max(1, progress.planned)
    facts = [f"{count(done)} of {count(planned)} images"]
    if progress.images_per_s:
        facts.append(f"{number(progress.images_per_s, 1)} images/s")
    if progress.eta_s is not None:
        facts.append(f"{duration(progress.eta_s)} left")
    if progress.failed:
        facts.append(f"{count(progress.failed)} could not be read")
    if run.meta.get("jacobian_path") == "generic":
        facts.append("no fast path for this architecture")
    st.markdown(f"**Scoring {md(run.label)}** :gray[{' · '.join(facts)}]")
    st.progress(min(1.0, done / planned))


def title(job: Job) -> str:
    """What a job is about: its encoder and its dataset, or its grid of experiments."""
    if job.kind == "theory":
        asked = job.request or {}
        dims, samples = (", ".join(count(n) for n in asked.get(name, ())) for name in ("dims", "samples"))
        return f"Theory lab · {asked.get('objective', '')}, d = {dims}; N = {samples}"
    if job.kind == "demo" or not job.request:
        return "The demo"
    if job.kind == "sensitivity":
        return f"{str(job.request.get('experiment', '')).capitalize()} of {job.request.get('run', '')}"
    return f"{short_name(job.request['encoder_id'])} · {short_name(job.request['dataset_id'])}"


def current_run(job: Job) -> Run | None:
    """The run that a job works on now: the newest it has named."""
    for name in reversed(job.runs):
        try:
            return store.named_run(name)
        except Exception:
            continue
    return None


def _signature() -> tuple[tuple[tuple[str, bool], ...], bool]:
    """What decides whether the whole page must run again: which runs can be shown, and whether any is at work."""
    runs = tuple(sorted((run.name, bool(pickers.scored(run))) for run in store.list_runs()))
    working = active_jobs()
    return runs, bool(working or foreign_runs(working))
