"""The four experiments of the sensitivity page: what was found, in a figure and a sentence."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import pandas as pd
import streamlit as st

from jepascore_core.allowed import read_only
from jepascore_core.datasets.corruptions import STRENGTHS
from jepascore_core.encoders.names import split_layer
from jepascore_core.errors import JepaScoreError
from jepascore_core.sensitivity import experiments
from jepascore_core.sensitivity.labels import METHODS as LABEL_METHODS
from jepascore_core.sensitivity_plots import class_plot, depth_means_plot, depth_plot, dose_plot, share_plot
from jepascore_core.store import Run, ScoreRule
from pages.components import loaders, pickers, sensitivity_example
from pages.components import sensitivity_words as words
from pages.components.captions import caption, chart
from pages.components.guard import card
from pages.components.prepared import Tell, prepared
from pages.components.sensitivity_choice import CLASSES, CORRUPTIONS, LABELS, LAYERS, QUANTITIES, Choice
from pages.components.text import column, count, listed, md, plural, public_md

_ABOUT_DOSES = (
    "bars: 95 %, of pairs. Severity 0 is the clean image. Severities follow ImageNet-C as shares of the image’s side; "
    "an encoder with a smaller input sees less of them."
)
_ABOUT_LABELS = (
    "bars: 95 %, over other images and shufflings. Class means and neighbours are those of the shuffled labels, from "
    "rows in other folds. A shuffled label may come back by chance; only those that changed count as wrong."
)


def finished() -> list[Run]:
    """Runs that can be read, have a score and are not being written to."""
    return [run for run in pickers.readable_runs() if not run.progress().active]


def draw_corruptions(choice: Choice) -> None:
    """Dose-response, and one image under every corruption."""
    found = experiments.find_corrupted(choice.run, finished())
    if not found:
        _nothing(
            "No corrupted images have been scored yet",
            "Each image is compared with itself under blur, noise, JPEG and a box that covers a part of it. "
            + ("" if read_only() else "Start below; points appear as each run is finished."),
        )
        return
    with _calm("Nothing can be compared"):
        if not prepared(
            ("doses", tuple(choice.methods)), [choice.run, *found.values()], lambda tell: _doses(choice, found, tell),
            "Comparing clean and corrupted images",
        ):  # fmt: skip
            return
        findings, left_out = _doses(choice, found)
        titles = _held(choice.methods, findings)
        with card("doses"):
            if titles:
                st.markdown(words.of_doses(findings, titles))
                quantity = QUANTITIES[choice.quantity]
                chart(
                    dose_plot(findings, titles, quantity, STRENGTHS), key="dose_plot",
                    alt=f"{choice.quantity} over severity, a panel each for {listed(sorted(set(findings['kind'])))}",
                )  # fmt: skip
                _caption(choice, f"{_images(findings)} compared with themselves; {_ABOUT_DOSES}")
            _left_out(left_out)
        with card("example"):
            sensitivity_example.draw(choice.run, found)


def _doses(
    choice: Choice, found: Mapping[experiments.Dose, Run], tell: Tell | None = None
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Findings of every corruption, kind by kind: what is there already is not computed again for a new kind."""
    frames, left_out = [], dict[str, str]()
    kinds = list(dict.fromkeys(kind for kind, _ in found))
    for place, kind in enumerate(kinds):
        if tell is not None:
            tell(place / len(kinds), f"Comparing clean images with {kind}, {place + 1} of {len(kinds)} corruptions")
        mine = {dose: run for dose, run in found.items() if dose[0] == kind}
        frame, missed = loaders.doses(choice.run, mine, list(choice.methods))
        frames.append(frame)
        left_out |= missed
    return pd.concat(frames, ignore_index=True), left_out


def _images(findings: pd.DataFrame) -> str:
    """How many images there are, where corruptions differ from the least to the most."""
    least, most = int(findings["n"].min()), int(findings["n"].max())
    return plural(most, "image") if least == most else f"{count(least)} to {plural(most, 'image')}"


def draw_classes(choice: Choice) -> None:
    """Each class as the outliers."""
    with _calm("No class can be left out"):
        methods = tuple(choice.methods)
        if not prepared(
            ("classes", methods), [choice.run], lambda tell: loaders.left_out_classes(choice.run, methods),
            "Leaving each class out in turn",
        ):  # fmt: skip
            return
        findings, macro, left_out, notes = loaders.left_out_classes(choice.run, methods)
        titles = _held(choice.methods, findings)
        if not titles:
            _left_out(left_out)
            return
        with card("classes"):
            st.markdown(words.of_classes(findings, macro, titles))
            chart(
                class_plot(findings, macro, titles), key="class_plot",
                alt=f"AUROC of each of {count(findings['class_name'].nunique())} classes that were left out",
            )  # fmt: skip
            _macro_table(macro, titles)
            _caption(
                choice, "Each class in turn plays the outliers; models are fitted to the other classes only, and judge "
                "rows of other folds. Bars: 95 %, DeLong; that of the mean allows for other images of these classes. "
                + " ".join(notes)
            )  # fmt: skip
            _left_out(left_out)


def draw_labels(choice: Choice) -> None:
    """How well wrong labels are found."""
    with _calm("No label can be shuffled"):
        if not prepared("labels", [choice.run], lambda tell: loaders.label_noise(choice.run), "Shuffling labels"):
            return
        findings, left_out = loaders.label_noise(choice.run)
        titles = {method.name: method.title for method in LABEL_METHODS if method.name in set(findings["method"])}
        controls = [method.name for method in LABEL_METHODS if method.control]
        with card("labels"):
            st.markdown(words.of_labels(findings, titles, controls))
            chart(
                share_plot(findings, titles, controls), key="share_plot",
                alt="AUROC of right labels over wrong ones, over the share of labels shuffled",
            )  # fmt: skip
            draws = int(findings["draws"].max())
            _caption(choice, f"Mean over {plural(draws, 'shuffling')}; {_ABOUT_LABELS}")
            _left_out(left_out)


def draw_layers(choice: Choice) -> None:
    """Two sets of images at each layer."""
    if choice.other is None:
        _nothing(
            "There is nothing to tell the images from",
            "Score other images with the same encoder first, or the same ones corrupted.",
        )
        return
    with _calm("This encoder cannot be scored layer by layer"):
        whole, _ = split_layer(str(choice.run.meta["encoder"]["id"]))
        total = len(loaders.layer_ids(whole))
        inside, other = (experiments.find_layers(run, finished(), total) for run in (choice.run, choice.other))
        paired = experiments.corrupts(choice.run, choice.other)
        asked = inside, other, tuple(choice.methods)
        if not prepared(
            ("depth", asked[2], paired, *inside, *other), [*inside.values(), *other.values()],
            lambda tell: loaders.over_depth(*asked, paired=paired), "Comparing layers",
        ):  # fmt: skip
            return
        findings, left_out = loaders.over_depth(*asked, paired=paired)
        titles = _held(choice.methods, findings)
        if not titles:
            _nothing(
                "No layer can be judged", "; ".join(f"{md(title)}: {public_md(why)}" for title, why in left_out.items())
            )
            return
        names = (pickers.dataset_name(choice.run), pickers.dataset_name(choice.other))
        with card("depth"):
            st.markdown(words.of_depth(findings, titles, names, total))
            left, right = st.columns([7, 5], gap="medium")
            with left:
                chart(
                    depth_plot(findings, titles, total), key="depth_plot",
                    alt=f"AUROC of {names[0]} over {names[1]} at each layer",
                )  # fmt: skip
            with right:
                colours = pickers.colours([choice.run, choice.other])
                chart(
                    depth_means_plot(
                        findings, names, (colours[choice.run.name], colours[choice.other.name]), total
                    ),
                    key="depth_means", alt=f"Mean score of {names[0]} and {names[1]} at each layer",
                )  # fmt: skip
            first = findings.iloc[0]
            _caption(
                choice, f"{count(first['n_in'])} and {count(first['n_out'])} images ({md(names[0])}, {md(names[1])}), "
                "the same at every layer. A layer’s features are pooled as the encoder pools, without the norms and "
                "projections behind the last layer, which is the encoder itself; layers share no scale. Bars: 95 %."
            )  # fmt: skip
            _left_out(left_out)


DRAW: dict[str, Callable[[Choice], None]] = {
    CORRUPTIONS: draw_corruptions,
    CLASSES: draw_classes,
    LABELS: draw_labels,
    LAYERS: draw_layers,
}


def _macro_table(macro: pd.DataFrame, titles: Mapping[str, str]) -> None:
    """Mean AUROC of each method."""
    if macro.empty:
        return
    rows = macro[macro["method"].isin(list(titles))]
    table = pd.DataFrame({
        "method": [md(titles[name]) for name in rows["method"]],
        "mean AUROC (95 %)": column([words.interval(row) for row in rows.to_dict("records")]),
        "lower value = left-out class": rows["direction"].tolist(),
    })
    st.table(table, border="horizontal", hide_index=True, alt="Mean AUROC over the classes that were left out")


def _held(titles: Mapping[str, str], findings: pd.DataFrame) -> dict[str, str]:
    """The methods of which there are findings."""
    there = set(findings["method"]) if len(findings) else set()
    return {name: title for name, title in titles.items() if name in there}


def _caption(choice: Choice, more: str) -> None:
    """The line beneath a chart."""
    runs = [choice.run] if choice.other is None else [choice.run, choice.other]
    caption(runs, [pickers.scored(run) for run in runs], ScoreRule(), more)


def _left_out(left_out: Mapping[str, str]) -> None:
    """Which methods are not possible, and why."""
    if left_out:
        told = "; ".join(f"{md(title)}: {public_md(why)}" for title, why in list(left_out.items())[:6])
        more = f"; and {count(len(left_out) - 6)} more" if len(left_out) > 6 else ""
        st.caption(f":material/info: Left out: {told}{more}.")


def _nothing(title: str, about: str) -> None:
    """An experiment without anything to show."""
    with card("empty", horizontal_alignment="center", gap="xxsmall"):
        st.space("small")
        st.markdown(f"**{title}**", text_alignment="center")
        st.caption(about, text_alignment="center")
        st.space("small")


@contextmanager
def _calm(title: str) -> Iterator[None]:
    """An experiment that a run is not made for is no error: say why in its place."""
    try:
        yield
    except JepaScoreError as error:
        _nothing(title, public_md(error))
