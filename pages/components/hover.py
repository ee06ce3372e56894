"""Pictures over the dots of a chart: the thumbnail of the dot under the pointer, beneath its label; and clicks on dots.

Streamlit's own selection of single points is off where a drag draws a box.
"""

from base64 import b64encode
from collections.abc import Callable, Mapping
from pathlib import Path

import streamlit as st

_CSS = """
[class*="st-key-hover_"] { position: absolute; }
.jepascore-hover { position: fixed; margin: 0; padding: 0; border: 0; overflow: hidden; border-radius: 6px;
  width: 112px; height: 112px; pointer-events: none; box-shadow: 0 2px 10px rgb(0 0 0 / 30%); }
.jepascore-hover img { display: block; width: 100%; height: 100%; object-fit: cover; }
"""
_HOVER = st.components.v2.component(
    "jepascore_hover",
    html='<div class="jepascore-hover" aria-hidden="true">\n<img alt="" decoding="async"></div>',
    css=_CSS,
    js=(Path(__file__).parent / "hover.js").read_text("utf-8"),
    isolate_styles=False,
)


def pictures_over(
    chart_key: str, thumbnails: Mapping[int, bytes], *, most_bytes: int, on_click: Callable[[int], None]
) -> int:
    """Show a thumbnail over each dot of a Plotly chart whose first customdata, a whole number, names one.

    Args:
        chart_key: Streamlit key of the chart.
        thumbnails: JPEG by what the dots' customdata begins with; the first ones count most.
        most_bytes: Most bytes to send.
        on_click: Called with that number of a clicked dot, before the page runs again.

    Returns:
        How many thumbnails were sent.
    """
    sources: dict[str, str] = {}
    for name, jpeg in thumbnails.items():
        source = "data:image/jpeg;base64," + b64encode(jpeg).decode()
        most_bytes -= len(source)
        if most_bytes < 0:
            break
        sources[str(name)] = source
    key = f"hover_{chart_key}"

    def clicked() -> None:
        value = getattr(st.session_state.get(key), "clicked", None)
        if isinstance(value, str) and value.isascii() and value.isdigit():
            on_click(int(value))

    _HOVER(key=key, data={"chart": chart_key, "pictures": sources}, on_clicked_change=clicked)
    return len(sources)
