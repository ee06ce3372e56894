"""A login before every page, where the secrets ask for one."""

from types import SimpleNamespace

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from jepascore_core import jobs
from tests.test_pages import ROOT, check

pytestmark = pytest.mark.usefixtures("served_before", "nothing_left_at_work")
AUTH = {"redirect_uri": "http://localhost/oauth2callback", "cookie_secret": "x", "client_id": "x"}


def opened(monkeypatch: pytest.MonkeyPatch, user: dict, **secrets: dict) -> AppTest:
    monkeypatch.setenv("JEPASCORE_DEMO", "0")
    monkeypatch.setattr(st, "user", SimpleNamespace(**user))
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    for name, section in secrets.items():
        at.secrets[name] = section
    return check(at.run())


STRANGERS = [{"is_logged_in": False}, {}, {"is_logged_in": True, "email": "eve@lab.org"}, {"is_logged_in": True},
             {"is_logged_in": True, "email": "ada@lab.org", "email_verified": False}]  # fmt: skip


@pytest.mark.parametrize("user", STRANGERS)
def test_nobody_else_sees_a_page(user: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    at = opened(monkeypatch, user, auth=AUTH, visitors={"emails": ["ada@lab.org"]})
    assert [title.value for title in at.title] == ["JEPA-SCORE Explorer"]
    assert [button.label for button in at.button] == ["Log out" if user.get("is_logged_in") else "Log in"]
    assert "Overview" not in str(at.main) and not jobs.list_jobs()


def test_invited_people_see_it(monkeypatch: pytest.MonkeyPatch) -> None:
    user = {"is_logged_in": True, "email": "Ada@lab.org"}
    at = opened(monkeypatch, user, auth=AUTH, visitors={"emails": ["ada@lab.org"]})
    assert at.title[0].value == "Overview"
    assert opened(monkeypatch, user, auth=AUTH).title[0].value == "Overview"


def test_without_secrets_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert opened(monkeypatch, {"is_logged_in": False}).title[0].value == "Overview"
