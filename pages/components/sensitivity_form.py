"""Runs that an experiment lacks: which, what they cost, and a button that scores them as a job."""

from collections.abc import Sequence

import streamlit as st

from jepascore_core import jobs, store
from jepascore_core.allowed import read_only
from jepascore_core.datasets.corruptions import CORRUPTIONS, SEVERITIES
from jepascore_core.encoders.names import split_layer
from jepascore_core.errors import JepaScoreError
from jepascore_core.jobs import Estimate, Job, SensitivityRequest
from jepascore_core.sensitivity import experiments
from jepascore_core.store.request import RunRequest
from pages.components import live, loaders, pickers, sensitivity_choice, work
from pages.components.guard import card, guard, hide_status
from pages.components.sensitivity_choice import Choice
from pages.components.text import count, duration, md, plural, public_md, significant

MOST_AT_FIRST = 200  # images that the form proposes


def draw(choice: Choice) -> None:
    """The form of an experiment that needs runs of its own; jobs that stopped half-way."""
    if choice.view == sensitivity_choice.CORRUPTIONS:
        _jobs("corruptions")
        if not read_only():
            _ask_for_corruptions(choice)
    elif choice.view == sensitivity_choice.LAYERS and choice.other is not None:
        _jobs("layers")
        if not read_only():
            _ask_for_layers(choice)


def _jobs(experiment: str) -> None:
    """Jobs of this experiment: at work, failed and stopped."""
    for job in jobs.list_jobs():
        if job.kind != "sensitivity" or (job.request or {}).get("experiment") != experiment:
            continue
        if job.active:
            _at_work(job)
        elif job.state == "failed":
            work.draw_failed(job)
        elif job.state != "done":
            work.draw_resumable(job)


def _at_work(job: Job) -> None:
    """How to cancel a job; the head of the page follows it."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(
            f"{md(live.title(job))}: being scored now, one run after the other. Points appear as each is finished."
        )
        if not read_only() and st.button("Cancel", key=f"cancel_{job.id}", type="tertiary"):
            jobs.cancel(job)
            st.rerun()


def _ask_for_corruptions(choice: Choice) -> None:
    """Which corruptions to score."""
    with card("ask"):
        st.markdown(
            "**Score corrupted images** :gray[ordinary runs, resumable; those that are there are not scored again]"
        )
        with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
            kinds = st.pills(
                "Corruptions",
                list(CORRUPTIONS),
                selection_mode="multi",
                default=list(CORRUPTIONS),
                key="ask_kinds",
                help="Blur, noise and JPEG follow ImageNet-C; occlusion lays a mid-grey box over a part of the image.",
            )
            severities = st.pills(
                "Severities",
                SEVERITIES,
                selection_mode="multi",
                default=list(SEVERITIES),
                key="ask_severities",
                help="From 1, slight, to 5; the README says what each of them is.",
            )
            limit = _pick_limit(choice)
            doses = [dose for dose in experiments.all_doses() if dose[0] in kinds and dose[1] in severities]
            request = SensitivityRequest(
                choice.run.name, "corruptions", kinds=tuple(kinds), severities=tuple(sorted(severities)), limit=limit
            )
            left: list[RunRequest] | None = None
            try:
                wanted = experiments.corrupted_requests(choice.run, doses, limit=limit)
                left = experiments.still_to_score(wanted, experiments.find_corrupted(choice.run, store.list_runs()))
            except JepaScoreError as error:
                st.caption(public_md(error))
            _start(choice, request, left, limit)
        _tell_cost(choice, left, limit, chosen=bool(doses))


def _ask_for_layers(choice: Choice) -> None:
    """How many images of each set to score at every layer."""
    whole, _ = split_layer(str(choice.run.meta["encoder"]["id"]))
    try:
        layers = loaders.layer_ids(whole)
    except JepaScoreError:
        return  # the view has said why
    other = choice.other or choice.run
    with card("ask"):
        st.markdown(f"**Score every layer** :gray[{plural(len(layers), 'layer')} of both sets of images]")
        with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
            limit = _pick_limit(choice)
            request = SensitivityRequest(choice.run.name, "layers", out=other.name, limit=limit)
            left: list[RunRequest] | None = []
            try:
                for run in (choice.run, other):
                    wanted = experiments.layer_requests(run, layers, limit=limit)
                    there = experiments.find_layers(run, store.list_runs(), len(layers))
                    left = [*(left or []), *experiments.still_to_score(wanted, there)]
            except JepaScoreError as error:
                left = None
                st.caption(public_md(error))
            _start(choice, request, left, limit)
        _tell_cost(choice, left, limit, chosen=True)


def _pick_limit(choice: Choice) -> int | None:
    """How many images to score of each run."""
    planned = max(1, choice.run.planned)
    return st.number_input(
        "Images, at most", 1, value=min(MOST_AT_FIRST, planned), key="ask_limit", width=130,
        help="The first of the clean run’s sample, classes in turn.",
    )  # fmt: skip


def _start(choice: Choice, request: SensitivityRequest, left: Sequence[RunRequest] | None, limit: int | None) -> None:
    """The button."""
    busy = any(job.active and job.kind == "sensitivity" for job in jobs.list_jobs())
    label = f"Score {plural(len(left), 'run')}" if left else "Score"
    if st.button(label, type="primary", icon=":material/play_arrow:", disabled=not left or busy, key="ask_start"):
        jobs.start_sensitivity(request)
        st.rerun()


def _tell_cost(choice: Choice, left: Sequence[RunRequest] | None, limit: int | None, *, chosen: bool) -> None:
    """What the missing runs take, by the speed of the clean images; measured when it is not known yet."""
    if left is None:
        return
    if not left:
        st.caption("All of these are scored." if chosen else "Choose a corruption and a severity.")
        return
    images = min(limit or choice.run.planned, max(1, pickers.scored(choice.run)))
    request = choice.run.request()
    measuring = not _settled(request)
    if measuring:
        hide_status()

    @st.fragment(run_every=1.0 if measuring else None)
    def body() -> None:
        with guard():
            (estimate,) = jobs.estimates([request])
            if measuring and estimate.settled:
                st.rerun()
            st.caption(_told(estimate, len(left), images))

    body()


def _settled(request: RunRequest) -> bool:
    return all(estimate.settled for estimate in jobs.estimates([request]))


def _told(estimate: Estimate, runs: int, images: int) -> str:
    """The cost in a line."""
    what = f"{plural(runs, 'run')} of {plural(images, 'image')}"
    if estimate.problem:
        return f"{what}; the cost cannot be measured: {public_md(estimate.problem)}"
    if estimate.busy_with:
        return f"{what}; the device is busy with {md(estimate.busy_with)}: the cost is measured when it is free."
    if estimate.cost is None:
        return f"{what}; measuring the cost…"
    seconds = runs * (images / estimate.cost.images_per_s + estimate.cost.start_s)
    speed = significant(estimate.cost.images_per_s, 2)
    return f"{what} at about {speed} images/s, {duration(seconds)} in all. {count(runs)} results arrive one by one."
