"""axe-core in a page: what is serious or critical in it, and of our making."""

from collections.abc import Sequence

from axe_playwright_python.base import AXE_SCRIPT

# Rule and selector of what Streamlit's own widgets do, and why we cannot mend it
STREAMLITS = {
    ("list", '[data-testid="stSidebarNavItems"]'): "groups of the navigation are a <div> within its <ul>",
    ("listitem", '[data-testid="stSidebarNavItems"]'): "the same, seen from the <li>",
}
COLOURS = ("color-contrast",)  # all else that axe looks at is the same in both themes
# A dialog locks the page; axe then takes the page, which has no height of its own, for a window that hides all
UNLOCK = "html { overflow: visible !important }"


def complaints(tab, within: str | None = None) -> list[str]:
    """What axe finds serious or critical in both themes, but for what is Streamlit's; the tab stays in the dark one."""
    show_in(tab, "light")
    told = complaints_now(tab, within=within)
    show_in(tab, "dark")
    return told + complaints_now(tab, COLOURS, within)


def complaints_now(tab, rules: Sequence[str] = (), within: str | None = None) -> list[str]:
    """The same in the theme that is shown, by some of its rules or by all."""
    if not tab.evaluate("Boolean(window.axe)"):
        tab.add_style_tag(content=UNLOCK)
        tab.evaluate(AXE_SCRIPT)
    found = tab.evaluate(
        "([within, rules]) => axe.run(within ?? document, "
        "{resultTypes: ['violations'], ...(rules.length && {runOnly: rules})})",
        [within, list(rules)],
    )
    told = []
    for violation in found["violations"]:
        if violation["impact"] not in ("serious", "critical"):
            continue
        for node in violation["nodes"]:
            if not is_streamlits(tab, violation["id"], node["target"]):
                why = "; ".join(check["message"] for check in node["any"] + node["all"] + node["none"])
                told.append(f"{violation['id']}: {node['html'][:160]}: {why}")
    return told


def show_in(tab, scheme: str) -> None:
    """Change the theme, and wait until the page has followed."""
    tab.emulate_media(color_scheme=scheme)
    tab.wait_for_function(
        "scheme => getComputedStyle(document.querySelector('[data-testid=stApp]')).colorScheme === scheme",
        arg=scheme,
    )
    tab.wait_for_timeout(300)  # colours fade


def is_streamlits(tab, rule: str, target: list) -> bool:
    """Whether a node lies where Streamlit draws and we cannot change what it draws."""
    selectors = [selector for known, selector in STREAMLITS if known == rule]
    return isinstance(target[0], str) and any(
        tab.evaluate(
            "([target, within]) => Boolean(document.querySelector(target)?.closest(within))", [target[0], selector]
        )
        for selector in selectors
    )
