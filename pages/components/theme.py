"""The theme for the whole page: Streamlit names it on its app alone, and dialogs and popovers lie outside of that."""

import streamlit as st

_SCRIPT = """
export default function () {
  const app = document.querySelector("[data-testid=stApp]")
  const root = document.documentElement
  const follow = () => (root.style.colorScheme = getComputedStyle(app).colorScheme)
  follow()
  const watch = new MutationObserver(follow)
  watch.observe(app, { attributes: true, attributeFilter: ["class"] })
  return () => watch.disconnect()
}
"""
_THEME = st.components.v2.component("jepascore_theme", html="<span></span>\n<!-- -->", js=_SCRIPT)


def everywhere() -> None:
    """Let ``light-dark()`` mean the same in dialogs and popovers as in the page; once a page, takes no room."""
    _THEME(key="theme")
