"""The frame of every page: a title, one sentence, and a promise that no traceback reaches the screen."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st
from streamlit.runtime.pages_manager import PagesManager

from jepascore_core.errors import JepaScoreError
from pages.components import selection, theme
from pages.components.copy_link import copy_link
from pages.components.text import public_md

_LOG = logging.getLogger("jepascore")
# What Streamlit's theme cannot say: cards are white on an off-white page, axes are muted, figures are
# tabular, names in a chart (not those on coloured cells) have a halo of the card's colour, margins are 32 px.
_CARDS = """<style>
[class*="st-key-card"] { background: light-dark(#ffffff, #1a1c20); border-radius: 12px; }
[data-tag] { background: light-dark(#e4ecfa, #26334d) !important; color: light-dark(#1c1d1f, #ececea) !important; }
[data-testid="stCaptionContainer"] { color: light-dark(#6e7075, #989ba3); opacity: 1; }
[data-testid="stButtonGroup"] [data-selected="true"] p { color: light-dark(#1f57b5, #8cb2ff); }
[data-testid="stSliderThumbValue"] { color: light-dark(#2560c4, #8cb2ff); }
.st-key-theme { display: none; }
[class*="st-key-card_next"] a { padding-left: 0; margin-left: -1px; background: none !important; }
.js-plotly-plot :is(.xaxislayer-above, .yaxislayer-above) text, .js-plotly-plot :is([class^="g-x"], [class^="g-y"]) text
  { fill: color-mix(in srgb, currentColor 65%, transparent) !important; }
.js-plotly-plot:not(:has(.heatmaplayer .hm)) .annotation-text
  { paint-order: stroke; stroke: light-dark(#ffffff, #1a1c20); stroke-width: 4px; stroke-linejoin: round; }
[data-testid="stMainBlockContainer"] { padding-left: 32px; padding-right: 32px; font-feature-settings: "tnum" 1; }
@media (max-width: 1000px) { /* what stands side by side on a desk stands one beneath the other on a tablet */
  .stColumn:has([data-testid="stButtonGroup"]) { min-width: fit-content; }
  .stColumn:has([class*="st-key-card"], .stPlotlyChart) { min-width: calc(100% - 24px); }
  .stColumn:has(.st-key-card_image, .st-key-card_leverage, .st-key-card_dropped, .st-key-card_dropped_leverage)
    { min-width: calc(50% - 24px); }
  .st-key-moved { max-width: 280px; }
}
</style>"""


@contextmanager
def guard() -> Iterator[None]:
    """Turn errors inside into one calm sentence; the traceback of a surprise goes to the server's log."""
    try:
        yield
    except JepaScoreError as error:
        st.error(public_md(error), icon=":material/error:")
    except FileNotFoundError:
        _LOG.warning("a run folder went away", exc_info=True)
        st.warning("A run folder was moved or removed while this page was drawn; reload the page.")
    except Exception:
        _LOG.exception("a page failed")
        st.error("This part could not be drawn; the server's log says why.", icon=":material/error:")


@contextmanager
def page(title: str, question: str) -> Iterator[None]:
    """Draw a page's title and the question it answers, then guard what follows."""
    _through_app()
    selection.follow_address()
    st.html(_CARDS)
    with st.container(gap="xxsmall"):
        with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
            st.title(title, anchor=False, width="content")
            copy_link(key="copy_link")
            theme.everywhere()
        muted(question, lead=True)
    with guard():
        yield


def _through_app() -> None:
    """Come in through app.py, also when a server's very first request is a link to this page.

    Until ``st.navigation`` has run once in a server, Streamlit takes a folder named ``pages`` for its old
    layout and runs this file alone. Its flag has no public switch other than ``st.navigation`` itself.
    """
    if getattr(PagesManager, "uses_pages_directory", False):
        PagesManager.uses_pages_directory = False
        st.rerun()


def card(name: str, **options: object) -> "st.delta_generator.DeltaGenerator":
    """A white card; the name must be unique on the page."""
    return st.container(border=True, key=f"card_{name}", **options)  # type: ignore[arg-type]


def hide_status() -> None:
    """Hide the mark of a running script: where it blinks with every look at a folder it says nothing."""
    st.html('<style>[data-testid="stStatusWidget"] { visibility: hidden; }</style>')


def muted(text: str, *, lead: bool = False) -> None:
    """Quiet text; Markdown, so escape what comes from data."""
    st.caption(text) if not lead else st.markdown(f":gray[{text}]")
