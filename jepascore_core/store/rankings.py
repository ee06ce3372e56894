"""All scored images of a run in the order of their score: what galleries, percentiles and histograms ask, in memory.

A ranking takes about 100 bytes an image and a second to load for a million of them; every question after that takes
milliseconds. Pictures are not in it: ``thumbnails`` reads those that are shown.
"""

import threading
from collections import OrderedDict
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
from jepascore_core.store.rule import ScoreRule, columns_beside, score_column
from jepascore_core.store.runs import Run

_REMEMBERED_ROWS = 6_000_000  # about 600 MB; the rankings used last are kept
_DEFAULT = ScoreRule()


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """Scored images, least likely first. A *place* is a position in it, 0..N−1; ties are broken by key.

    Attributes:
        keys: Key of each image, (N,) string.
        index: Number of each image in its run, (N,).
        class_codes: Place of each image's class in ``class_names``, (N,).
        class_names: Names of the classes, by label; "" where images have none.
        labels: Label of each class.
        scores: Nats, ascending, (N,).
        errors: Rounding error of each score, nats, (N,).
    """

    keys: pa.StringArray = field(repr=False)
    index: NDArray[np.int64] = field(repr=False)
    class_codes: NDArray[np.int32] = field(repr=False)
    class_names: tuple[str, ...]
    labels: tuple[int, ...]
    scores: NDArray[np.float64] = field(repr=False)
    errors: NDArray[np.float32] = field(repr=False)
    _by_class: NDArray[np.int64] = field(repr=False)  # places, class after class
    _class_ends: NDArray[np.int64] = field(repr=False)  # (classes + 1,)

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
        mixed = self.index[places].astype(np.uint64) + np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15)
        return places[np.argsort(pd.util.hash_array(mixed), kind="stable")]

    def place_of(self, key: str) -> int | None:
        """Where an image stands, or None when it has no score."""
        place = pc.index(self.keys, pa.scalar(key)).as_py()
        return None if place < 0 else int(place)

    def places_of(self, keys: Sequence[str]) -> NDArray[np.int64]:
        """Places of some images, ascending; unknown ones are passed over."""
        return np.flatnonzero(pc.is_in(self.keys, value_set=pa.array(keys, pa.string())).to_numpy(zero_copy_only=False))

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
        codes = self.class_codes[places]
        return pd.DataFrame({
            "index": self.index[places],
            "key": self.keys.take(pa.array(places)).to_pylist(),
            "label": np.array(self.labels, dtype=np.int64)[codes] if len(codes) else codes,
            "class_name": np.array(self.class_names, dtype=object)[codes] if len(codes) else [],
            "score": self.scores[places],
            "score_error": self.errors[places].astype(np.float64),
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

    def _of_class(self, name: str) -> NDArray[np.int64]:
        """Places of one class, ascending."""
        if name not in self.class_names:
            return np.zeros(0, dtype=np.int64)
        code = self.class_names.index(name)
        return self._by_class[self._class_ends[code] : self._class_ends[code + 1]]


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
    stamp = parts.stamp(run.path)
    asked = (run.path, rule)
    with _making:  # ten visitors at once wait for one reading
        known = _remembered.get(asked)
        if known is None or known[0] != stamp:
            known = (stamp, _read(run, rule))
            _remembered[asked] = known
        _remembered.move_to_end(asked)
        while len(_remembered) > 1 and sum(len(held) for _, held in _remembered.values()) > _REMEMBERED_ROWS:
            _remembered.popitem(last=False)
    return known[1]


_making = threading.Lock()
_remembered: "OrderedDict[tuple[Path, ScoreRule], tuple[str, Ranking]]" = OrderedDict()


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
        run.path, f"SELECT index, thumbnail FROM rows WHERE index IN ({numbers}) AND thumbnail IS NOT NULL"
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


def _read(run: Run, rule: ScoreRule) -> Ranking:
    """Read the narrow columns of a run and sort them.

    Raises:
        RunError: The run has no score under the rule, or cannot be read.
    """
    score = score_column(run, rule)
    table = query_arrow(
        run.path,
        f"""SELECT index, "key", label, coalesce(class_name, '') AS class_name, {score} AS score, score_error
        FROM rows WHERE jepa_score IS NOT NULL AND {score} IS NOT NULL""",
        beside=columns_beside(run, rule),
    )
    table = table.take(pc.sort_indices(table, [("score", "ascending"), ("key", "ascending")]))
    names = table["class_name"].combine_chunks().dictionary_encode()
    codes = names.indices.to_numpy(zero_copy_only=False).astype(np.int32)
    found = names.dictionary.to_pylist()
    label_of = np.full(len(found), -1, dtype=np.int64)
    label_of[codes] = table["label"].fill_null(-1).to_numpy()
    order = sorted(range(len(found)), key=lambda code: (label_of[code], found[code]))
    codes = np.argsort(order).astype(np.int32)[codes] if found else codes
    return Ranking(
        keys=table["key"].combine_chunks(),
        index=table["index"].to_numpy(),
        class_codes=codes,
        class_names=tuple(found[code] for code in order),
        labels=tuple(int(label_of[code]) for code in order),
        scores=table["score"].to_numpy().astype(np.float64),
        errors=table["score_error"].to_numpy().astype(np.float32),
        _by_class=np.argsort(codes, kind="stable"),
        _class_ends=np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=len(found)))]).astype(np.int64),
    )
