"""Images that several runs have all scored, matched by key: what a comparison of encoders rests on."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jepascore_core.agreement import Ranks, rank
from jepascore_core.errors import RunError
from jepascore_core.store import parts
from jepascore_core.store.rankings import Ranking, ranking
from jepascore_core.store.reading import digest_of
from jepascore_core.store.rule import ScoreRule
from jepascore_core.store.runs import Run
from jepascore_core.store.shelf import Held, Name, held_by, name_of, shelf


@dataclass(frozen=True, slots=True, eq=False)
class Common:
    """N images under M encoders, in the order of the first run.

    Attributes:
        rankings: The runs' rankings, M of them.
        places: Place of each image in each ranking, M of (N,).
        class_names: Names of the classes, C of them; "" where images have none.
        in_class: Ranks within classes under each encoder.
        in_run: Ranks among all of these images under each encoder.
        images: Which images they are: the same text, the same images.
    """

    rankings: tuple[Ranking, ...] = field(repr=False)
    places: tuple[NDArray[np.int32], ...] = field(repr=False)
    class_names: tuple[str, ...]
    in_class: tuple[Ranks, ...] = field(repr=False)
    in_run: tuple[Ranks, ...] = field(repr=False)
    images: str

    def __len__(self) -> int:
        return len(self.places[0])

    @property
    def has_classes(self) -> bool:
        """Whether the images are of more than one class."""
        return int(np.count_nonzero(self.in_class[0].sizes)) > 1

    def scores(self, encoder: int) -> NDArray[np.float64]:
        """Scores of the images under one encoder, nats, (N,)."""
        return self.rankings[encoder].scores[self.places[encoder]]

    def index(self, encoder: int) -> NDArray[np.int64]:
        """Number of each image in one encoder's run, (N,); ascending for the first."""
        held = self.rankings[encoder]
        return held.reading.index[held.order[self.places[encoder]]]

    def held(self) -> Held:
        """Its memory, and that of the rankings; see ``Shelf``."""
        rankings = (held for ranking in self.rankings for held in ranking.held().items())
        return dict(rankings) | held_by(*self.places) | _held_ranks(*self.in_class, *self.in_run)

    def rows(self, encoder: int, images: NDArray[np.int64], *, in_class: bool = True) -> pd.DataFrame:
        """What one encoder's run knows of some images.

        Args:
            encoder: Which of the M.
            images: Their positions, (K,).
            in_class: Take the percentile within the class, else among all of these images.

        Returns:
            As ``Ranking.rows``.
        """
        ranks = (self.in_class if in_class else self.in_run)[encoder]
        frame = self.rankings[encoder].rows(self.places[encoder][images].astype(np.int64))
        return frame.assign(percentile=ranks.percentiles_of(images))

    def of_classes(self, class_names: Sequence[str]) -> "Common":
        """The images of some classes.

        Args:
            class_names: Classes to keep; none keeps all. Unknown ones hold no image.

        Returns:
            These images, ranked among themselves.
        """
        if not class_names:
            return self
        names = set(class_names)
        wanted = np.array([name in names for name in self.class_names], bool)
        return self._only(np.flatnonzero(wanted[self.in_class[0].classes]))

    def _only(self, kept: NDArray[np.int64]) -> "Common":
        """Some of the images, by their positions, ascending."""
        in_class, in_run = (tuple(ranks.among(kept) for ranks in held) for held in (self.in_class, self.in_run))
        places = tuple(mine[kept] for mine in self.places)
        images = sha256(self.images.encode() + kept.tobytes()).hexdigest()
        return Common(self.rankings, places, self.class_names, in_class, in_run, images)


def same_dataset(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs that can be compared: those of one dataset, by its id and fingerprint.

    What was imported has no fingerprint: it joins the first runs of its dataset's name, to be matched by key.

    Args:
        runs: Readable runs.

    Returns:
        Groups, in the order of their first runs; the order within a group is kept.
    """
    groups: list[list[Run]] = []
    for run in sorted(runs, key=lambda run: not _dataset(run)[1]):
        alike = next((group for group in groups if one_dataset(run, group[0])), None)
        groups.append([run]) if alike is None else alike.append(run)
    order = {id(run): place for place, run in enumerate(runs)}
    groups = [sorted(group, key=lambda run: order[id(run)]) for group in groups]
    return sorted(groups, key=lambda group: order[id(group[0])])


def one_dataset(run: Run, other: Run) -> bool:
    """Whether two runs are of the same images, as far as they say.

    Args:
        run: A readable run.
        other: Another.

    Returns:
        True where they are of one name, and their fingerprints agree or one has none, as what was imported.
    """
    (name, stated), (other_name, other_stated) = _dataset(run), _dataset(other)
    return name == other_name and (stated == other_stated or not stated or not other_stated)


def encoder_of(run: Run) -> tuple[str, str]:
    """What makes two runs' encoders the same: the weights, and the size of the input."""
    encoder = run.meta["encoder"]
    return str(encoder["digest"]), str(encoder.get("input_size"))


def common_images(runs: Sequence[Run], rule: ScoreRule | None = None, classes: Sequence[str] = ()) -> Common:
    """Match the images of some runs by key; remembered in memory until the parts of one change.

    Args:
        runs: At least two runs of one dataset; their samples may differ.
        rule: Convention of the score.
        classes: Classes to keep; none keeps all.

    Returns:
        The images with a finite score in every run; there may be none.

    Raises:
        RunError: There are fewer than two runs, they are of different datasets, one cannot be read, or one has no
            score under the rule.
    """
    if len(runs) < 2:
        raise RunError("A comparison needs at least two runs.")
    for run in runs:
        if run.problem:
            raise RunError(f"{run.name} cannot be read: {run.problem}")
        if not all(one_dataset(run, other) for other in runs):
            raise RunError(f"{runs[0].name} and {run.name} score different images, so that they cannot be compared.")
    rule = rule or ScoreRule()
    name, stamp = _name_and_stamp(runs, rule, classes)
    ordered = [_in_order(run, rule) for run in runs]
    known: Common | None = shelf.get(name, stamp)
    if known is None or any(held is not run.ranking for held, run in zip(known.rankings, ordered, strict=True)):
        known = (common_images(runs, rule).of_classes(classes)) if classes else _joined(ordered)
        shelf.put(name, stamp, known, known.held())
    return known


def known_common(runs: Sequence[Run], rule: ScoreRule | None = None, classes: Sequence[str] = ()) -> Common | None:
    """What ``common_images`` would return of some runs as they are now, if it is remembered."""
    known: Common | None = shelf.get(*_name_and_stamp(runs, rule or ScoreRule(), classes))
    return known


def _name_and_stamp(runs: Sequence[Run], rule: ScoreRule, classes: Sequence[str]) -> tuple[Name, str]:
    """Under what a match is remembered."""
    others = (run.path.absolute() for run in runs[1:])
    return name_of("common", runs[0].path, *others, rule, *classes), " ".join(parts.stamp(run.path) for run in runs)


def _dataset(run: Run) -> tuple[str, str]:
    """Which images a run is of."""
    dataset = run.meta["dataset"]
    return str(dataset["id"]), str(dataset.get("fingerprint", ""))


@dataclass(frozen=True, slots=True, eq=False)
class _Ordered:
    """One run's images in the order of their numbers, ranked.

    Attributes:
        ranking: The run's ranking.
        places: Place of each image in it, (N,).
        in_class: Ranks within classes; the classes' numbers are those of the ranking.
        in_run: Ranks within the run.
        digest: Of all keys in this order.
    """

    ranking: Ranking
    places: NDArray[np.int32]
    in_class: Ranks
    in_run: Ranks
    digest: str

    def keys(self) -> pa.StringArray:
        """Keys in this order."""
        return _keys(self.ranking, self.places)

    def held(self) -> Held:
        """Its memory, beside that of the ranking; see ``Shelf``."""
        return held_by(self.places) | _held_ranks(self.in_class, self.in_run)


def _held_ranks(*ranks: Ranks) -> Held:
    """The memory of some ranks."""
    return held_by(*(array for held in ranks for array in (held.below, held.ties, held.classes)))


_making = threading.Lock()


def _in_order(run: Run, rule: ScoreRule) -> _Ordered:
    """A run in the order of the images' numbers; remembered, for every comparison of the run needs it."""
    stamp, name = parts.stamp(run.path), name_of("ranks", run.path, rule)
    held = ranking(run, rule)
    with _making:
        known = shelf.get(name, stamp)
        if known is None or known.ranking is not held:
            known = _ordered(held)
            shelf.drop(lambda other, of: other[:2] == name[:2] and of != stamp)
            shelf.put(name, stamp, known, known.held())
    return known


def _ordered(held: Ranking) -> _Ordered:
    """Rank by number; scores that are not finite are left out."""
    places = held.by_index().astype(np.int32)
    if not np.isfinite(held.scores).all():
        return _ordered_finite(held, places)
    codes = held.codes_by_index()
    in_run = _ranks(held.scores, np.zeros(1, np.int64), places, np.broadcast_to(np.int32(0), len(places)))
    in_class = in_run
    if len(held.class_names) > 1:
        by_class, ends = held.class_places()
        position = np.empty_like(places)  # of each place, classes after one another
        position[by_class] = np.arange(len(by_class), dtype=np.int32)
        in_class = _ranks(held.scores[by_class], ends[:-1], position[places], codes)
    whole = len(held) == len(held.reading)
    return _Ordered(held, places, in_class, in_run, held.reading.digest if whole else digest_of(_keys(held, places)))


def _ordered_finite(held: Ranking, places: NDArray[np.int32]) -> _Ordered:
    """The same, where some scores are not finite."""
    places = places[np.isfinite(held.scores[places])]
    scores, codes = held.scores[places], held.class_codes[places]
    in_run = rank(scores)
    in_class = rank(scores, codes, len(held.class_names)) if len(held.class_names) > 1 else in_run
    return _Ordered(held, places, in_class, in_run, digest_of(_keys(held, places)))


def _ranks(
    scores: NDArray[np.float64], starts: NDArray[np.int64], position: NDArray[np.int32], codes: NDArray[np.int32]
) -> Ranks:
    """Ranks of images whose scores are sorted already, which is what takes the time.

    Args:
        scores: Ascending within each class, classes after one another, (N,).
        starts: Where each class begins, (C,).
        position: Where among them each image stands, (N,).
        codes: Class of each image, (N,).

    Returns:
        As ``agreement.rank`` would say.
    """
    n = len(scores)
    new = np.ones(n, bool)  # whether another score begins
    np.not_equal(scores[1:], scores[:-1], out=new[1:])
    new[starts[starts < n]] = True
    sizes = np.diff(starts, append=n)
    first = starts.astype(np.int32)[codes]
    if new.all():
        return Ranks(position - first if first.any() else position, np.broadcast_to(np.int32(1), n), codes, sizes)
    begins = np.flatnonzero(new).astype(np.int32)
    group = (np.cumsum(new, dtype=np.int32) - 1)[position]
    return Ranks(begins[group] - first, np.diff(begins, append=np.int32(n))[group], codes, sizes)


def _keys(held: Ranking, places: NDArray[np.int32]) -> pa.StringArray:
    """Keys of some images, by their places."""
    return held.reading.keys.take(pa.array(held.order[places]))


def _joined(runs: Sequence[_Ordered]) -> Common:
    """The images that all runs hold."""
    first = runs[0]
    if all(run.digest == first.digest for run in runs):
        return _common(runs, [run.in_class for run in runs], [run.in_run for run in runs], [run.places for run in runs])
    keys = first.keys()
    where = [np.arange(len(keys)), *(_where(run.keys(), keys) for run in runs[1:])]
    kept = np.all([mine >= 0 for mine in where], axis=0)
    chosen = [(run, mine[kept]) for run, mine in zip(runs, where, strict=True)]
    return _common(
        runs,
        [run.in_class.among(mine) for run, mine in chosen],
        [run.in_run.among(mine) for run, mine in chosen],
        [run.places[mine] for run, mine in chosen],
        more=kept.tobytes(),
    )


def _common(
    runs: Sequence[_Ordered],
    in_class: Sequence[Ranks],
    in_run: Sequence[Ranks],
    places: Sequence[NDArray[np.int32]],
    more: bytes = b"",
) -> Common:
    """Images of some runs; the numbers of the classes become those of the first run."""
    names, codes = runs[0].ranking.class_names, in_class[0].classes
    alike = [
        ranks
        if run.ranking.class_names == names and np.array_equal(ranks.classes, codes)
        else rank(run.ranking.scores[mine], codes, len(names))
        for run, ranks, mine in zip(runs, in_class, places, strict=True)
    ]
    images = sha256(runs[0].digest.encode() + more).hexdigest()
    return Common(tuple(run.ranking for run in runs), tuple(places), names, tuple(alike), tuple(in_run), images)


def _where(held: pa.StringArray, keys: pa.StringArray) -> NDArray[np.int64]:
    """Position of each key among those that a run holds, −1 where it is not there."""
    return pc.fill_null(pc.index_in(keys, value_set=held), -1).to_numpy(zero_copy_only=False).astype(np.int64)
