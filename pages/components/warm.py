"""Import in the background what the other pages need, so that a first visit to one does not wait for it."""

import importlib
import pkgutil
import threading
import time

from pages import components

FIRST_PAGE_S = 1.0  # the page that is being drawn goes first
_BREATH_S = 0.02  # between two imports, for the threads that draw
_LATER = ("sklearn.decomposition", "jepascore_core.encoders")  # the last one comes with torch

_begun = threading.Lock()


def warm() -> None:
    """Begin, once in the server's life; returns at once."""
    if _begun.acquire(blocking=False):
        threading.Thread(target=_import_all, name="warm", daemon=True).start()


def _import_all() -> None:
    """Import one module after the other; one that fails will say so to the page that needs it."""
    time.sleep(FIRST_PAGE_S)
    names = [f"{components.__name__}.{found.name}" for found in pkgutil.iter_modules(components.__path__)]
    for name in (*names, *_LATER):
        try:
            importlib.import_module(name)
        except Exception:
            continue
        time.sleep(_BREATH_S)
