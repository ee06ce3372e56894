"""What can be done with the selected images: it floats at the foot of a page while any is selected."""

import streamlit as st

from pages.components import selection
from pages.components.text import plural

_FLOAT = """<style>
[data-testid="stLayoutWrapper"]:has(> .st-key-selection_bar) { position: sticky; bottom: 12px; z-index: 90; }
.st-key-selection_bar { padding: 8px 12px; border-radius: 12px;
  background: light-dark(#ffffff, #1a1c20); border: 1px solid light-dark(#e6e5e1, #2a2d33);
  box-shadow: 0 4px 16px rgb(0 0 0 / 12%); }
</style>"""


def draw() -> None:
    """The bar, while an image is selected; call it after the galleries, within the same live part."""
    chosen = selection.chosen()
    if not chosen:
        return
    st.html(_FLOAT)
    n = sum(len(keys) for keys in chosen.values())
    with st.container(key="selection_bar", horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{plural(n, 'image')} selected**" + (f" in {len(chosen)} runs" if len(chosen) > 1 else ""))
        st.space("stretch")
        st.button("Clear", key="clear_selection", on_click=selection.clear, type="tertiary")
