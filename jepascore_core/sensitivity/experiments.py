"""The stored runs that an experiment needs, which of them are there, and how to ask for the rest."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from jepascore_core.corrupted_id import corrupted_id, innermost, take_apart
from jepascore_core.datasets.corruptions import CORRUPTIONS, SEVERITIES
from jepascore_core.encoders.names import layer_digest, split_layer, with_layer
from jepascore_core.errors import RunError
from jepascore_core.outliers import Rows, rows_of, same_encoder
from jepascore_core.outliers.rows import identities_of, sampled
from jepascore_core.store import Run, same_dataset
from jepascore_core.store.request import RunRequest

MOST_ROWS = 5000  # of a run; a seeded sample of more is judged

Dose = tuple[str, int]
"""Kind and severity of a corruption."""

What = TypeVar("What", Dose, int)


def all_doses(kinds: Sequence[str] | None = None, severities: Sequence[int] | None = None) -> list[Dose]:
    """Every kind at every severity.

    Args:
        kinds: Some of ``CORRUPTIONS``; None takes all.
        severities: Some of ``SEVERITIES``; None takes all.

    Returns:
        Kind and severity, in the order of the tables.

    Raises:
        RunError: A kind or a severity is unknown.
    """
    for kind in kinds or ():
        if kind not in CORRUPTIONS:
            raise RunError(f"There is no corruption {kind!r}; there are {', '.join(CORRUPTIONS)}.")
    for severity in severities or ():
        if severity not in SEVERITIES:
            raise RunError(f"The severity of a corruption is a whole number from 1 to 5, not {severity}.")
    return [
        (kind, severity)
        for kind in CORRUPTIONS
        if kinds is None or kind in kinds
        for severity in SEVERITIES
        if severities is None or severity in severities
    ]


def dataset_id(run: Run) -> str:
    """Id of a run's dataset, with an absolute path where the run says it."""
    request = run.meta.get("request")
    asked = request.get("dataset_id") if isinstance(request, dict) else None
    return asked if isinstance(asked, str) else str(run.meta["dataset"]["id"])


def find_corrupted(run: Run, runs: Sequence[Run]) -> dict[Dose, Run]:
    """The corrupted runs of a clean one.

    Args:
        run: The clean run.
        runs: Runs that can be read, newest first.

    Returns:
        For each corruption the run of the same encoder and number of views with the most images; doses without one
        are absent.
    """
    wanted = {corrupted_id(*dose, dataset_id(run)): dose for dose in all_doses()}
    found: dict[Dose, Run] = {}
    for other in runs:
        dose = wanted.get(dataset_id(other)) if other.problem is None else None
        if dose is None or not same_encoder(run, other) or _views(run) != _views(other):
            continue
        if dose not in found or other.planned > found[dose].planned:
            found[dose] = other
    return {dose: found[dose] for dose in all_doses() if dose in found}


def corrupted_requests(
    run: Run, doses: Sequence[Dose], *, per_class: int | None = None, limit: int | None = None
) -> dict[Dose, RunRequest]:
    """What to score for a dose-response: the request of a clean run, on corrupted images.

    Args:
        run: The clean run.
        doses: Corruptions.
        per_class: Most images of each class; None takes as many as the clean run. A sample of fewer is part of it.
        limit: Most images in all; likewise.

    Returns:
        A request for each corruption.

    Raises:
        RunError: The run does not say what was asked for, or its own images are corrupted.
    """
    request = _smaller(run.request(), per_class, limit)
    if take_apart(request.dataset_id):
        raise RunError(f"The images of {run.name} are corrupted themselves; take the run of the clean ones.")
    return {dose: replace(request, dataset_id=corrupted_id(*dose, request.dataset_id)) for dose in doses}


def find_layers(run: Run, runs: Sequence[Run], count: int) -> dict[int, Run]:
    """The runs of each layer of an encoder on the images of a run.

    Args:
        run: A run of the encoder, or of one of its layers.
        runs: Runs that can be read, newest first.
        count: Layers of the encoder; the last is the encoder itself.

    Returns:
        By number of the layer the run with the most images; layers without one are absent.
    """
    group = next((group for group in same_dataset([run, *runs]) if run in group), [])
    alike = [other for other in group if _whole(other) == _whole(run) and _views(other) == _views(run)]
    wholes = [other for other in [run, *alike] if split_layer(str(other.meta["encoder"]["id"]))[1] is None]
    digest = str(wholes[0].meta["encoder"]["digest"]) if wholes else None
    found: dict[int, Run] = {}
    for other in alike:
        encoder = other.meta["encoder"]
        layer = split_layer(str(encoder["id"]))[1]
        expected = digest if layer is None else digest and layer_digest(digest, layer, str(encoder.get("pooling")))
        if expected in (None, str(encoder["digest"])):
            layer = layer or count
            if layer not in found or other.planned > found[layer].planned:
                found[layer] = other
    return dict(sorted(found.items()))


def layer_requests(
    run: Run, layers: Sequence[str], *, per_class: int | None = None, limit: int | None = None
) -> dict[int, RunRequest]:
    """What to score for a view over depth: the request of a run, for every layer.

    Args:
        run: A run of the encoder, or of one of its layers.
        layers: Ids of all layers, as ``encoders.load.list_layers`` gives them; the last is the encoder itself.
        per_class: Most images of each class; None takes as many as the run.
        limit: Most images in all; likewise.

    Returns:
        A request for each layer, by its number.

    Raises:
        RunError: The run does not say what was asked for.
    """
    request = _smaller(run.request(), per_class, limit)
    whole, _ = split_layer(request.encoder_id)
    return {
        number: replace(request, encoder_id=with_layer(whole, number if number < len(layers) else None))
        for number in range(1, len(layers) + 1)
    }


def corrupts(run: Run, other: Run) -> bool:
    """Whether one run holds the images of another, corrupted or clean, so that the two pair by key."""
    first, second = dataset_id(run), dataset_id(other)
    return first != second and innermost(first) == innermost(second)


def still_to_score(requests: Mapping[What, RunRequest], found: Mapping[What, Run]) -> list[RunRequest]:
    """Requests that no finished run answers.

    Args:
        requests: By dose or layer.
        found: Runs, likewise.

    Returns:
        Those without a run, with one that is not finished, or with one of fewer images.
    """
    return [request for what, request in requests.items() if not _answers(found.get(what), request)]


def paired_rows(run: Run, found: Mapping[Dose, Run]) -> tuple[Rows, dict[Dose, Rows]]:
    """Rows of a clean run and of its corrupted ones.

    Args:
        run: The clean run.
        found: Its corrupted runs.

    Returns:
        At most ``MOST_ROWS`` clean rows, first of all those that any corrupted run has; the others are there to be
        learnt from. And the corrupted rows of these images.
    """
    clean = rows_of(run, most=None)
    others = {dose: rows_of(other, most=None) for dose, other in found.items()}
    shared = np.zeros(len(clean), bool)
    for rows in others.values():
        shared |= np.isin(clean.keys, rows.keys)
    hashes = identities_of("", clean.keys)
    chosen = np.flatnonzero(shared)[sampled(hashes[shared], MOST_ROWS)]
    rest = np.flatnonzero(~shared)[sampled(hashes[~shared], MOST_ROWS - len(chosen))]
    clean = clean.take(np.sort(np.concatenate([chosen, rest])))
    return clean, {dose: rows.take(np.isin(rows.keys, clean.keys)) for dose, rows in others.items()}


def layer_rows(inside: Mapping[int, Run], other: Mapping[int, Run]) -> dict[int, tuple[Rows, Rows]]:
    """Rows of two sets of images at each layer that both have.

    Args:
        inside: Runs of in-distribution images, by layer.
        other: Runs of others.

    Returns:
        Rows of both, by layer: at most ``MOST_ROWS`` of the images that every layer has.
    """
    both = [layer for layer in inside if layer in other]
    sides = [_same_images([rows_of(runs[layer], most=None) for layer in both]) for runs in (inside, other)]
    return {layer: (mine, theirs) for layer, mine, theirs in zip(both, *sides, strict=True)}


def _same_images(runs: Sequence[Rows]) -> list[Rows]:
    """Rows of the images that all runs have, at most ``MOST_ROWS``, chosen by their keys alone."""
    if not runs:
        return []
    keys = runs[0].keys
    for rows in runs[1:]:
        keys = keys[np.isin(keys, rows.keys)]
    keys = keys[sampled(identities_of("", keys), MOST_ROWS)]
    return [rows.take(np.isin(rows.keys, keys)) for rows in runs]


def _answers(run: Run | None, request: RunRequest) -> bool:
    """Whether a run is finished and holds what a request asks for."""
    if run is None or run.progress().state != "done":
        return False
    sample = run.meta["sample"]
    return all(
        sample.get(name) is None or sample.get(name) == getattr(request, name) for name in ("per_class", "limit")
    )


def _smaller(request: RunRequest, per_class: int | None, limit: int | None) -> RunRequest:
    """A request for at most so many images."""
    return replace(request, per_class=_least(request.per_class, per_class), limit=_least(request.limit, limit))


def _least(first: int | None, second: int | None) -> int | None:
    return min((number for number in (first, second) if number is not None), default=None)


def _whole(run: Run) -> tuple[object, ...]:
    """What the layers of one encoder share."""
    encoder = run.meta["encoder"]
    return split_layer(str(encoder["id"]))[0], encoder.get("pretrained", True), str(encoder.get("input_size"))


def _views(run: Run) -> int:
    return int(run.meta.get("views") or 1)
