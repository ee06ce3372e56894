"""axe-core over every page, in both themes: nothing serious or critical that we have caused."""

import json

import pytest
from axe_playwright_python.base import AXE_SCRIPT

from tests.browsing import App, need_chromium, settle, visit

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]
need_chromium()

# Rule and selector of what Streamlit's own widgets do, and why we cannot mend it
STREAMLITS = {
    ("list", '[data-testid="stSidebarNavItems"]'): "groups of the navigation are a <div> within its <ul>",
    ("listitem", '[data-testid="stSidebarNavItems"]'): "the same, seen from the <li>",
}
VIEWS = {
    "class extremes, in order": "class_extremes?view=In+order",
    "outliers, spectrum": "outliers?view=Spectrum",
    "theory lab, grid": "theory_lab?view=Dimension+×+samples",
    "theory lab, views": "theory_lab?view=Views",
}
# A dialog locks the page; axe then takes the page, which has no height of its own, for a window that hides all
UNLOCK = "html { overflow: visible !important }"


@pytest.fixture
def app(filled_app: App) -> App:
    return filled_app


def complaints(tab) -> list[str]:
    """What axe finds serious or critical in either theme, but for what is Streamlit's."""
    tab.add_style_tag(content=UNLOCK)
    tab.evaluate(AXE_SCRIPT)
    told = []
    for scheme in ("light", "dark"):
        tab.emulate_media(color_scheme=scheme)
        tab.wait_for_function(
            "scheme => getComputedStyle(document.querySelector('[data-testid=stApp]')).colorScheme === scheme",
            arg=scheme,
        )
        tab.wait_for_timeout(300)  # colours fade
        only = {"runOnly": ["color-contrast"]} if scheme == "dark" else {}  # all else is the same in both
        found = tab.evaluate("only => axe.run(document, {resultTypes: ['violations'], ...only})", only)
        for violation in found["violations"]:
            if violation["impact"] not in ("serious", "critical"):
                continue
            for node in violation["nodes"]:
                if not is_streamlits(tab, violation["id"], node["target"]):
                    why = "; ".join(check["message"] for check in node["any"] + node["all"] + node["none"])
                    told.append(f"{scheme}, {violation['id']}: {node['html'][:160]}: {why}")
    return told


def is_streamlits(tab, rule: str, target: list) -> bool:
    """Whether a node lies where Streamlit draws and we cannot change what it draws."""
    selectors = [selector for known, selector in STREAMLITS if known == rule]
    return isinstance(target[0], str) and any(
        tab.evaluate(
            "([target, within]) => Boolean(document.querySelector(target)?.closest(within))", [target[0], selector]
        )
        for selector in selectors
    )


def test_every_page(app: App, tab) -> None:
    visit(tab, app, "")
    links = tab.get_by_test_id("stSidebarNavLink")
    paths = {text: link.get_attribute("href") for text, link in zip(links.all_inner_texts(), links.all(), strict=True)}
    assert len(paths) >= 6
    found = {}
    for name, path in [*paths.items(), *((name, f"{app.url}/{path}") for name, path in VIEWS.items())]:
        tab.goto(path)
        settle(tab)
        if told := complaints(tab):
            found[name] = told
    assert not found, json.dumps(found, indent=1, ensure_ascii=False)


def test_the_bar_of_a_selection_and_the_drawer(app: App, tab) -> None:
    visit(tab, app, "class_extremes?view=In+order")
    tab.locator(".field .tile img").first.wait_for()
    tab.locator(".field .tile").nth(1).focus()
    tab.keyboard.press("Space")
    tab.locator(".st-key-selection_bar").wait_for()
    settle(tab)
    found = {"bar": complaints(tab)}
    tab.locator(".field .tile").nth(2).click()
    drawer = tab.get_by_role("dialog")
    drawer.wait_for()
    for part in drawer.get_by_test_id("stButtonGroup").get_by_role("radio").all():
        part.click()
        settle(tab)
        found[part.inner_text()] = complaints(tab)
    assert {"Spectrum", "Patches", "Neighbours"} <= set(found)
    assert not any(found.values()), json.dumps(found, indent=1, ensure_ascii=False)


def test_axe_can_find_something(app: App, tab) -> None:
    visit(tab, app, "theory_lab?view=Views")
    tab.evaluate("document.querySelector('h1').style.color = '#ccc'")
    tab.evaluate("document.querySelector('[data-testid=stMain] h1').insertAdjacentHTML('afterend', '<img src=x>')")
    rules = {line.split(", ")[1].split(":")[0] for line in complaints(tab)}
    assert {"image-alt", "color-contrast"} <= rules
