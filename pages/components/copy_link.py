"""A button that copies the address of the view: pages keep every choice in it."""

import streamlit as st

from pages.components import selection

_SCRIPT = """
export default function (component) {
  const { parentElement, data } = component
  const button = parentElement.querySelector("button")
  button.title = data.help
  button.setAttribute("aria-label", data.help)
  button.onclick = async () => {
    const address = new URL(window.location.href)
    const missing = address.searchParams.has(data.name) ? [] : data.chosen
    for (const image of missing) address.searchParams.append(data.name, image)
    const text = address.href
    try {
      await navigator.clipboard.writeText(text)
    } catch {
      const field = document.createElement("textarea") // without https a page may not use the clipboard directly
      field.value = text
      parentElement.append(field)
      field.select()
      document.execCommand("copy")
      field.remove()
    }
    button.textContent = "Copied"
    setTimeout(() => (button.textContent = "Copy link"), 1500)
  }
}
"""
_STYLE = """
:host { color-scheme: inherit; }
button {
  font: 400 12.5px/1 var(--st-font, Inter, sans-serif); color: light-dark(#6e7075, #989ba3); background: transparent;
  border: 1px solid light-dark(#e6e5e1, #2a2d33); border-radius: 8px; height: 28px; padding: 0 10px; cursor: pointer;
  white-space: nowrap;
}
button:hover { color: light-dark(#1c1d1f, #ececea); }
button:focus-visible { outline: 2px solid light-dark(#2f6fde, #6fa0ff); outline-offset: 1px; }
textarea { position: fixed; opacity: 0; }
"""
_BUTTON = st.components.v2.component(
    "jepascore_copy_link", html='<button type="button">Copy link</button>\n<!-- -->', css=_STYLE, js=_SCRIPT
)


def copy_link(*, key: str, what: str = "view") -> None:
    """Draw the button.

    Args:
        key: Streamlit key, unique on the page.
        what: What the link leads to.
    """
    selected = {"name": selection.PARAMETER, "chosen": selection.address()}
    _BUTTON(key=key, data={"help": f"Copy a link to this {what}", **selected}, width="content")
