"""Import in the background what the other pages need, so that a first visit to one does not wait for it."""

import contextlib
import ctypes
import importlib
import importlib.util
import os
import pkgutil
import threading
import time
from pathlib import Path

from pages import components

QUIET_S = 1.0  # since a page was drawn: an import holds up whoever clicks meanwhile
_LATER = ("sklearn.decomposition", "torch", "jepascore_core.encoders")
_LAST = "lab"  # the Theory lab's components begin with it; they bring torch and most of scipy

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
    found = [module.name for module in pkgutil.iter_modules(components.__path__)]
    first = [f"{components.__name__}.{name}" for name in found if not name.startswith(_LAST)]
    last = [f"{components.__name__}.{name}" for name in found if name.startswith(_LAST)]
    for name in (*first, *_LATER, *last):
        while (left_s := _drawn_s + QUIET_S - time.monotonic()) > 0:
            time.sleep(left_s)
        with contextlib.suppress(Exception):
            if name == "torch":
                _map_torch()
            importlib.import_module(name)


def _map_torch() -> None:
    """Have torch's libraries mapped by a foreign call; an import would keep the interpreter to itself meanwhile."""
    found = importlib.util.find_spec("torch")
    if found is not None and found.origin is not None:
        library = Path(found.origin).parent / "lib" / "libtorch_python.so"
        ctypes.CDLL(None).dlopen(os.fsencode(library), os.RTLD_NOW)  # where there is none, nothing happens
