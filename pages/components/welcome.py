"""A short orientation for a first visit; once dismissed it never comes back in that browser."""

import streamlit as st

from jepascore_core.allowed import read_only

_HTML = """
<section class="welcome" aria-label="First visit" hidden>
  <ol>
    <li><b>Look.</b> The demo scores itself: each strip shows the images that the encoder finds least and most likely.
      Click one to take it apart.</li>
    <li><b>Compare.</b> <i>Class extremes</i>, <i>Distributions</i> and the other pages under <i>Explore</i> ask one
      question each. Every view has its own address: copy the link to share it.</li>
    {last}
  </ol>
  <button type="button">Got it</button>
</section>
"""
_STYLE = """
:host { color-scheme: inherit; }
.welcome {
  display: flex; gap: 24px; align-items: center; padding: 14px 16px; border-radius: 12px;
  font: 400 14px/1.5 var(--st-font, Inter, sans-serif); color: light-dark(#1c1d1f, #ececea);
  background: light-dark(#e9effb, #1d2535); border: 1px solid light-dark(#cddcf7, #2c3a56);
}
.welcome[hidden] { display: none; }
ol {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(220px, 1fr)); gap: 8px 24px; flex: 1;
  margin: 0; padding: 0 0 0 18px;
}
button {
  font: 600 13px/1 var(--st-font, Inter, sans-serif); color: inherit; background: light-dark(#ffffff, #1a1c20);
  border: 1px solid light-dark(#cddcf7, #3a4a6b); border-radius: 8px; height: 32px; padding: 0 14px; cursor: pointer;
  white-space: nowrap;
}
button:focus-visible { outline: 2px solid light-dark(#2f6fde, #6fa0ff); outline-offset: 1px; }
"""
_SCRIPT = """
const KEY = "jepascore-welcomed"
export default function (component) {
  const card = component.parentElement.querySelector(".welcome")
  const known = () => { try { return localStorage.getItem(KEY) } catch { return null } }
  card.hidden = Boolean(known())
  card.querySelector("button").onclick = () => {
    try { localStorage.setItem(KEY, "1") } catch { /* a browser that keeps nothing shows it again */ }
    card.hidden = true
  }
}
"""
_LAST = (
    "<li><b>Take along.</b> Select images and export them, or save a report: one file that opens anywhere.</li>"
    if read_only()
    else "<li><b>Score your own.</b> <i>Score images</i> takes a folder, a Parquet file or a dataset of Hugging Face, "
    "and a pretrained encoder.</li>"
)
_WELCOME = st.components.v2.component("jepascore_welcome", html=_HTML.replace("{last}", _LAST), css=_STYLE, js=_SCRIPT)


def welcome() -> None:
    """Draw it, unless it was dismissed."""
    _WELCOME(key="welcome")
