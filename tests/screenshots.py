"""Pictures of every page in both themes at several widths, and a page to leaf through them."""

import html
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.browsing import App, settle

WIDTHS = (1280, 1920, 820)
SCHEMES = ("light", "dark")
_HEIGHT = 1000
_MOST = 4000  # px, of one picture
_WAIT_MS = 900  # for charts to follow a new width

Step = Callable[[Any], None]


@dataclass(frozen=True)
class View:
    """Something to take pictures of.

    Attributes:
        name: Of the files.
        title: For people.
        path: Address within the app.
        step: What to do there first.
        whole: Take the page's whole height; a drawer has the window's.
    """

    name: str
    title: str
    path: str
    step: Step | None = None
    whole: bool = True


def views(tab: Any) -> list[View]:
    """Every page of the navigation, and what can be opened on some of them.

    Args:
        tab: A tab that shows the app.
    """
    found = []
    for link in tab.get_by_test_id("stSidebarNavLink").all():
        path = link.evaluate("link => new URL(link.href).pathname").strip("/")
        title = link.inner_text().strip()
        found.append(View(path or title.lower(), title, path, _trained if path == "theory_lab" else None))
    in_order = "class_extremes?view=In+order"
    return [
        *found,
        View("class_extremes_in_order", "Class extremes, in order", in_order, _pictures),
        View("class_extremes_chosen", "Class extremes, images selected", in_order, _select, whole=False),
        *(
            View(f"drawer_{part.lower()}", f"An image: {part}", "class_extremes", _open(part), whole=False)
            for part in ("Spectrum", "Patches", "Vectors", "Neighbours", "Encoders", "Origin")
        ),
        View("distributions_ridgeline", "Distributions, ridgeline by class", "distributions?as=Ridgeline&by=Class"),
        *(
            View(
                f"sensitivity_{view.split()[0].lower()}",
                f"Sensitivity, {view.lower()}",
                f"sensitivity?view={view.replace(' ', '+')}",
            )
            for view in ("Leave one class out", "Label noise", "Layers")
        ),
        View("theory_lab_grid", "Theory lab, dimension × samples", "theory_lab?view=Dimension+×+samples"),
        View("theory_lab_views", "Theory lab, views", "theory_lab?view=Views"),
    ]


def take(tab: Any, app: App, folder: Path) -> list[str]:
    """Take all pictures and write ``index.html``.

    Args:
        tab: A tab of the app.
        app: The app.
        folder: Where to write.

    Returns:
        Names of the files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tab.goto(app.url)
    settle(tab)
    known = views(tab)
    files = []
    for view in known:
        for scheme in SCHEMES:
            tab.emulate_media(color_scheme=scheme)
            tab.set_viewport_size({"width": WIDTHS[0], "height": _HEIGHT})
            tab.goto(f"{app.url}/{view.path}")
            settle(tab)
            if view.step:
                view.step(tab)
            for width in WIDTHS:
                files.append(f"{view.name}_{scheme}_{width}.png")
                _photograph(tab, width, view.whole, folder / files[-1])
    (folder / "index.html").write_text(_index(known), "utf-8")
    return files


def _photograph(tab: Any, width: int, whole: bool, path: Path) -> None:
    tab.set_viewport_size({"width": width, "height": _HEIGHT})
    tab.wait_for_timeout(_WAIT_MS)
    if whole:
        height = tab.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight")
        tab.set_viewport_size({"width": width, "height": min(max(_HEIGHT, height), _MOST)})
        tab.wait_for_timeout(_WAIT_MS)
    tab.screenshot(path=path)


def _trained(tab: Any) -> None:
    tab.wait_for_function("!document.body.innerText.includes('Training: step')", timeout=180_000)
    settle(tab)


def _pictures(tab: Any) -> None:
    tab.locator(".field .tile img").first.wait_for()
    settle(tab)


def _select(tab: Any) -> None:
    _pictures(tab)
    tiles = tab.locator(".field .tile")
    tiles.nth(2).focus()
    tab.keyboard.press("Space")
    tab.locator(".st-key-selection_bar").wait_for()
    tiles.nth(9).click(modifiers=["Shift"])
    settle(tab)


def _open(part: str) -> Step:
    def step(tab: Any) -> None:
        tab.locator("button.tile img").nth(9).click()
        drawer = tab.get_by_role("dialog")
        drawer.wait_for()
        drawer.get_by_test_id("stButtonGroup").get_by_role("radio").filter(has_text=part).click()
        settle(tab)
        tab.wait_for_timeout(1500)

    return step


def _index(known: list[View]) -> str:
    names = json.dumps([[view.name, view.title] for view in known])
    options = "".join(f"<option>{width}</option>" for width in WIDTHS)
    links = "".join(f'<a href="#{view.name}">{html.escape(view.title)}</a>' for view in known)
    return _PAGE.replace("VIEWS", names).replace("WIDTHS", options).replace("LINKS", links)


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Screens</title>
<style>
  body { margin: 0; display: grid; grid-template-columns: 230px 1fr; height: 100vh; background: #e6e5e1; color: #1c1d1f;
    font: 14px/1.5 Inter, system-ui, sans-serif; }
  nav { padding: 16px; background: #fff; overflow: auto; }
  nav a { display: block; padding: 3px 8px; border-radius: 6px; color: inherit; text-decoration: none; }
  nav a.here { background: #e4ecfa; font-weight: 600; }
  nav label { display: block; margin-bottom: 8px; }
  main { overflow: auto; padding: 16px; }
  img { display: block; max-width: 100%; box-shadow: 0 2px 12px rgb(0 0 0 / 20%); }
</style>
<nav><label>Theme <select id="scheme"><option>light</option><option>dark</option></select></label>
<label>Width <select id="width">WIDTHS</select> px</label>LINKS
<p>Arrow keys: the next and the last; T: theme; W: width.</p></nav>
<main><img id="shot" alt=""></main>
<script>
  const views = VIEWS, [scheme, width, shot] = ["scheme", "width", "shot"].map((id) => document.getElementById(id))
  const at = () => Math.max(0, views.findIndex(([name]) => name === location.hash.slice(1)))
  const show = () => {
    const [name, title] = views[at()]
    shot.src = `${name}_${scheme.value}_${width.value}.png`
    shot.alt = `${title}, ${scheme.value}, ${width.value} px`
    document.querySelectorAll("nav a").forEach((link, i) => link.classList.toggle("here", i === at()))
  }
  const turn = (select) => { select.selectedIndex = (select.selectedIndex + 1) % select.options.length; show() }
  const step = (by) => { location.hash = views[(at() + by + views.length) % views.length][0] }
  const keys = { ArrowRight: () => step(1), ArrowLeft: () => step(-1), t: () => turn(scheme), w: () => turn(width) }
  onkeydown = (event) => event.target.tagName === "SELECT" || keys[event.key]?.()
  onhashchange = scheme.onchange = width.onchange = show
  show()
</script>
</html>
"""
