"""axe-core over what only opens when asked for, in both themes; ``test_browser.py`` takes it to every page."""

import json

import pytest

from tests.axe import complaints, complaints_now
from tests.browsing import App, need_chromium, settle, visit

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]
need_chromium()


@pytest.fixture
def app(filled_app: App) -> App:
    return filled_app


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
    drawer.get_by_test_id("stButtonGroup").get_by_role("radio").first.wait_for()
    for part in drawer.get_by_test_id("stButtonGroup").get_by_role("radio").all():
        part.click()
        settle(tab)
        found[part.inner_text()] = complaints(tab, within="[role=dialog]")  # the page behind it was looked at above
    assert {"Spectrum", "Patches", "Neighbours"} <= set(found)
    assert not any(found.values()), json.dumps(found, indent=1, ensure_ascii=False)


def test_axe_can_find_something(app: App, tab) -> None:
    visit(tab, app, "theory_lab?view=Views")
    tab.evaluate("document.querySelector('h1').style.color = '#ccc'")
    tab.evaluate("document.querySelector('[data-testid=stMain] h1').insertAdjacentHTML('afterend', '<img src=x>')")
    rules = {line.split(":")[0] for line in complaints_now(tab)}
    assert {"image-alt", "color-contrast"} <= rules
