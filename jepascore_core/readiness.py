"""How an encoder takes to a domain: its scores, its embeddings and its classes, beside reference runs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jepascore_core import coverage as covering
from jepascore_core import curating, store
from jepascore_core.coverage import Coverage, Measured, wilson
from jepascore_core.curation.duplicates import find_duplicates
from jepascore_core.curation.probes import NEIGHBOURS, balanced_accuracy, unit, votes
from jepascore_core.effective_rank import embedding_rank
from jepascore_core.errors import RunError
from jepascore_core.naming import dataset_name, distinct_names, encoder_name
from jepascore_core.separation import Separation, separation
from jepascore_core.store import Run, ScoreRule, encoder_of, same_dataset
from jepascore_core.text import count, listed, number

Floats = NDArray[np.float32]

LOW_SHARE = 0.05  # quantile of the reference below which images count as low
MOST_COVERED = 2_000  # images of each run whose embeddings are compared
MOST_PROBED = 5_000  # images of the domain whose classes are asked
FEWEST_PROBED = 20
_NEAREST = 40  # enough for five that are left when a twentieth is left out
_DRAWS = 4000
_TOLD = 3  # references of a sentence with their numbers
_BLOCK_CELLS = 1 << 23


@dataclass(frozen=True, slots=True)
class Beside:
    """A domain beside one reference.

    Attributes:
        run: Folder name of the reference.
        name: Its dataset.
        n: Its scored images.
        separation: Of the scores; the domain is the other set. None with fewer than two scores on a side.
        low: Share of the domain's images that score below the reference's 5 % quantile, 0..1.
        coverage: Of the domain by the reference; None where ``why`` says why not.
        rank: Effective rank of the reference's embeddings, from as many images as that of the domain.
        why: Why there is no coverage, or "".
    """

    run: str
    name: str
    n: int
    separation: Separation | None
    low: Measured
    coverage: Coverage | None
    rank: Measured
    why: str = ""


@dataclass(frozen=True, slots=True)
class Probed:
    """Whether a domain's classes lie apart.

    Attributes:
        accuracy: Share of images whose class their five nearest others name, 0..1.
        balanced: The same, mean over classes.
        majority: Share of the largest class, which naming it always would reach.
        chance: One by the number of classes.
        classes: Number of classes.
        n: Images, without duplicates.
    """

    accuracy: Measured
    balanced: float
    majority: float
    chance: float
    classes: int
    n: int


@dataclass(frozen=True, slots=True)
class Readiness:
    """What is known of an encoder in a domain.

    Attributes:
        run: Folder name of the domain's run.
        name: Its dataset.
        encoder: Name of the encoder.
        dim: D.
        n: Scored images of the domain.
        rank: Effective rank of its embeddings; NaN where ``why_no_rank`` says why.
        rank_images: Images that effective ranks rest on, the same for domain and references.
        probed: Whether its classes lie apart; None where ``why_no_probe`` says why not.
        beside: The references.
        why_no_rank: A sentence, or "".
        why_no_probe: A sentence, or "".
    """

    run: str
    name: str
    encoder: str
    dim: int
    n: int
    rank: Measured
    rank_images: int
    probed: Probed | None
    beside: tuple[Beside, ...]
    why_no_rank: str = ""
    why_no_probe: str = ""


def assess(domain: Run, references: Sequence[Run], rule: ScoreRule | None = None, *, seed: int = 0) -> Readiness:
    """Measure an encoder on a domain beside reference runs of the same encoder.

    Args:
        domain: The run that is judged.
        references: At least one other run of the same encoder.
        rule: Convention of the score; not ``corrected``, which rests on another Gaussian in each run.
        seed: Of the images that are compared.

    Returns:
        The measures, with intervals.

    Raises:
        RunError: There is no reference, a run is of another encoder or cannot be read, or the convention cannot be
            compared.
    """
    rule = rule or ScoreRule()
    _check(domain, references, rule)
    runs = [domain, *references]
    names = distinct_names(references)
    scores = [store.ranking(run, rule).scores for run in runs]
    scores = [values[np.isfinite(values)] for values in scores]
    vectors = [_embeddings(run) for run in runs]
    common = min((len(rows) for rows in vectors if len(rows)), default=0)
    ranks = [_rank(rows, common, seed) for rows in vectors]
    probed, why_no_probe = _probed(domain)
    beside = [
        _beside(run, names[run.name], scores[0], values, vectors[0], rows, rank, seed)
        for run, values, rows, rank in zip(references, scores[1:], vectors[1:], ranks[1:], strict=True)
    ]
    return Readiness(
        run=domain.name, name=dataset_name(domain), encoder=encoder_name(domain),
        dim=int(domain.meta["encoder"].get("embedding_dim") or vectors[0].shape[1]), n=len(scores[0]),
        rank=ranks[0], rank_images=common, probed=probed, beside=tuple(beside), why_no_probe=why_no_probe,
        why_no_rank=_why_no_rank(vectors[0], common),
    )  # fmt: skip


def low_share(reference: NDArray[np.float64], domain: NDArray[np.float64], *, seed: int = 0) -> Measured:
    """Share of a domain's scores below the 5 % quantile of a reference.

    The interval is the bootstrap's over both sets: the quantile of a resampled reference is its order statistic at a
    beta-distributed place, and the share of a resampled domain below that is binomial, so that neither is resampled
    row by row.

    Args:
        reference: Scores (N,), N ≥ 1.
        domain: Scores (M,), M ≥ 1.
        seed: Of the bootstrap.

    Returns:
        The share, 0..1, with its 95 % interval.
    """
    ordered, others = np.sort(reference), np.sort(domain)
    n, m = len(ordered), len(others)
    at = max(1, int(np.ceil(LOW_SHARE * n)))  # the quantile is the at-th smallest
    rng = np.random.default_rng(seed)
    places = np.minimum((rng.beta(at, n - at + 1, _DRAWS) * n).astype(np.int64), n - 1)
    below = np.searchsorted(others, ordered[places], side="left")
    shares = rng.binomial(m, below / m) / m
    low, high = np.quantile(shares, [0.025, 0.975])
    value = float(np.searchsorted(others, ordered[at - 1], side="left") / m)
    exact = wilson(round(value * m), m)  # a share of 0 or 1 is not exactly so
    return Measured(value, min(float(low), exact.low), max(float(high), exact.high))


def leave_one_out(embeddings: Floats, classes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Class that the five most similar others of each image vote for.

    Args:
        embeddings: (N, D), N ≥ 2.
        classes: 0..C−1, (N,).

    Returns:
        (N,).
    """
    return _voted(*_nearest_others(embeddings), classes, np.ones(len(classes), dtype=bool))


def knn_accuracy(embeddings: Floats, classes: NDArray[np.int64]) -> Measured:
    """Share of images whose class ``leave_one_out`` names.

    Images share neighbours, so that their hits are not independent: the interval is the jackknife's, by 20 random
    groups of images, or Wilson's where that is wider.

    Args:
        embeddings: (N, D), N ≥ 20.
        classes: 0..C−1, (N,).

    Returns:
        0..1.
    """
    near, likeness = _nearest_others(embeddings)
    group = np.random.default_rng(0).permutation(np.arange(len(classes)) % covering.GROUPS)

    def hits(left: NDArray[np.bool_]) -> NDArray[np.float64]:
        return np.array([(_voted(near, likeness, classes, left) == classes[left]).mean()])

    (share,), (error,) = covering.jackknife(hits, group)
    low, high = covering.ends(float(share), float(error), 1.0)
    exact = wilson(round(float(share) * len(classes)), len(classes))
    return Measured(float(share), min(low, exact.low), max(high, exact.high))


def _nearest_others(embeddings: Floats) -> tuple[NDArray[np.int64], Floats]:
    """The most similar others of each image, nearest first, and their cosine similarities, (N, k) each."""
    units = unit(embeddings)
    k = min(_NEAREST, len(units) - 1)
    step, found = max(1, _BLOCK_CELLS // len(units)), []
    for start in range(0, len(units), step):
        likeness = units[start : start + step] @ units.T
        likeness[np.arange(len(likeness)), start + np.arange(len(likeness))] = -np.inf
        some = np.argpartition(-likeness, k - 1, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(likeness, some, axis=1), axis=1, kind="stable")
        some = np.take_along_axis(some, order, axis=1)
        found.append((some, np.take_along_axis(likeness, some, axis=1)))
    near, values = zip(*found, strict=True)
    return np.concatenate(near), np.concatenate(values)


def _voted(
    near: NDArray[np.int64], likeness: Floats, classes: NDArray[np.int64], left: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Class that the nearest of those that are left vote for, of each that is left."""
    rows = near[left]  # (M, k)
    here = left[rows]
    first = here & (np.cumsum(here, axis=1) <= NEIGHBOURS)
    return votes(np.where(first, likeness[left], -np.inf), classes[rows])


def sentences(found: Readiness) -> tuple[str, str, str]:
    """What the numbers support, and no more.

    Args:
        found: The measures.

    Returns:
        How the domain lies beside the references, whether its classes lie apart, and what is not said; plain text,
        which never says that an encoder is ready.
    """
    unsaid = (
        "These numbers say how familiar the images are to the encoder and whether these classes lie apart, not how it "
        "will do at a task that was not measured."
    )
    return _differences(found), _classes(found), unsaid


def sentence(found: Readiness) -> str:
    """The same in one text."""
    return " ".join(sentences(found))


def facts(found: Readiness) -> dict[str, Any]:
    """The same for programs: the attributes of ``Readiness`` and ``sentence``."""
    return {"sentence": sentence(found), **asdict(found)}


def table(found: Readiness) -> list[tuple[str, str]]:
    """All measures in words.

    Args:
        found: The measures.

    Returns:
        What was measured and its value with the interval, plain text.
    """
    each = [(f"{one.name}: {name}", value) for one in found.beside for name, value in beside_table(one)]
    return own_table(found) + each


def own_table(found: Readiness) -> list[tuple[str, str]]:
    """The measures of the domain by itself, in words; see ``table``."""
    rows = [("images", count(found.n))]
    if found.why_no_rank:
        rows.append(("effective rank", found.why_no_rank))
    else:
        rows += [
            (f"effective rank, {count(found.rank_images)} images", f"{interval(found.rank, 1)} of {found.dim}"),
            ("effective rank, share of D", interval(share_of_dim(found), 0, percent=True)),
        ]
    if found.probed is None:
        return [*rows, ("k-NN accuracy", found.why_no_probe)]
    mine = found.probed
    return [
        *rows,
        (f"k-NN accuracy, {count(mine.n)} images", interval(mine.accuracy, 1, percent=True)),
        ("balanced accuracy", f"{number(100 * mine.balanced, 1)} %"),
        ("largest class", f"{number(100 * mine.majority, 1)} %"),
        (f"chance, {mine.classes} classes", f"{number(100 * mine.chance, 1)} %"),
    ]


def share_of_dim(found: Readiness) -> Measured:
    """Effective rank of the domain's embeddings by D, 0..1."""
    return Measured(*(value / found.dim for value in (found.rank.value, found.rank.low, found.rank.high)))


def beside_table(one: Beside) -> list[tuple[str, str]]:
    """The measures of a domain beside one reference, in words; see ``table``."""
    rows = [("images", count(one.n))]
    if one.separation is not None:
        apart = one.separation
        auroc = interval(Measured(apart.auroc, apart.low, apart.high))
        rows += [("scores, AUROC", f"{auroc}, {apart.direction}"), ("scores, KS distance", number(apart.ks))]
    rows.append(("scores below its 5 % quantile", interval(one.low, 1, percent=True)))
    if one.coverage is None:
        rows.append(("coverage", one.why))
    else:
        held = one.coverage
        name = f"coverage, {count(held.n)} images of each"
        rows += [
            (name, f"{interval(held.coverage)}; {number(held.expected)} if alike"),
            ("density", f"{interval(held.density)}; about 1 if alike"),
        ]
    rows.append(("its effective rank", interval(one.rank, 1)))
    return rows


def differs(one: Beside) -> bool | None:
    """Whether a domain differs measurably from a reference, in its scores or its embeddings; None if not measured."""
    signs = []
    if one.separation is not None:
        signs.append(one.separation.direction != "not separated")
    if one.coverage is not None:
        signs.append(one.coverage.coverage.high < one.coverage.expected)
    return any(signs) if signs else None


def interval(one: Measured, digits: int = 2, *, percent: bool = False) -> str:
    """A number with its interval in words."""
    scale = 100 if percent else 1
    value = number(scale * one.value, digits) + (" %" if percent and one.value == one.value else "")
    if one.low != one.low:
        return value
    return f"{value} ({number(scale * one.low, digits)} … {number(scale * one.high, digits)})"


def _differences(found: Readiness) -> str:
    """How the domain lies beside the references."""
    groups: dict[bool | None, list[Beside]] = {True: [], False: [], None: []}
    for one in found.beside:
        groups[differs(one)].append(one)
    words = []
    if groups[True]:
        words.append(f"To {found.encoder}, {found.name} differs measurably from {_told(groups[True])}.")
    if groups[False]:
        words.append(
            f"{'It' if words else f'To {found.encoder}, {found.name}'} cannot be told from {_told(groups[False])} by "
            "these measures, which does not show that they are alike."
        )
    if any(one.coverage for one in found.beside):
        alike = min(one.coverage.expected for one in found.beside if one.coverage)
        words.append(f"Coverage would be {number(alike)} if a reference were alike.")
    if groups[None]:
        words.append(f"Beside {listed([one.name for one in groups[None]])} it is undecided: too few images.")
    return " ".join(words)


def _told(references: Sequence[Beside]) -> str:
    """References in a sentence, each with its numbers; of many, the names alone."""
    if len(references) > _TOLD:
        return listed([one.name for one in references])
    return listed([f"{one.name} ({_how(one)})" for one in references])


def _how(one: Beside) -> str:
    """The numbers behind a difference."""
    told = []
    if one.separation is not None:
        ways = {"lower": "its scores lie lower", "higher": "its scores lie higher"}
        way, apart = ways.get(one.separation.direction, "scores not separated"), one.separation
        told.append(f"{way}, AUROC {number(apart.auroc)}, {number(apart.low)} … {number(apart.high)}")
    if one.coverage is not None:
        mine = one.coverage.coverage
        told.append(f"coverage {number(mine.value)}, {number(mine.low)} … {number(mine.high)}")
    return "; ".join(told)


def _classes(found: Readiness) -> str:
    """Whether the classes lie apart."""
    if found.probed is None:
        return found.why_no_probe
    mine = found.probed
    share = f"k-NN names the class of {interval(mine.accuracy, 0, percent=True)} of its images"
    rival = f"naming the largest of the {count(mine.classes)} classes would reach {number(100 * mine.majority, 0)} %"
    if mine.accuracy.low > mine.majority:
        return f"Its classes lie apart: {share}; {rival}."
    if mine.accuracy.high < mine.majority:
        return f"Its classes do not lie apart: {share}; {rival}, which is more."
    return f"Whether its classes lie apart is undecided: {share}; {rival}."


def _check(domain: Run, references: Sequence[Run], rule: ScoreRule) -> None:
    """Refuse what cannot be compared.

    Raises:
        RunError: With the reason.
    """
    if not references:
        raise RunError("A domain is judged beside at least one reference run of the same encoder.")
    for run in (domain, *references):
        if run.problem:
            raise RunError(f"{run.name} cannot be read: {run.problem}")
        if encoder_of(run) != encoder_of(domain):
            raise RunError(f"{run.name} is of another encoder than {domain.name}: their scores share no scale.")
    if same := [run.name for run in references if len(same_dataset([domain, run])) == 1]:
        raise RunError(f"{same[0]} is of the same images as {domain.name}, so that it cannot be its reference.")
    if rule.convention == "corrected":
        raise RunError("Corrected scores of two runs rest on two Gaussians, so that they cannot be compared.")


def _embeddings(run: Run) -> Floats:
    """The first finite embeddings of a run, a stratified sample of a larger one, one of each group of duplicates."""
    rows = store.embeddings(run, MOST_COVERED)
    rows = rows[np.isfinite(rows).all(axis=1)]
    return rows[find_duplicates(rows, [f"{number:06d}" for number in range(len(rows))]).representatives]


def _rank(rows: Floats, common: int, seed: int) -> Measured:
    """Effective rank of some of the embeddings, with the jackknife's interval."""
    if common < covering.FEWEST or not len(rows):
        return Measured(float("nan"))
    rng = np.random.default_rng(seed)
    some = rows[rng.permutation(len(rows))[:common]]
    group = np.arange(common) % covering.GROUPS  # the order is random already
    found, error = covering.jackknife(lambda left: np.array([embedding_rank(some[left])]), group)
    low, high = covering.ends(float(found[0]), float(error[0]), float(rows.shape[1]))
    return Measured(float(found[0]), low, high)


def _why_no_rank(rows: Floats, common: int) -> str:
    if not len(rows):
        return "The run holds no embeddings, so that effective rank, coverage and classes cannot be measured."
    few = f"at least {covering.FEWEST} images of each run are needed"
    return f"Too few images for an effective rank: {few}." if common < covering.FEWEST else ""


def _beside(
    run: Run,
    name: str,
    mine: NDArray[np.float64],
    theirs: NDArray[np.float64],
    here: Floats,
    there: Floats,
    rank: Measured,
    seed: int,
) -> Beside:
    """A domain beside one reference."""
    apart = separation(theirs, mine) if min(len(mine), len(theirs)) > 1 else None
    low = low_share(theirs, mine, seed=seed) if len(mine) and len(theirs) else Measured(float("nan"))
    try:
        if not (len(here) and len(there)):
            raise ValueError("One of the two holds no embeddings.")
        covered, why = covering.coverage(here, there, most=MOST_COVERED, seed=seed), ""
    except ValueError as error:
        covered, why = None, str(error)
    return Beside(run.name, name, len(theirs), apart, low, covered, rank, why)


def _probed(domain: Run) -> tuple[Probed | None, str]:
    """What k-NN makes of the domain's classes, or why it cannot be asked."""
    searched = curating.search(domain)
    among = curating.candidates(domain, "raw", searched)
    named = np.array([name != "" for name in among.class_names], dtype=bool)
    rows = among.distinct()
    rows = rows[(among.where[rows] >= 0) & (named[among.classes[rows]] if len(named) else False)][:MOST_PROBED]
    rows = rows[np.isfinite(searched.embeddings[among.where[rows]]).all(axis=1)]
    classes = len(np.unique(among.classes[rows]))
    if not len(searched.index):
        return None, "It holds no embeddings, so that nothing is said of its classes."
    if not named.any():
        return None, "It has no labels, so that nothing is said of its classes."
    if classes < 2:
        return None, "It has one class only, so that there is nothing to tell apart."
    if len(rows) < FEWEST_PROBED:
        return None, f"Too few labelled images to ask whether classes lie apart: {len(rows)} of {FEWEST_PROBED}."
    codes = among.classes[rows]
    embeddings = searched.embeddings[among.where[rows]]
    sizes = np.bincount(codes)
    return Probed(
        accuracy=knn_accuracy(embeddings, codes), balanced=balanced_accuracy(codes, leave_one_out(embeddings, codes)),
        majority=float(sizes.max() / len(rows)), chance=1 / classes, classes=classes, n=len(rows),
    ), ""  # fmt: skip
