"""Wrong labels: a share of a run's labels is shuffled, and methods that see labels must find which.

Each method gives every row a value for its label; a low one means that the label is doubted. Whatever is learnt (class
means, neighbours) is learnt from the shuffled labels, which is all that anybody has, of rows in other folds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jepascore_core.outliers import OutlierError, Rows
from jepascore_core.outliers.baselines import class_sums, unit
from jepascore_core.outliers.methods import eq5
from jepascore_core.outliers.metrics import Interval, placements
from jepascore_core.outliers.rows import folds_of, mixed
from jepascore_core.sensitivity.estimates import LEAST, around, directed
from jepascore_core.text import number as number_

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
Judge = Callable[[Labels], Floats]

SHARES = (0.05, 0.1, 0.2, 0.3, 0.4)
DRAWS = 20  # shufflings of each share
FOLDS = 5
NEIGHBOURS = 10
_FEW = 5  # a class of few rows leans on the spread of all
_CHUNK = 20_000_000  # cosines at once


@dataclass(frozen=True, slots=True)
class LabelMethod:
    """A way to doubt labels.

    Attributes:
        name: Its id, as programs read it.
        title: Its name for people.
        about: What it is, in a phrase.
        needs_embeddings: Whether it reads embeddings.
        prepare: From rows and their folds (N,) to a judge of given labels (N,), whose low values (N,) are doubted.
        control: Whether it cannot see labels, and must therefore come out at a half.
    """

    name: str
    title: str
    about: str
    needs_embeddings: bool
    prepare: Callable[[Rows, Labels], Judge]
    control: bool = False


@dataclass(frozen=True, slots=True)
class LabelFinding:
    """How well one method finds the wrong labels of one share.

    Attributes:
        share: Of the rows whose labels were shuffled.
        wrong: Rows whose label is another one afterwards, on average over the shufflings.
        n: All rows.
        draws: Shufflings.
        method: Who judges.
        auroc: Of right labels over wrong ones, the mean over the shufflings.
        direction: Whether low values mean wrong labels: ``holds``, ``inverted`` or ``undecided``.
    """

    share: float
    wrong: float
    n: int
    draws: int
    method: LabelMethod
    auroc: Interval
    direction: str


def label_noise(
    rows: Rows, *, shares: Sequence[float] = SHARES, draws: int = DRAWS, seed: int = 0
) -> tuple[list[LabelFinding], dict[str, str]]:
    """Shuffle a share of the labels, and see which methods find the wrong ones.

    Args:
        rows: Rows of a labelled run; those without a label or a score are passed over.
        shares: Of the rows, above 0 and at most 1; the rows of a smaller share are among those of a larger one.
        draws: Shufflings of each share, ≥ 1.
        seed: Of the shufflings and the folds.

    Returns:
        One finding for each share and method, and why not, by the title of each method that is not possible.

    Raises:
        OutlierError: There are fewer than two classes, a share is out of its range, or so few rows that no label is
            wrong.
    """
    for share in shares:
        if not 0 < share <= 1:
            raise OutlierError(f"A share of labels lies above 0 and is 1 at most, not {share:g}.")
    labelled = rows.take((rows.class_names != "") & np.isfinite(eq5(rows)))
    names, labels = np.unique(labelled.class_names.astype(str), return_inverse=True)
    if len(names) < 2:
        raise OutlierError(
            f"Label noise needs at least two classes; the scored images of {rows.name} have {len(names)}."
        )
    folds = folds_of(labelled.keys, FOLDS, seed)
    able = [method for method in METHODS if not method.needs_embeddings or labelled.embeddings is not None]
    left_out = {method.title: f"{rows.name} holds no embeddings" for method in METHODS if method not in able}
    judges = {method.name: method.prepare(labelled, folds) for method in able}
    found = []
    for share in shares:
        drawn = [shuffled(labelled, labels, share, seed * 1000 + number) for number in range(draws)]
        drawn = [given for given in drawn if LEAST <= int((given != labels).sum()) <= len(labels) - LEAST]
        if not drawn:
            raise OutlierError(
                f"Shuffling {number_(100 * share, 0)} % of the {len(labels)} labels of {rows.name} leaves too few "
                "wrong or too few right ones."
            )
        for method in able:
            if one := _finding(method, judges[method.name], labels, drawn, share):
                found.append(one)
            else:
                left_out[method.title] = "it gives too few rows a finite value"
    return found, left_out


def shuffled(rows: Rows, labels: Labels, share: float, seed: int = 0) -> Labels:
    """Labels of which a share was shuffled among its own rows, so that classes keep their sizes.

    Args:
        rows: (N,); a hash of their keys decides which are shuffled.
        labels: (N,).
        share: Of the rows.
        seed: Another seed, another shuffling.

    Returns:
        (N,); some of the shuffled rows may have kept their label by chance.
    """
    order = np.argsort(mixed(rows.identities, seed), kind="stable")
    chosen = order[: round(share * len(labels))]
    given = labels.copy()
    given[chosen] = labels[chosen][np.random.default_rng(seed).permutation(len(chosen))]
    return given


def _finding(
    method: LabelMethod, judge: Judge, labels: Labels, drawn: Sequence[Labels], share: float
) -> LabelFinding | None:
    """How well one method does on average; None where it gives too few rows a value.

    A row is right in one shuffling and wrong in another; its interval comes from what each row adds over all of them.
    """
    influence, values, wrongs = np.zeros(len(labels)), list[float](), list[int]()
    for given in drawn:
        judged, wrong = judge(given), given != labels
        held = np.isfinite(judged)
        right, doubted = np.flatnonzero(held & ~wrong), np.flatnonzero(held & wrong)
        if min(len(right), len(doubted)) < LEAST:
            continue
        wins, losses = placements(judged[right], judged[doubted])
        value = float(wins.mean())
        influence[right] += (wins - value) / len(right)
        influence[doubted] += (losses - value) / len(doubted)
        values.append(value)
        wrongs.append(len(doubted))
    if not values:
        return None
    n = len(labels)
    variance = float((influence**2).sum()) / len(values) ** 2 * n / max(n - 1, 1)
    auroc = around(float(np.mean(values)), variance)
    return LabelFinding(share, float(np.mean(wrongs)), n, len(values), method, auroc, directed(auroc))


def _plain(rows: Rows, _folds: Labels) -> Judge:
    """The score itself, which knows nothing of labels."""
    scores = eq5(rows)
    return lambda given: scores


def _class_standard(rows: Rows, folds: Labels) -> Judge:
    """Minus the distance of the score from the mean of its label's class, in standard deviations of that class."""
    scores = eq5(rows)

    def judge(given: Labels) -> Floats:
        values, classes = np.full(len(scores), np.nan), int(given.max()) + 1
        for fold in np.unique(folds):
            mine, fit = folds == fold, folds != fold
            sizes = np.bincount(given[fit], minlength=classes)
            with np.errstate(invalid="ignore", divide="ignore"):
                centre = np.bincount(given[fit], scores[fit], classes) / sizes  # NaN of a class without a row
                off = scores[fit] - centre[given[fit]]
                pooled = float((off**2).sum()) / max(int(fit.sum()) - int((sizes > 0).sum()), 1)
                spread = np.sqrt((np.bincount(given[fit], off**2, classes) + _FEW * pooled) / (sizes - 1 + _FEW))
                values[mine] = -np.abs(scores[mine] - centre[given[mine]]) / spread[given[mine]]
        return values

    return judge


def _own_mean(rows: Rows, folds: Labels) -> Judge:
    """Cosine of the embedding to the mean of its label's class."""
    z = unit(_embeddings(rows))

    def judge(given: Labels) -> Floats:
        values, classes = np.full(len(z), np.nan), int(given.max()) + 1
        for fold in np.unique(folds):
            mine, fit = folds == fold, folds != fold
            sums = class_sums(z[fit], given[fit], classes)
            with np.errstate(invalid="ignore"):
                means = sums / np.linalg.norm(sums, axis=1, keepdims=True)  # NaN of a class without a row
            values[mine] = (z[mine] * means[given[mine]]).sum(1)
        return values

    return judge


def _neighbours_agree(rows: Rows, folds: Labels) -> Judge:
    """Share of the nearest rows in other folds, by cosine, that carry the same label."""
    z = unit(_embeddings(rows)).astype(np.float32)
    k = min(NEIGHBOURS, min((int((folds != fold).sum()) for fold in np.unique(folds)), default=0))
    nearest = np.zeros((len(z), k), np.int64)
    for fold in np.unique(folds) if k else ():
        mine, fit = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        for part in np.array_split(mine, max(1, len(mine) * len(fit) // _CHUNK)):
            nearest[part] = fit[np.argpartition(-(z[part] @ z[fit].T), k - 1, axis=1)[:, :k]]
    missing = ~np.isfinite(z).all(1)

    def judge(given: Labels) -> Floats:
        if not k:
            return np.full(len(z), np.nan)
        return np.where(missing, np.nan, (given[nearest] == given[:, None]).mean(1))

    return judge


def _embeddings(rows: Rows) -> NDArray[np.float32]:
    assert rows.embeddings is not None  # ``label_noise`` asks first
    return rows.embeddings


METHODS = (
    LabelMethod(
        "jepa_score", "JEPA-SCORE (control)", "eq. (5): knows nothing of labels, so that a half is all it can reach",
        False, _plain, control=True,
    ),
    LabelMethod(
        "jepa_score_class", "JEPA-SCORE, per class",
        "minus the distance of the score from the mean of its label's class, in standard deviations of that class",
        False, _class_standard,
    ),
    LabelMethod(
        "class_cosine", "Cosine to own class mean", "cosine of the embedding to the mean of its label's class", True,
        _own_mean,
    ),
    LabelMethod(
        "knn_agreement", "k-NN label agreement",
        f"share of the {NEIGHBOURS} nearest embeddings that carry the same label", True, _neighbours_agree,
    ),
)  # fmt: skip
