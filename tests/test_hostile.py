"""Every page and a report on a home whose every name is an attack: text stays text, and no path is shown."""

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message
from streamlit.testing.v1 import AppTest

from jepascore_core import store
from jepascore_core.report import make_report
from pages.components.text import public_md
from tests.hostile import CALM, EVIL, hostile_home
from tests.test_pages import PAGES, ROOT

pytestmark = pytest.mark.usefixtures("served_before", "nothing_left_at_work")
ALL = PAGES | {"Theory lab": "pages/theory_lab.py"}
VIEWS: dict[str, dict[str, str | list[str]]] = {
    "Class extremes": {"view": "In order"},
    "Map": {"colour": "Class"},
    "Distributions": {"by": "Class"},
    "Sensitivity": {"view": "Leave one class out"},
    "Theory lab": {"view": "Dimension × samples"},
}
# fields of Streamlit's messages that the browser reads as Markdown, or as HTML
MARKDOWN = {"body", "label", "help", "caption", "captions", "content", "text", "title", "tooltip", "toast"}
PLAIN = {"text_input", "text_area", "code", "arrow_data_frame", "plotly_chart", "vega_lite_chart"}
LIVE = re.compile(
    r"(?<!\\)<(?:img|script|svg|a |/script|!--)|(?<!\\)\]\(javascript|(?<!\\)\$[xy]|(?<![\\\u2060]):material/bug"
    r"|(?<!\\):(?:red|blue)\[|(?<!\\)!\[i\]|https?\\*:\\*/\\*/evil"
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home of a person")
    hostile_home(folder)
    return folder


def strings(message: Message, name: str = "") -> Iterator[tuple[str, str]]:
    """Every text of a message, with the name of its field."""
    for field, value in message.ListFields():
        values = value if isinstance(value, list | tuple) or hasattr(value, "append") else [value]
        for one in values:
            if isinstance(one, Message):
                yield from strings(one, field.name)
            elif isinstance(one, str):
                yield f"{name}.{field.name}", one
            elif isinstance(one, bytes):
                yield f"{name}.{field.name}", one.decode("utf-8", "replace")


def protos(block: Any) -> Iterator[Message]:
    """Messages of every element and block of a page."""
    for child in getattr(block, "children", {}).values():
        if isinstance(getattr(child, "proto", None), Message):
            yield child.proto
        yield from protos(child)


def told(at: AppTest) -> list[tuple[str, str]]:
    return [
        (f"{type(message).__name__}.{name}", text)
        for block in (at.main, at.sidebar)
        for message in protos(block)
        for name, text in strings(message)
    ]


@pytest.mark.parametrize("page", ALL)
def test_names_are_text_and_paths_stay_at_home(page: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JEPASCORE_HOME", str(home))
    run = next(run for run in store.list_runs() if run.problem is None)
    key = f"{EVIL[0]}/00000.png"
    opened = {"image": key, "of": run.name, "part": "Origin", "chosen": f"{run.name}/{key}"}
    for query in ({}, opened | VIEWS.get(page, {})):
        at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
        at.switch_page(ALL[page])
        for name, value in query.items():
            at.query_params[name] = value
        at.run()
        assert not at.exception and at.title[0].value == page
        found = told(at)
        assert CALM[:8] in "".join(text.replace("\\", "") for _, text in found) or page == "Theory lab"
        for where, text in found:
            assert str(home) not in text.replace("\\", ""), (where, text[:300])
            if where.rpartition(".")[2] in MARKDOWN and where.partition(".")[0].lower() not in PLAIN:
                assert not LIVE.search(text), (where, text[:300])
            if where.endswith(".spec"):
                assert not re.search(r"<(?:img|script|svg|a )", text), (where, LIVE.search(text))


def test_a_report_holds_neither_markup_nor_paths(home: Path) -> None:
    page = make_report([run for run in store.list_runs(home / "runs") if run.problem is None])
    assert str(home) not in html.unescape(page) and "hacked" in page
    drawn = re.sub(r"<svg.*?</svg>", "", page, flags=re.DOTALL)
    assert not re.search(r"<(?:img src=x|script|a |svg onload)", drawn)


def test_messages_on_pages_name_no_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JEPASCORE_HOME", str(tmp_path / "my home"))
    for text in (
        f"There is no folder {tmp_path}/my home/birds.",
        f"No run in {tmp_path}/my home/runs.",
        "/a/b is a file.",
    ):
        assert str(tmp_path) not in public_md(text).replace("\\", "") and "/a/" not in public_md(text)
    assert public_md("<b> is gone") == r"\<b\> is gone"
    for address in ("https://evil.invalid", "HTTP://x.y", "www.evil.invalid", "me@evil.invalid"):
        assert "\u2060" in public_md(address)
    for calm in ("https://huggingface.co/datasets/a/b", "demo:jepa-tiny@layer2", "file:…/a.pt@timm:vit.b"):
        assert "\u2060" not in public_md(calm)
