"""What a report tells, gathered from the store: plain values, ready for the page."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from jepascore_core import store
from jepascore_core.errors import RunError
from jepascore_core.naming import (
    dataset_name,
    encoder_name,
    input_side,
    is_imported,
    origin,
    precision,
    public_id,
    rule_name,
    score_title,
    without_folders,
)
from jepascore_core.report import figures
from jepascore_core.report.members import Member, families
from jepascore_core.report.separated import Separated, separate, verdict
from jepascore_core.report.strips import Strip, strips
from jepascore_core.store import Run, ScoreRule
from jepascore_core.store.request import format_classes
from jepascore_core.text import EMPTY, count, listed, plural
from jepascore_core.versions import versions

IMAGES = 6  # at each end of a strip
MOST_FAILURES = 20  # of a run, named one by one


@dataclass(frozen=True)
class RunFacts:
    """One run: where it comes from, and what it found; ``error`` is its largest error bar, nats."""

    name: str
    folder: str
    dataset: str
    fingerprint: str
    planned: int
    done: int
    failed: int
    sample: str
    convention: str
    precision: str
    device: str
    error: float
    created: datetime | None
    versions: str
    again: str
    warning: str
    failures: Sequence[tuple[str, str]]
    strips: Sequence[Strip]


@dataclass(frozen=True)
class EncoderFacts:
    """One encoder, at one input size: a chapter of the report."""

    name: str
    facts: Sequence[tuple[str, str]]
    figures: Sequence[figures.Drawn]
    separation: Sequence[Separated]
    reference: str
    verdict: str
    runs: Sequence[RunFacts]


@dataclass(frozen=True)
class ReportFacts:
    """Everything that the page shows."""

    title: str
    lead: str
    score: str
    encoders: Sequence[EncoderFacts]
    classes_left_out: bool
    command: str
    shortened: bool
    versions: Mapping[str, str]


def gather(runs: Sequence[Run], *, rule: ScoreRule, classes: Sequence[str] | None, n: int) -> ReportFacts:
    """Gather a report; arguments as ``make_report``.

    Args:
        runs: The runs.
        rule: Convention of the score.
        classes: Classes whose extremes are shown; None takes the largest few of each run.
        n: Images at each end of a strip.

    Returns:
        The facts.

    Raises:
        RunError: There is no run, one cannot be read, or one has no score under the rule.
    """
    runs = list({run.path.resolve(): run for run in runs}.values())
    if not runs:
        raise RunError("A report needs at least one run.")
    if n < 1:
        raise RunError(f"The number of images at each end must be at least 1, not {n}.")
    for run in runs:
        run.check()
    found = families(runs, rule)
    pictures, left_out = strips([member for family in found for member in family], classes, n)
    turn = iter(pictures)
    chapters = [_encoder(family, [next(turn) for _ in family]) for family in found]
    chapters = [replace(chapter, name=name) for chapter, name in zip(chapters, _titles(found), strict=True)]
    sets = list(dict.fromkeys(dataset_name(run) for run in runs))
    scored = sum(facts.done for chapter in chapters for facts in chapter.runs)
    return ReportFacts(
        title=f"JEPA-SCORE of {_some(sets)}",
        lead=f"{plural(scored, 'image')} in {plural(len(runs), 'run')}: {_some(sets)} under "
        f"{_some([chapter.name for chapter in chapters])}.",
        score=_rules(runs, rule),
        encoders=chapters,
        classes_left_out=left_out,
        command=_command(runs, rule, classes, n),
        shortened=any("…/" in facts.again for chapter in chapters for facts in chapter.runs),
        versions=versions(),
    )


def _encoder(members: Sequence[Member], pictures: Sequence[Sequence[Strip]]) -> EncoderFacts:
    """One chapter."""
    filled = [member for member in members if len(member.scores)]
    table, reference = separate(filled)
    facts = [_run(member, found) for member, found in zip(members, pictures, strict=True)]
    run = members[0].run
    return EncoderFacts(
        encoder_name(run), _provenance(run), _figures(filled), table, reference, verdict(table, reference), facts
    )


def _titles(found: Sequence[Sequence[Member]]) -> list[str]:
    """Name of each chapter; two encoders of one name are told apart by their weights."""
    names = [encoder_name(family[0].run) for family in found]
    return [
        f"{name}, {input_side(family[0].run)} ({family[0].run.meta['encoder']['digest'][:8]})"
        if names.count(name) > 1
        else name
        for name, family in zip(names, found, strict=True)
    ]


def _figures(members: Sequence[Member]) -> list[figures.Drawn]:
    """Figures of one encoder; none without a score."""
    if not members:
        return []
    run, rule = members[0].run, members[0].rule
    curves = [figures.Curve(member.name, member.colour, member.values) for member in members]
    stored = [member for member in members if not store.is_given(member.run)]
    bands = [figures.Band(member.name, member.colour, store.spectrum_band(member.run)) for member in stored]
    title, key = score_title(rule), f"{run.meta['encoder']['digest']}{input_side(run)}"
    spectra = [figures.spectra(bands, int(run.meta["encoder"]["null_dim"]), key)] if bands else []
    return [figures.density(curves, title, key, _caption(members)), figures.ecdf(curves, title, key), *spectra]


def _caption(members: Sequence[Member]) -> str:
    """What a figure shows: encoder, datasets, numbers of images, convention."""
    run = members[0].run
    sets = [f"{member.name} ({plural(len(member.scores), 'image')})" for member in members]
    computed = listed(list(dict.fromkeys(precision(member.run) for member in members)))
    dim = run.meta["encoder"]["embedding_dim"] or "unknown"  # of what was imported as scores alone
    encoder = f"{encoder_name(run)}, D = {dim}, {input_side(run)}, {computed}"
    return f"{encoder}: {listed(sets)}. Score: {_rules([member.run for member in members], members[0].rule)}."


def _rules(runs: Sequence[Run], rule: ScoreRule) -> str:
    """How the scores of some runs are called."""
    return f"{listed(list(dict.fromkeys(rule_name(rule, [run]) for run in runs)))}, in nats"


def _provenance(run: Run) -> list[tuple[str, str]]:
    """Which encoder it was."""
    encoder = run.meta["encoder"]
    if is_imported(run):
        dim = encoder["embedding_dim"]
        return [
            ("Encoder", public_id(encoder["id"])),
            ("Weights", "unknown: the results were imported"),
            *([("Embedding size D", str(dim)), ("Null directions", str(encoder["null_dim"]))] if dim else []),
        ]
    return [
        ("Encoder", public_id(encoder["id"])),
        (
            "Weights",
            str(encoder.get("family") or "trained") if encoder.get("pretrained", True) else "random: a control",
        ),
        ("Weights digest", encoder["digest"]),
        ("Embedding size D", str(encoder["embedding_dim"])),
        ("Null directions", f"{encoder['null_dim']}, by construction" if encoder["null_dim"] else "none"),
        ("Input", input_side(run)),
        *((word.capitalize(), str(encoder.get(word) or EMPTY)) for word in ("pooling", "licence", "paper")),
    ]


def _run(member: Member, pictures: Sequence[Strip]) -> RunFacts:
    """One run."""
    run, meta, counts = member.run, member.run.meta, store.counts(member.run)
    made = meta.get("versions")
    return RunFacts(
        name=member.name,
        folder=run.name,
        dataset=public_id(meta["dataset"]["id"]),
        fingerprint=str(meta["dataset"].get("fingerprint") or EMPTY),
        planned=counts["planned"],
        done=counts["done"],
        failed=counts["failed"],
        sample=without_folders(origin(run)).rstrip(".") or _sample(meta["sample"]),
        convention=rule_name(member.rule, [run]),
        precision=precision(run),
        device=str(meta.get("device") or EMPTY),
        error=float(member.scores["score_error"].max()),
        created=_moment(meta.get("created")),
        versions=", ".join(f"{name} {version}" for name, version in made.items()) if isinstance(made, dict) else "",
        again=_score_command(run),
        warning=without_folders(run.warning or "", member.folders),
        failures=_failures(member),
        strips=pictures,
    )


def _failures(member: Member) -> list[tuple[str, str]]:
    """The first images without a score, and why."""
    rows = store.failures(member.run).head(MOST_FAILURES)
    return [
        (without_folders(str(key), member.folders), without_folders(str(error), member.folders))
        for key, error in zip(rows["key"], rows["error"], strict=True)
    ]


def _command(runs: Sequence[Run], rule: ScoreRule, classes: Sequence[str] | None, n: int) -> str:
    """The command that makes the report again, from the runs' folders."""
    words = ["python", "-m", "jepascore_core", "report", *(run.name for run in runs)]
    words += ["--score", rule.convention] if rule.convention != "raw" else []
    words += ["--eps", f"{rule.eps:g}"] if rule.eps != ScoreRule().eps else []
    words += ["--classes", format_classes(classes)] if classes is not None else []
    words += ["--n", str(n)] if n != IMAGES else []
    return shlex.join([*words, "--out", "report.html"])


def _score_command(run: Run) -> str:
    """The command that makes a run again, without the folders of this machine; "" where the run does not say."""
    try:
        asked = run.request()
        asked = replace(asked, dataset_id=public_id(asked.dataset_id), encoder_id=public_id(asked.encoder_id))
        return shlex.join(["python", "-m", "jepascore_core", "score", *asked.to_argv()])
    except (RunError, AttributeError, TypeError, ValueError):  # run.json may hold anything
        return ""


def _sample(sample: Mapping[str, object]) -> str:
    """Which images were chosen."""
    limits = (("per_class", "of a class"), ("limit", "in all"))
    words = [f"at most {sample[key]} {what}" for key, what in limits if sample.get(key)]
    classes = sample.get("classes")
    if isinstance(classes, list) and classes:
        words.append("one class" if len(classes) == 1 else f"{len(classes)} classes")
    return f"{', '.join(words)}, seed {sample.get('seed')}" if words else "all images"


def _moment(text: object) -> datetime | None:
    """When a run was made."""
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None


def _some(words: Sequence[str]) -> str:
    """A list that does not grow without end."""
    return listed(list(words)) if len(words) <= 6 else f"{', '.join(words[:5])} and {count(len(words) - 5)} more"
