"""Import in the background what the other pages need, so that a first visit to one does not wait for it."""

import contextlib
import importlib
import pkgutil
import threading
import time

from pages import components

QUIET_S = 1.0  # since a page was drawn: an import holds up whoever clicks meanwhile
_LATER = ("sklearn.decomposition", "jepascore_core.encoders")  # the last one comes with torch

_begun = threading.Lock()
_drawn_s = 0.0  # when a page was drawn or waited for last


def warm() -> None:
    """Begin, once in the server's life, and go on when no page is drawn for a moment; returns at once."""
    hold_off()
    if _begun.acquire(blocking=False):
        threading.Thread(target=_import_all, name="warm", daemon=True).start()


def hold_off() -> None:
    """Import nothing for a moment: a page is drawn, or somebody waits for what is computed beside it."""
    global _drawn_s
    _drawn_s = time.monotonic()


def _import_all() -> None:
    """Import one module after the other; one that fails will say so to the page that needs it."""
    names = [f"{components.__name__}.{found.name}" for found in pkgutil.iter_modules(components.__path__)]
    for name in (*names, *_LATER):
        while (left_s := _drawn_s + QUIET_S - time.monotonic()) > 0:
            time.sleep(left_s)
        with contextlib.suppress(Exception):
            importlib.import_module(name)
