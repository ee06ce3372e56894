"""Where in the spectrum the signal lies: AUROC over the share dropped, over bands and over eps, against each run."""

from contextlib import suppress
from functools import partial

import pandas as pd
import streamlit as st

from jepascore_core.outlier_plots import Curve, band_chart, sweep_chart
from jepascore_core.outliers import ChosenDrop, OutlierError, Sweeps
from jepascore_core.store import Run, ScoreRule
from pages.components import loaders, pickers
from pages.components.captions import caption, chart
from pages.components.guard import card
from pages.components.outliers_choice import Choice
from pages.components.prepared import Tell, prepared
from pages.components.text import listed, md, number, public_md


def draw_sweeps(choice: Choice) -> None:
    """The three sweeps, a colour for each run."""
    found: list[tuple[Run, Sweeps]] = []
    if not prepared("sweeps", choice.runs, partial(_sweep, choice), "Sweeping the spectrum"):
        return
    for run in choice.others:
        try:
            found.append((run, loaders.outlier_sweeps(choice.inside, run)))
        except OutlierError as error:
            st.caption(f":material/info: {public_md(error)}")
    if not found:
        return
    with card("drops"):
        st.markdown("**Without the largest singular values**")
        for run, sweeps in found:
            st.markdown(_chosen(choice.name(run), sweeps.chosen))
        chart(sweep_chart(_curves(choice, found), axis="largest σ dropped (%)"), key="drops", alt=_words(choice, found))
        st.caption(
            "AUROC of Σ log σ without the largest q % of the singular values, DeLong’s 95 % intervals; q = 0 is "
            "eq. (5). The best q of a curve is tuned on the images that it is judged by, and so flattered; the "
            "sentences above choose q on four of five folds and judge the fifth. Both sides take part in the choice: "
            "it tells how q carries over to more outliers of the same kind."
        )
    left, right = st.columns(2, gap="small")
    with left, card("bands", height="stretch"):
        st.markdown("**One band of the spectrum at a time**")
        chart(
            band_chart([(choice.name(run), choice.colours[run.name], sweeps.bands) for run, sweeps in found]),
            key="bands", alt=f"AUROC of single bands of the spectrum against {listed(_names(choice, found))}",
        )  # fmt: skip
        st.caption("Σ log σ over a tenth of the singular values each, the largest first (each σ where there are few).")
    with right, card("eps", height="stretch"):
        st.markdown("**The least σ that counts**")
        chart(
            sweep_chart(_eps_curves(choice, found), axis="ε (logarithmic)", logarithmic=True, mark=(1e-6, "paper")),
            key="eps", alt=f"AUROC over eps against {listed(_names(choice, found))}",
        )  # fmt: skip
        st.caption(_eps_words(found))
    counts = [pickers.scored(run) for run in choice.runs]
    caption(choice.runs, counts, ScoreRule(), "Nothing is fitted.")


def _sweep(choice: Choice, tell: Tell) -> None:
    """Compute the sweeps against each run; one that cannot be is told where it would be drawn."""
    for place, run in enumerate(choice.others):
        tell(place / len(choice.others), f"Sweeping the spectrum against {md(choice.name(run))}")
        with suppress(OutlierError):
            loaders.outlier_sweeps(choice.inside, run)


def _curves(choice: Choice, found: list[tuple[Run, Sweeps]]) -> list[Curve]:
    return [_curve(choice.name(run), choice.colours[run.name], sweeps.drops, "drop_top") for run, sweeps in found]


def _eps_curves(choice: Choice, found: list[tuple[Run, Sweeps]]) -> list[Curve]:
    """Eq. (5) solid with its band and name, Listing 1 dotted."""
    curves = []
    for run, sweeps in found:
        for convention in ("eq5", "listing1"):
            frame = sweeps.epsilons[sweeps.epsilons["convention"] == convention]
            curves.append(_curve(choice.name(run), choice.colours[run.name], frame, "eps", strong=convention == "eq5"))
    return curves


def _curve(name: str, colour: str, frame: pd.DataFrame, x: str, *, strong: bool = True) -> Curve:
    """AUROC over a column of a frame; a weak curve has neither name nor band."""
    values = {column: frame[column].to_numpy(float) for column in (x, "auroc", "low", "high")}
    if not strong:
        return Curve("", colour, values[x], values["auroc"], strong=False)
    return Curve(name, colour, values[x], values["auroc"], values["low"], values["high"])


def _chosen(name: str, chosen: ChosenDrop) -> str:
    """What the best q is worth, in a sentence."""
    if not chosen.chosen:
        return f"Against **{md(name)}** there are too few images for folds to choose q."
    drops = sorted(set(chosen.chosen))
    which = f"{number(drops[0], 0)} %" if len(drops) == 1 else f"{number(drops[0], 0)}–{number(drops[-1], 0)} %"
    gain = f"{number(chosen.difference, 2)} ({number(chosen.difference_low, 2)} to {number(chosen.difference_high, 2)})"
    way = (
        "better than eq. (5)" if chosen.difference_low > 0
        else "worse than eq. (5)" if chosen.difference_high < 0 else "not told apart from eq. (5)"
    )  # fmt: skip
    return (
        f"Against **{md(name)}**: q chosen on other folds ({which}) gives AUROC {number(chosen.auroc, 2)} "
        f"({number(chosen.low, 2)}–{number(chosen.high, 2)}), eq. (5) on the same folds {number(chosen.plain, 2)}; "
        f"difference {gain}: **{way}**."
    )


def _eps_words(found: list[tuple[Run, Sweeps]]) -> str:
    """The paper's claim beside what was measured."""
    parts = []
    for convention, words in (("eq5", "eq. (5)"), ("listing1", "Listing 1")):
        near = [_near(sweeps.epsilons, convention) for _, sweeps in found]
        moved = max(float(frame["auroc"].max() - frame["auroc"].min()) for frame in near)
        rank = min(float(frame["spearman"].min()) for frame in near)
        parts.append(f"{words} moves AUROC by at most {number(moved, 3)} (rank correlation ≥ {number(rank, 3)})")
    return (
        "Solid: eq. (5), to the rank; dotted: Listing 1, over all D. The paper calls its score insensitive to ε. From "
        f"ε = 10⁻⁸ to 10⁻⁴, {listed(parts)}. Listing 1 counts ln ε for each null direction, so that ε matters there as "
        "soon as rounding noise exceeds it."
    )


def _near(frame: pd.DataFrame, convention: str) -> pd.DataFrame:
    """What was measured within two orders of magnitude of the paper's ε."""
    return frame[(frame["convention"] == convention) & frame["eps"].between(0.9e-8, 1.1e-4)]


def _names(choice: Choice, found: list[tuple[Run, Sweeps]]) -> list[str]:
    return [choice.name(run) for run, _ in found]


def _words(choice: Choice, found: list[tuple[Run, Sweeps]]) -> str:
    """What the first chart shows, for who does not see it."""
    parts = []
    for run, sweeps in found:
        first, best = sweeps.drops.iloc[0], sweeps.drops.iloc[int(sweeps.drops["auroc"].to_numpy().argmax())]
        parts.append(
            f"{choice.name(run)} {number(first['auroc'])} with none dropped, at most {number(best['auroc'])} with "
            f"{number(best['drop_top'], 0)} %"
        )
    return f"AUROC over the share of the largest singular values that is dropped: {'; '.join(parts)}"
