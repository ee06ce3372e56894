"""JEPA-SCORE Explorer: ``streamlit run app.py``."""

import os
from pathlib import Path

import streamlit as st
from streamlit import config

from jepascore_core.allowed import read_only
from jepascore_core.store.release import keep_large_blocks_apart
from pages.components.login import require_login
from pages.components.warm import hold_off, warm

# torch comes later; beside a run at work its waiting threads would make a page take ten times as long
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
keep_large_blocks_apart()
hold_off()

HERE = Path(__file__).parent

SIDEBAR_PX = 216  # five words wide: the rest belongs to the images

st.set_page_config(
    page_title="JEPA-SCORE Explorer",
    page_icon=str(HERE / "static/mark.svg"),
    layout="wide",
    initial_sidebar_state=SIDEBAR_PX,
)
st.logo(str(HERE / "static/logo.svg"), size="large", icon_image=str(HERE / "static/mark.svg"))

require_login()
if read_only():
    config.set_option("server.maxUploadSize", 0)  # also for one who asks the server and not the page
    st.sidebar.caption(":material/lock: Read-only: look at everything, compare, export.")

st.navigation({
    "Start": [
        st.Page("pages/overview.py", title="Overview", default=True, help="What the score says, and your runs."),
        st.Page("pages/score_images.py", title="Score images", help="Start a run, follow it, or try one image."),
    ],
    "Explore": [
        st.Page("pages/class_extremes.py", title="Class extremes", help="Least and most likely images."),
        st.Page("pages/distributions.py", title="Distributions", help="Score distributions across datasets."),
        st.Page("pages/singular_vectors.py", title="Singular vectors", help="One image, taken apart."),
        st.Page(
            "pages/compare_encoders.py", title="Compare encoders", help="Do encoders find the same images strange?"
        ),
        st.Page("pages/map.py", title="Map", help="Embeddings in two dimensions."),
    ],
    "Decide": [
        st.Page("pages/outliers.py", title="Outliers", help="Which method tells unusual images from usual ones?"),
        st.Page("pages/curation.py", title="Curation", help="Is keeping images by score better than at random?"),
        st.Page("pages/readiness.py", title="Readiness", help="An encoder in a domain, beside reference runs."),
        st.Page(
            "pages/sensitivity.py", title="Sensitivity", help="Does the score notice corruptions, classes, labels?"
        ),
    ],
    "Understand": [
        st.Page("pages/theory_lab.py", title="Theory lab", help="Does the score follow a density that is known?"),
    ],
}).run()
warm()
