"""Curate a run: read its embeddings and scores, find duplicates, measure choices by score, and list what is kept."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jepascore_core import curation, store
from jepascore_core.brightness import brightness_of
from jepascore_core.curation import Duplicates, Images, Trials
from jepascore_core.errors import RunError
from jepascore_core.store import Ranking, Run, ScoreRule

Ints = NDArray[np.int64]

BRIGHTNESS = "brightness"
SCORES = (*store.CONVENTIONS, BRIGHTNESS)
MOST_SEARCHED = 30_000  # images among which duplicates are sought
MOST_MEASURED = 2_000  # images that take part in a measurement, by default
PER_CLASS = 20  # images of a class, at least, where some classes suffice
MOST_LIT = 5_000  # thumbnails whose brightness is taken


@dataclass(frozen=True, slots=True, eq=False)
class Searched:
    """A run's embeddings and their duplicates.

    Attributes:
        index: Number of each image in the run, ascending, (M,).
        embeddings: (M, D).
        duplicates: Of these M.
    """

    index: Ints = field(repr=False)
    embeddings: NDArray[np.float32] = field(repr=False)
    duplicates: Duplicates


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Images of a run that have a score, in the order of their numbers.

    Attributes:
        run: The run.
        by: Name of the score, of ``SCORES``.
        ranked: The run's ranking by that score, or by the raw one for ``brightness``.
        places: Place of each in it, (N,).
        classes: 0..C−1, (N,).
        class_names: C of them; "" for images without one.
        scores: (N,), finite.
        kept: Position of the image that stands for each one's group of duplicates, (N,).
        where: Position in ``Searched`` of each, −1 where no embedding was read, (N,).
    """

    run: Run
    by: str
    ranked: Ranking = field(repr=False)
    places: Ints = field(repr=False)
    classes: Ints = field(repr=False)
    class_names: tuple[str, ...]
    scores: NDArray[np.float64] = field(repr=False)
    kept: Ints = field(repr=False)
    where: Ints = field(repr=False)

    def __len__(self) -> int:
        return len(self.places)

    def distinct(self) -> Ints:
        """Positions of the images that are left when duplicates are out, ascending."""
        stands = np.zeros(len(self), dtype=bool)
        stands[self.kept] = True
        return np.flatnonzero(stands)

    def ascending(self) -> Ints:
        """Positions by ascending score, (N,)."""
        if self.by == BRIGHTNESS:
            return np.argsort(self.scores, kind="stable")
        at = np.full(len(self.ranked), -1)  # the ranking has put them in order already
        at[self.places] = np.arange(len(self))
        return at[at >= 0]

    def keys_at(self, rows: Ints) -> list[str]:
        """Keys of the images at these positions."""
        return self.ranked.keys_at(self.places[rows])


def search(run: Run, *, near: float | None = None) -> Searched:
    """Find the duplicates of a run.

    Args:
        run: The run.
        near: Cosine similarity from which two images are near-duplicates; None derives it.

    Returns:
        The first 30,000 images that have an embedding, which are a stratified sample of a larger run; a run without
        embeddings has none.

    Raises:
        RunError: ``near`` is no cosine, or the run cannot be read.
    """
    if near is not None and not 0 < near <= 1:
        raise RunError(f"A similarity from which images are near-duplicates lies between 0 and 1, not {near:g}.")
    index, embeddings = store.embedded(run, MOST_SEARCHED)
    order = np.argsort(index, kind="stable")
    index, embeddings = index[order], embeddings[order]
    ranked = store.ranking(run)
    by_index = ranked.by_index()
    known = by_index[_positions(ranked.index[by_index], index)] if len(index) else by_index[:0]
    keys = ranked.keys_at(known)
    return Searched(index, embeddings, curation.find_duplicates(embeddings, keys, threshold=near))


def candidates(run: Run, by: str, searched: Searched) -> Candidates:
    """The images of a run that can be chosen by a score.

    Args:
        run: The run.
        by: Name of the score: a convention of ``ScoreRule``, or ``brightness``, the simplest rival.
        searched: What ``search`` found.

    Returns:
        Those with a finite score. Of ``brightness``, among the first 5,000 images.

    Raises:
        RunError: There is no such score, or the run has none.
    """
    if by not in SCORES:
        raise RunError(f"There is no score {by!r}; there are {', '.join(SCORES)}.")
    ranked = store.ranking(run, ScoreRule() if by == BRIGHTNESS else ScoreRule(by))
    order = ranked.by_index()[: MOST_LIT if by == BRIGHTNESS else None]
    scores = brightness_of(run, ranked.index[order]) if by == BRIGHTNESS else ranked.scores[order]
    order, scores = order[np.isfinite(scores)], scores[np.isfinite(scores)]
    index = ranked.index[order]
    where = _positions(searched.index, index)
    return Candidates(
        run=run, by=by, ranked=ranked, places=order,
        classes=ranked.codes_at(order).astype(np.int64), class_names=ranked.class_names, scores=scores,
        kept=_kept(searched, index, where), where=where,
    )  # fmt: skip


def measure(
    among: Candidates,
    searched: Searched,
    *,
    rules: Sequence[str] = curation.USUAL_RULES,
    fractions: Sequence[float] = curation.FRACTIONS,
    seeds: int = curation.SEEDS,
    most: int = MOST_MEASURED,
    keep_duplicates: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> Trials:
    """Measure what choosing by this score is worth; see ``curation.run_trials``.

    Args:
        among: The images.
        searched: Their embeddings.
        rules: Names in ``curation.RULES``.
        fractions: Shares to keep.
        seeds: Splits.
        most: Images that take part at most; see ``measured_images``.
        keep_duplicates: Let duplicates take part.
        on_progress: Called with the splits done and their number.

    Returns:
        The outcomes.

    Raises:
        RunError: The run holds no embeddings, its images are too few or of one class, or a choice is none.
    """
    images = measured_images(among, searched, most)
    try:
        return curation.run_trials(
            images, rules=rules, fractions=fractions, seeds=seeds, keep_duplicates=keep_duplicates,
            on_progress=on_progress,
        )  # fmt: skip
    except ValueError as error:
        raise RunError(str(error)) from error


def measured_images(among: Candidates, searched: Searched, most: int = MOST_MEASURED) -> Images:
    """The images that take part in a measurement.

    Args:
        among: All images that can be chosen.
        searched: Their embeddings.
        most: The first ones, which are a stratified sample of a larger run; of a larger run with so many classes that
            fewer than 20 images of each would be left, only some classes, in the order of a hash of their names.

    Returns:
        What ``curation.run_split`` takes.

    Raises:
        RunError: The run holds no embeddings.
    """
    named = np.array([name != "" for name in among.class_names], dtype=bool)
    rows = np.flatnonzero((among.where >= 0) & (named[among.classes] if len(named) else False))
    if not (among.where >= 0).any():
        raise RunError(f"{among.run.label} holds no embeddings, so that no probe can be fitted.")
    rows = rows if len(rows) else np.flatnonzero(among.where >= 0)  # without labels: the reason is told later
    rows = rows[np.isfinite(searched.embeddings[among.where[rows]]).all(axis=1)]
    dataset = str(among.run.meta.get("dataset", {}).get("id", ""))
    classes = np.unique(among.classes[rows])
    if len(rows) > most and len(classes) > (some := max(2, most // PER_CLASS)):
        drawn = np.argsort(curation.hashed([among.class_names[code] for code in classes.tolist()], dataset, 0))
        rows = rows[np.isin(among.classes[rows], classes[drawn[:some]])]
    rows = rows[:most]
    return Images(
        keys=among.keys_at(rows),
        dataset=dataset,
        classes=among.classes[rows], class_names=among.class_names, scores=among.scores[rows],
        embeddings=searched.embeddings[among.where[rows]], kept=_kept_among(among, rows),
    )  # fmt: skip


def selected(among: Candidates, rule: str, fraction: float, *, seed: int = 0, keep_duplicates: bool = False) -> Ints:
    """What a rule keeps of all images of a run, one of each group of duplicates.

    Args:
        among: The images.
        rule: Name in ``curation.RULES`` or ``curation.CONTROLS``.
        fraction: Share to keep of the images that are left when duplicates are out.
        seed: Breaks ties, and draws what is random.
        keep_duplicates: Choose among duplicates too.

    Returns:
        Positions in ``among``, ascending.

    Raises:
        RunError: The rule or the fraction is none, or there are no images.
    """
    rows = np.arange(len(among)) if keep_duplicates else among.distinct()
    if not len(rows):
        raise RunError(f"{among.run.label} holds no image with a {among.by} score.")
    try:
        return rows[curation.choose(rule, among.scores[rows], among.classes[rows], fraction, seed)]
    except ValueError as error:
        raise RunError(f"{str(error)[0].upper()}{str(error)[1:]}.") from error


def write_selection(among: Candidates, chosen: Ints, path: str | Path) -> int:
    """Write what is kept: ``.txt`` (keys), ``.csv`` or ``.parquet``; see ``store.export``.

    Args:
        among: The images.
        chosen: Positions in it.
        path: The file; replaced if it exists.

    Returns:
        Number of images written.

    Raises:
        RunError: The ending is unknown, or the file cannot be written.
    """
    rule = None if among.by == BRIGHTNESS else ScoreRule(among.by)
    return store.export(among.run, path, rule=rule, keys=among.keys_at(chosen))


def duplicate_facts(among: Candidates, searched: Searched) -> dict[str, Any]:
    """What was found of duplicates, for programs.

    Args:
        among: The images.
        searched: Their duplicates.

    Returns:
        searched, threshold, derived, dropped, dropped_exact, nearest (quantiles of the cosine similarity to the
        nearest neighbour), groups (keys, the kept one first), and the sentence.
    """
    found = searched.duplicates
    row_of = np.full(len(searched.index), -1)
    known = np.flatnonzero(among.where >= 0)
    row_of[among.where[known]] = known
    groups = [row_of[group] for group in found.groups()]
    quantiles = np.quantile(found.nearest, [0.05, 0.5, 0.95]).tolist() if len(found.nearest) else [None] * 3
    return {
        "searched": len(searched.index),
        "threshold": found.threshold,
        "derived": found.derived,
        "dropped": found.dropped,
        "dropped_exact": found.dropped_exact,
        "nearest": dict(zip(("q05", "median", "q95"), quantiles, strict=True)),
        "groups": [among.keys_at(group[group >= 0]) for group in groups],
        "sentence": sentence_on_duplicates(among, searched),
    }


def sentence_on_duplicates(among: Candidates, searched: Searched) -> str:
    """How many duplicates there are and what they would do; see ``curation.about_duplicates``."""
    if not len(searched.index):
        return f"{among.run.label} holds no embeddings, so that duplicates cannot be sought."
    classes = np.full(len(searched.index), -1)
    classes[among.where[among.where >= 0]] = among.classes[among.where >= 0]
    words = curation.about_duplicates(searched.duplicates, classes)
    left = store.counts(among.run)["done"] - len(searched.index)
    return words + (f" {left:,} images beyond these were not searched.".replace(",", "\u202f") if left > 0 else "")


def curated(among: Candidates, searched: Searched, trials: Trials) -> dict[str, Any]:
    """Everything that a curation says, for programs.

    Args:
        among: The images.
        searched: Their duplicates.
        trials: What was measured.

    Returns:
        run, score, images, duplicates, the verdict, which choices lose classes, how it was measured, and the
        outcomes: the attributes of ``Outcome`` and ``found``.
    """
    about = {name: value for name, value in asdict(trials).items() if name != "outcomes"}
    return {
        "run": among.run.name,
        "encoder": among.run.meta.get("encoder", {}).get("id"),
        "dataset": among.run.meta.get("dataset", {}).get("id"),
        "score": among.by,
        "images": len(among),
        "duplicates": duplicate_facts(among, searched),
        "verdict": curation.verdict(trials),
        "classes_lost": curation.losses(trials),
        "measured": about,
        "outcomes": [asdict(one) | {"found": one.found if one.control else None} for one in trials.outcomes],
    }


def _positions(held: Ints, index: Ints) -> Ints:
    """Place of each number among ascending ones, −1 where it is not there, (N,)."""
    if not len(held):
        return np.full(len(index), -1)
    place = np.minimum(np.searchsorted(held, index), len(held) - 1)
    return np.where(held[place] == index, place, -1)


def _kept(searched: Searched, index: Ints, where: Ints) -> Ints:
    """Position among the candidates of the image that stands for each, (N,).

    The one that stands for a group may lack a score under this convention: then the first of the group that has one.
    """
    kept = np.arange(len(index))
    known = np.flatnonzero(where >= 0)
    heads = searched.duplicates.kept[where[known]]  # positions in searched
    own = _positions(index, searched.index[heads]) if len(index) else heads
    _, first, inverse = np.unique(heads, return_index=True, return_inverse=True)
    kept[known] = np.where(own >= 0, own, known[first[inverse.ravel()]])
    return kept


def _kept_among(among: Candidates, rows: Ints) -> Ints:
    """The same for some of the candidates: position among those, (M,)."""
    heads = among.kept[rows]
    own = _positions(rows, heads)
    _, first, inverse = np.unique(heads, return_index=True, return_inverse=True)
    return np.where(own >= 0, own, first[inverse.ravel()])
