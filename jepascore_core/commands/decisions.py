"""Commands that go from scores to decisions: ``outliers``, ``curate`` and ``readiness``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from jepascore_core.commands.app import Json, RunName, RunsDir, Score, command
from jepascore_core.commands.printing import one_line, print_json, print_rows, progress_bar

PANEL = "Decide"  # of --help


@command(PANEL, "outliers jepa-tiny-photos-0123456789 jepa-tiny-digits-0123456789 --drop-top 20")
def outliers(
    run_in: Annotated[str, typer.Argument(metavar="RUN_IN", help="Run of in-distribution images, by name or folder.")],
    runs_out: Annotated[list[str], typer.Argument(metavar="RUN_OUT...", help="Runs of other images, same encoder.")],
    drop_top: Annotated[
        float, typer.Option(min=0, max=99.9, help="Tail score: share of the largest singular values to drop, %.")
    ] = 10.0,
    seed: Annotated[int, typer.Option(help="Seed of folds, models and resamples.")] = 0,
    as_json: Json = False,
    runs_dir: RunsDir = None,
) -> None:
    """Tell images of other runs from those of one: JEPA-SCORE, its variants, and rivals on the stored embeddings.

    AUROC, AUPR and FPR at 95 % TPR with 95 % bootstrap intervals; in-distribution images are the positive class, and
    a higher score should mean them. Nothing is judged by a model that was fitted to it.
    """
    from jepascore_core import store
    from jepascore_core.outliers import as_facts, evaluate, rows_of_runs

    opened = [store.open_run(run, runs_dir) for run in (run_in, *runs_out)]
    inside, *others = rows_of_runs(opened[0], opened[1:], seed=seed)
    with progress_bar("Judging") as advance:
        found = evaluate(inside, others, drop_top=drop_top, seed=seed, on_method=advance)
    facts = as_facts(found)
    for title, why in found.left_out.items():
        typer.echo(f"left out: {one_line(title)}: {one_line(why)}", err=True)
    for warning in dict.fromkeys([*found.warnings, *(words for row in facts for words in row["warnings"])]):
        typer.echo(one_line(warning), err=True)
    if as_json:
        print_json(facts)
        return
    for out in others:
        typer.echo(f"\n{one_line(inside.name)} against {one_line(out.name)}: {len(inside)} and {len(out)} images")
        print_rows([_in_words(row) for row in facts if row["out"] == out.name], False, _COLUMNS)
    typer.echo(f"\n{one_line(max((row['rows'] for row in facts), key=len, default=''))}")


_COLUMNS = ["method", "AUROC", "AUPR", "FPR95", "lower score = outlier", "p against jepa_score", "seconds"]


def _in_words(row: dict[str, Any]) -> dict[str, str]:
    """One line of the table."""
    interval = {name: f"{row[name]:.3f} ({row[f'{name}_low']:.3f} to {row[f'{name}_high']:.3f})" for name in
                ("auroc", "aupr", "fpr95")}  # fmt: skip
    p = row["p"]
    return {
        "method": row["method"],
        "AUROC": interval["auroc"],
        "AUPR": interval["aupr"],
        "FPR95": interval["fpr95"],
        "lower score = outlier": row["direction"],
        "p against jepa_score": "" if p != p else "< 0.001" if p < 0.001 else f"{p:.3f}",
        "seconds": f"{row['fit_s'] + row['judge_s']:.2f}",
    }


@command(PANEL, "curate jepa-tiny-photos-0123456789 --rule top --keep 0.25 --to keep.txt")
def curate(
    run: RunName,
    keep: Annotated[str, typer.Option(help="Shares to keep, comma-separated.")] = "0.1,0.25,0.5,0.75",
    by: Annotated[str, typer.Option(help="raw (eq. 5), sphere, corrected, listing1, or brightness.")] = "raw",
    rule: Annotated[
        str, typer.Option(help="top, bottom, middle, stratified (the highest of each class), stratified_bottom.")
    ] = "top,bottom,middle,stratified",
    seeds: Annotated[int, typer.Option(help="Splits into images to choose from and held-out ones; at least 3.")] = 20,
    limit: Annotated[
        int, typer.Option(min=1, help="Most images that take part: the first, a stratified sample.")
    ] = 2000,
    near: Annotated[
        float | None, typer.Option(help="Cosine similarity of near-duplicates. Default: told by the images; 1 is off.")
    ] = None,
    keep_duplicates: Annotated[bool, typer.Option("--keep-duplicates", help="Let duplicates take part.")] = False,
    to: Annotated[
        Path | None, typer.Option(help="File for what one rule keeps at one share: .txt (keys), .csv or .parquet.")
    ] = None,
    as_json: Json = False,
    runs_dir: RunsDir = None,
) -> None:
    """Is keeping images by score better than keeping as many at random? Duplicates first, then two probes.

    A linear and a k-NN probe are fitted on what each rule keeps, and judged on held-out images, against random choice
    of the same size. With `--to`, what the one rule keeps of the whole run is written, and nothing is measured.
    """
    from jepascore_core import curating, store
    from jepascore_core.curation import PROBE_WORDS

    rules, fractions = _names(rule), _shares(keep)
    opened = store.open_run(run, runs_dir)
    searched = curating.search(opened, near=near)
    among = curating.candidates(opened, by, searched)
    if to is not None:
        _write_kept(among, rules, fractions, keep_duplicates, to)
        return
    with progress_bar("splits") as advance:
        trials = curating.measure(
            among, searched, rules=rules, fractions=fractions, seeds=seeds, most=limit,
            keep_duplicates=keep_duplicates, on_progress=lambda done, total: advance(done, total, ""),
        )  # fmt: skip
    facts = curating.curated(among, searched, trials)
    if as_json:
        print_json(facts)
        return
    for sentence in (facts["verdict"], facts["classes_lost"], facts["duplicates"]["sentence"]):
        if sentence:
            typer.echo(f"{one_line(sentence)}\n")
    typer.echo(
        f"{trials.images} images without duplicates, {trials.classes} classes, {by} score; {trials.training:.0f} to "
        f"choose from and {trials.judged:.0f} held out, mean of {trials.seeds} splits; largest class "
        f"{100 * trials.majority:.0f} %\n"
    )
    for probe, name in PROBE_WORDS.items():
        rows = [_outcome_row(one, trials.uneven) for one in trials.outcomes if one.probe == probe]
        typer.echo(name)
        print_rows(rows, False, list(rows[0]))
        typer.echo()


@command(PANEL, "readiness jepa-tiny-digits-0123456789 --reference jepa-tiny-photos-0123456789")
def readiness(
    run: RunName,
    reference: Annotated[
        list[str], typer.Option(metavar="RUN", help="Run of the same encoder to compare with; may be repeated.")
    ],
    score_name: Score = "raw",
    seed: Annotated[int, typer.Option(help="Of the images whose embeddings are compared.")] = 0,
    as_json: Json = False,
    runs_dir: RunsDir = None,
) -> None:
    """What do scores, embeddings and classes say of an encoder in a domain, beside runs that it is at home in?

    Separation of the scores, coverage of the domain by each reference, effective rank, and how many images' classes
    their nearest neighbours name; each with an interval, and a sentence that says no more than they do.
    """
    from jepascore_core import readiness as ready
    from jepascore_core import store

    references = [store.open_run(name, runs_dir) for name in reference]
    found = ready.assess(store.open_run(run, runs_dir), references, store.ScoreRule(score_name), seed=seed)
    if as_json:
        print_json({"score": score_name, **ready.facts(found)})
        return
    typer.echo(f"{one_line(ready.sentence(found))}\n")
    rows = [{"measure": one_line(name), "value": one_line(value)} for name, value in ready.table(found)]
    print_rows(rows, False, ["measure", "value"])


def _names(text: str) -> list[str]:
    """Names between commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def _shares(text: str) -> list[float]:
    """Numbers between commas.

    Raises:
        RunError: One is no number.
    """
    from jepascore_core.errors import RunError

    try:
        return [float(number) for number in _names(text)]
    except ValueError as error:
        raise RunError(f"--keep takes shares between 0 and 1, comma-separated, not {text!r}.") from error


def _write_kept(among: Any, rules: list[str], fractions: list[float], keep_duplicates: bool, to: Path) -> None:
    """Write what one rule keeps at one share.

    Raises:
        RunError: Several rules or shares were asked for.
    """
    from jepascore_core import curating
    from jepascore_core.errors import RunError

    if len(rules) != 1 or len(fractions) != 1:
        raise RunError("--to writes what one rule keeps at one share: name one --rule and one --keep.")
    chosen = curating.selected(among, rules[0], fractions[0], keep_duplicates=keep_duplicates)
    typer.echo(f"{curating.write_selection(among, chosen, to)} of {len(among)} images", err=True)
    typer.echo(to)


def _outcome_row(one: Any, uneven: bool) -> dict[str, str]:
    """One line of the table of ``curate``."""
    tested = one.control != ""
    return {
        "rule": one.rule,
        "keep": f"{one.fraction:g}",
        "images": f"{one.n_kept:.0f}",
        "accuracy": f"{one.accuracy:.3f} ({one.low:.3f} to {one.high:.3f})",
        **({"balanced": f"{one.balanced:.3f}"} if uneven else {}),
        "against random": f"{one.difference:+.3f} ({one.difference_low:+.3f} to {one.difference_high:+.3f})"
        if tested
        else "",
        "p, Holm": ("< 0.001" if one.p_holm < 0.001 else f"{one.p_holm:.3f}") if tested else "",
        "found": one.found if tested else "",
        "classes lost": str(one.classes_lost),
    }
