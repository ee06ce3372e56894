"""A login before every page, where ``.streamlit/secrets.toml`` asks for one; see ``SECURITY.md``."""

import streamlit as st

from pages.components.text import md


def require_login() -> None:
    """End the page here until the visitor has logged in and is one of those who are invited.

    A section ``auth`` in the secrets asks for a login (Streamlit's own, by OpenID Connect); ``emails`` in a section
    ``visitors`` says who may come in, everybody with an account where there is none.
    """
    if not st.secrets.load_if_toml_exists() or "auth" not in st.secrets:
        return
    if not getattr(st.user, "is_logged_in", False):
        st.title("JEPA-SCORE Explorer", anchor=False)
        st.caption("This dashboard is for invited people.")
        st.button("Log in", on_click=st.login, type="primary", icon=":material/login:")
        st.stop()
    invited = st.secrets.get("visitors", {}).get("emails")
    email = str(getattr(st.user, "email", "")).casefold()
    verified = getattr(st.user, "email_verified", True) is not False
    if invited is not None and not (verified and email in {str(each).casefold() for each in invited}):
        st.title("JEPA-SCORE Explorer", anchor=False)
        st.caption(f"{md(email or 'This account')} is not among the invited people.")
        st.button("Log out", on_click=st.logout)
        st.stop()
