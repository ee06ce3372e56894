"""Dashboards without a browser: each a process that opens pages, one after the other, on a home that others change."""

import os
import time
from pathlib import Path
from typing import Any

from tests.children import context, print_to

ROOT = Path(__file__).parent.parent.parent
PAGES = ("class_extremes", "distributions", "score_images", "compare_encoders")
_PATIENCE_S = 240


class Dashboard:
    """A dashboard at work.

    Args:
        home: Folder that holds ``runs``.
        starts: Ask for the newest run there is, as a click on *Start* does.
    """

    def __init__(self, home: Path, *, starts: bool) -> None:
        self._heard, said = context.Pipe(duplex=False)
        self._process = context.Process(target=_browse, args=(home, starts, dict(os.environ), said))
        self._process.start()
        said.close()

    def ended(self) -> list[str]:
        """Errors that a visitor saw, once every page was open."""
        try:
            return self._heard.recv() if self._heard.poll(_PATIENCE_S) else ["The dashboard hangs."]
        except EOFError:
            return ["The dashboard crashed."]
        finally:
            self._process.kill()
            self._process.join()


def _browse(home: Path, starts: bool, environment: dict[str, str], said: Any) -> None:
    """Open every page; in the other process."""
    os.environ.update(environment | {"JEPASCORE_HOME": str(home), "JEPASCORE_DEMO": "0"})
    os.chdir(ROOT)
    print_to(Path(os.devnull), Path(os.devnull))  # Streamlit warns that there is no browser
    from streamlit.runtime.pages_manager import PagesManager
    from streamlit.testing.v1 import AppTest

    from jepascore_core import jobs, store

    PagesManager.uses_pages_directory = False
    job = jobs.start(store.list_runs(home / "runs")[0].request(), runs_dir=home / "runs") if starts else None
    found = []
    for page in ("", *PAGES):
        at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120).run()
        if page:
            at = at.switch_page(f"pages/{page}.py").run()
        found += [f"{page}: {error.value}" for error in (*at.exception, *at.error)]
    while job and any(other.id == job.id and other.active for other in jobs.list_jobs(home / "runs")):
        time.sleep(0.1)
    said.send(found)
