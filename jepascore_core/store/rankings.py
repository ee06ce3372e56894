"""All scored images of a run in the order of their score: what galleries, percentiles and histograms ask, in memory.

What all orders of a run share is read once (``reading``); an order under one more convention takes 16 bytes an image
and a fraction of a second for a million of them. Every question after that takes milliseconds. Pictures are not in
it: ``thumbnails`` reads those that are shown.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jepascore_core.store import parts
from jepascore_core.store.database import query_arrow
from jepascore_core.store.reading import Reading, from_reading, known_reading
from jepascore_core.store.release import release
from jepascore_core.store.rule import ScoreRule
from jepascore_core.store.runs import Run
from jepascore_core.store.score_values import score_values
from jepascore_core.store.shelf import Held, held_by, name_of, shelf

_DEFAULT = ScoreRule()


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """Scored images, least likely first. A *place* is a position in it, 0..N−1; ties are broken by key.

    Attributes:
        reading: What is known of the images in the order of the parts.
        order: Row of the reading at each place, (N,).
        class_names: Names of the classes, by label; "" where images have none.
        labels: Label of each class.
        scores: Nats, ascending, (N,).
    """

    reading: Reading = field(repr=False)
    order: NDArray[np.int32] = field(repr=False)
    class_names: tuple[str, ...]
    labels: tuple[int, ...]
    scores: NDArray[np.float64] = field(repr=False)
    _codes: NDArray[np.int32] = field(repr=False)  # of the reading's rows
    _by_class: NDArray[np.int32] = field(repr=False)  # places, class after class
    _class_ends: NDArray[np.int64] = field(repr=False)  # (classes + 1,)

    @property
    def keys(self) -> pa.StringArray:
        """Key of each image, (N,); made anew at each call, so that ``keys_at`` is for a few of them."""
        return self.reading.keys.take(pa.array(self.order))

    @property
    def index(self) -> NDArray[np.int64]:
        """Number of each image in its run, (N,)."""
        return self.reading.index[self.order]

    @property
    def class_codes(self) -> NDArray[np.int32]:
        """Place of each image's class in ``class_names``, (N,)."""
        return self._codes[self.order]

    @property
    def errors(self) -> NDArray[np.float32]:
        """Rounding error of each stored score, nats, (N,)."""
        return self.reading.errors[self.order]

    def key(self, place: int) -> str:
        """Key of one image."""
        return str(self.reading.keys[int(self.order[place])])

    def keys_at(self, places: Sequence[int] | NDArray[np.int64]) -> list[str]:
        """Keys of some images, in the order of their places."""
        return self.reading.keys.take(pa.array(self.order[np.asarray(places, np.int64)])).to_pylist()

    def codes_at(self, places: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int32]:
        """Place of some images' classes in ``class_names``."""
        return self._codes[self.order[np.asarray(places, np.int64)]]

    def codes_by_index(self) -> NDArray[np.int32]:
        """Place of each image's class in ``class_names``, in the order of the images' numbers, (N,)."""
        at_hand = self.reading.by_index is None and len(self) == len(self.reading)
        return self._codes if at_hand else self.codes_at(self.by_index())

    def by_index(self) -> NDArray[np.int64]:
        """All places in the order of the images' numbers, (N,)."""
        place = np.full(len(self.reading), -1, np.int64)
        place[self.order] = np.arange(len(self))
        rows = self.reading.by_index
        place = place if rows is None else place[rows]
        return place if len(self) == len(self.reading) else place[place >= 0]

    def __len__(self) -> int:
        return len(self.scores)

    def places(
        self, class_names: Sequence[str] = (), *, low: float | None = None, high: float | None = None
    ) -> NDArray[np.int64]:
        """Places of some images, ascending.

        Args:
            class_names: Classes to keep; none keeps all. Unknown ones hold no image.
            low: Least score, nats.
            high: Greatest score, nats; both ends are included.

        Returns:
            (M,).
        """
        if class_names:
            wanted = [self._of_class(name) for name in dict.fromkeys(class_names)]
            places = wanted[0] if len(wanted) == 1 else np.sort(np.concatenate(wanted))
        else:
            places = np.arange(len(self))
        scores = self.scores if not class_names else self.scores[places]
        first = 0 if low is None else np.searchsorted(scores, low, side="left")
        last = len(scores) if high is None else np.searchsorted(scores, high, side="right")
        return places[first:last]

    def shuffled(self, places: NDArray[np.int64], seed: int = 0) -> NDArray[np.int64]:
        """Places in a random order that more images do not change.

        Args:
            places: (M,).
            seed: Another seed, another order.

        Returns:
            (M,).
        """
        index = self.reading.index[self.order[places]].astype(np.uint64)
        mixed = index + np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15)
        return places[np.argsort(pd.util.hash_array(mixed), kind="stable")]

    def place_of(self, key: str) -> int | None:
        """Where an image stands, or None when it has no score."""
        row = self.reading.row_of(key)
        if row is None or not len(places := np.flatnonzero(self.order == row)):
            return None
        return int(places[0])

    def places_of(self, keys: Sequence[str]) -> NDArray[np.int64]:
        """Places of some images, ascending; unknown ones are passed over."""
        found = pc.is_in(self.reading.keys, value_set=pa.array(keys, pa.string())).to_numpy(zero_copy_only=False)
        return np.flatnonzero(found[self.order])

    def percentiles(self, places: NDArray[np.int64], class_name: str | None = None) -> NDArray[np.float64]:
        """Share of images with a lower score, equal ones counting half, 0..100.

        Args:
            places: (M,).
            class_name: Compare within one class; None compares with all.

        Returns:
            (M,).
        """
        return self.percentiles_of(self.scores[places], class_name)

    def percentiles_of(self, scores: NDArray[np.float64], class_name: str | None = None) -> NDArray[np.float64]:
        """As ``percentiles``, for scores in nats; NaN where there is nothing to compare with."""
        among = self.scores if class_name is None else self.scores[self._of_class(class_name)]
        if not len(among):
            return np.full(len(scores), np.nan)
        below, through = (np.searchsorted(among, scores, side=side) for side in ("left", "right"))
        return 50.0 * (below + through) / len(among)

    def rows(self, places: NDArray[np.int64], class_name: str | None = None) -> pd.DataFrame:
        """What is known of some images.

        Args:
            places: (M,), in the order wanted.
            class_name: Class within which the percentile is taken; None takes all.

        Returns:
            index, key, label, class_name, score (nats), score_error (nats), place, percentile (0..100).
        """
        rows = self.order[places]
        codes = self._codes[rows]
        return pd.DataFrame({
            "index": self.reading.index[rows],
            "key": self.reading.keys.take(pa.array(rows)).to_pylist(),
            "label": np.array(self.labels, dtype=np.int64)[codes] if len(codes) else codes,
            "class_name": np.array(self.class_names, dtype=object)[codes] if len(codes) else [],
            "score": self.scores[places],
            "score_error": self.reading.errors[rows].astype(np.float64),
            "place": places,
            "percentile": self.percentiles(places, class_name),
        })

    def class_scores(self, class_name: str) -> NDArray[np.float64]:
        """Scores of one class, ascending."""
        return self.scores[self._of_class(class_name)]

    def classes(self) -> pd.DataFrame:
        """Each class with its number of images and its median.

        Returns:
            label, class_name, n, median (nats); by label.
        """
        sizes = np.diff(self._class_ends)
        ordered = self.scores[self._by_class]
        low, high = self._class_ends[:-1] + (sizes - 1) // 2, self._class_ends[:-1] + sizes // 2
        medians = (ordered[low] + ordered[high]) / 2 if len(sizes) else np.zeros(0)
        return pd.DataFrame({"label": self.labels, "class_name": self.class_names, "n": sizes, "median": medians})

    def held(self) -> Held:
        """Its memory, and that of the reading; see ``Shelf``."""
        return self.reading.held() | held_by(self.order, self.scores, self._codes, self._by_class)

    def class_places(self) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """All places, class after class, (N,), and where each class begins and the last one ends, (classes + 1,)."""
        return self._by_class, self._class_ends

    def _of_class(self, name: str) -> NDArray[np.int64]:
        """Places of one class, ascending."""
        if name not in self.class_names:
            return np.zeros(0, dtype=np.int64)
        code = self.class_names.index(name)
        return self._by_class[self._class_ends[code] : self._class_ends[code + 1]].astype(np.int64)


def ranking(run: Run, rule: ScoreRule = _DEFAULT) -> Ranking:
    """The ranking of a run, remembered in memory until its parts change.

    Args:
        run: The run.
        rule: Convention of the score.

    Returns:
        The ranking; empty for a run without scores.

    Raises:
        RunError: The run has no score under the rule, or cannot be read.
    """
    stamp, name = parts.stamp(run.path), name_of("ranking", run.path, rule)
    held = shelf.get(name, stamp)
    if held is None:
        with _making:  # ten visitors at once wait for one reading
            held = shelf.get(name, stamp)
            if held is None:
                held = _made(run, rule)
    shelf.get(name_of("reading", run.path), stamp)  # what it rests on is not forgotten before it
    return held


def known_ranking(run: Run, rule: ScoreRule = _DEFAULT) -> Ranking | None:
    """The ranking of a run as it is now, if it is remembered."""
    return shelf.get(name_of("ranking", run.path, rule), parts.stamp(run.path))


_making = threading.Lock()


def _made(run: Run, rule: ScoreRule) -> Ranking:
    """Put a run in the order of a rule, and remember that."""
    stamp = parts.stamp(run.path)
    made = from_reading(run.path, lambda known: _ranking(known, score_values(run, rule, known)))
    release()
    ours = run.path.absolute()
    shelf.drop(lambda name, of: name[:2] == ("ranking", ours) and of != stamp)
    shelf.put(name_of("ranking", run.path, rule), stamp, made, made.held())
    return made


def parts_of(run: Run, index: Sequence[int]) -> list[Path] | None:
    """The parts that hold some images, as far as memory tells.

    Args:
        run: The run.
        index: Numbers of the images in the run.

    Returns:
        The parts; None where any part may hold one of them.
    """
    known = known_reading(run.path)
    rows = None if known is None else known.rows_of(index)
    return None if known is None or rows is None or (rows < 0).any() else known.paths_of(rows)


def thumbnails(run: Run, index: Sequence[int]) -> dict[int, bytes]:
    """Thumbnails of some images.

    Args:
        run: The run.
        index: Their numbers in the run.

    Returns:
        JPEG by number; images without one are left out.

    Raises:
        RunError: The run cannot be read.
    """
    if not len(index):
        return {}
    numbers = ", ".join(str(int(number)) for number in index)  # a list of literals prunes row groups
    table = query_arrow(
        run.path,
        f"SELECT index, thumbnail FROM rows WHERE index IN ({numbers}) AND thumbnail IS NOT NULL",
        parts_of(run, index),
    )
    return dict(zip(table["index"].to_pylist(), table["thumbnail"].to_pylist(), strict=True))


def first_thumbnails(run: Run, n: int) -> list[bytes]:
    """Thumbnails of a run's first scored images, which are a stratified random sample.

    Args:
        run: The run.
        n: Most of them.

    Returns:
        JPEGs.

    Raises:
        RunError: The run cannot be read.
    """
    sql = "SELECT thumbnail FROM rows WHERE jepa_score IS NOT NULL AND thumbnail IS NOT NULL LIMIT $n"
    return query_arrow(run.path, sql, n=int(n))["thumbnail"].to_pylist()


def _ranking(known: Reading, values: pa.DoubleArray) -> Ranking:
    """The order of a reading's images by score, (N,); those whose score is null are left out."""
    order = _order(values, known.keys)
    codes, names, labels = known.class_codes, known.class_names, known.labels
    here = codes[order]
    counts = np.bincount(here, minlength=len(names))
    if not counts.all():  # a class without a score under this rule
        kept = np.flatnonzero(counts)
        place = np.cumsum(counts > 0, dtype=np.int32) - 1
        codes, here, counts = place[codes], place[here], counts[kept]
        names, labels = tuple(names[code] for code in kept), tuple(labels[code] for code in kept)
    short = here.astype(np.uint16) if len(names) < 1 << 16 else here  # sorted by counting
    return Ranking(
        reading=known,
        order=order,
        class_names=names,
        labels=labels,
        scores=_floats(values)[order],
        _codes=codes,
        _by_class=np.argsort(short, kind="stable").astype(np.int32),
        _class_ends=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
    )


def _order(values: pa.DoubleArray, keys: pa.StringArray) -> NDArray[np.int32]:
    """Rows by score and key, NaN last, without those that are null."""
    scores = _floats(values)
    order = np.argsort(scores)
    if values.null_count:
        order = order[values.is_valid().to_numpy(zero_copy_only=False)[order]]
    ordered = scores[order]
    alike = (ordered[1:] == ordered[:-1]) | np.isnan(ordered[:-1])
    if alike.any():  # few, in general
        tied = np.flatnonzero(np.append(alike, False) | np.insert(alike, 0, False))
        rows, group = order[tied], np.cumsum(np.insert(~alike, 0, True))[tied]
        table = pa.table({"group": group, "key": keys.take(pa.array(rows)), "row": rows})
        order[tied] = rows[pc.sort_indices(table, [(name, "ascending") for name in table.column_names]).to_numpy()]
    return order.astype(np.int32)


def _floats(values: pa.DoubleArray) -> NDArray[np.float64]:
    """Numbers, NaN for null."""
    return values.to_numpy(zero_copy_only=False)
