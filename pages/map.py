"""Map: the embeddings of some runs in two dimensions, coloured by score, class or run; circle dots to see images."""

import streamlit as st

from pages.components import embedding_map, live, map_controls, pickers, selection_bar
from pages.components.guard import page
from pages.components.inspector import open_image, reopen
from pages.components.opening import runs_to_explore

with page("Map", "Which images lie together for the encoder, and where among them are the ones it finds unlikely?"):
    runs = runs_to_explore()
    map_controls.tell_unknown()
    with st.container(horizontal=True):
        chosen = pickers.pick_runs(pickers.by_label(runs), map_controls.to_begin_with(runs))
        projection, neighbours = map_controls.pick_projection()
        look = map_controls.pick_look(chosen)
        rule = pickers.pick_rule(chosen)
    pickers.note_on_score(chosen, rule)
    panels = map_controls.panels(chosen, projection, neighbours)
    ready = map_controls.make(panels)

    def maps() -> None:
        reopen()
        embedding_map.draw(panels, ready, look, rule)
        selection_bar.draw(rule)

    open_image(rule)
    live.live(maps)
    embedding_map.watch_webgl()
