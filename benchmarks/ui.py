"""The dashboard's screens in a real browser, at several sizes: ``make bench-ui`` or ``python -m benchmarks.ui``.

Synthetic runs of each size (``benchmarks.ui_runs``) are served by a process of their own and opened with the system's
Chromium. What is measured and by which clock stands in ``ui_tab.py``; what is clicked, in ``ui_steps.py``. Pages come
from the dashboard's own navigation. A server is cold when no page has been drawn since it was started.
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import tempfile
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
from playwright.async_api import Browser, async_playwright

from benchmarks import ui_photos, ui_steps
from benchmarks.ui_runs import make_run, thumbnails
from benchmarks.ui_server import Server, serve
from benchmarks.ui_tab import CALM_MS, FLAGS, VIEWPORT, Unsettled, chromium, new_tab
from benchmarks.ui_tables import clicks_table, loads_table, photos_table, seconds, table

RESULTS = Path(__file__).parent / "results"
SIZES = (10_000, 100_000, 1_000_000)
ENCODERS = 3
BROWSERS = 10
_BUSY_PERCENT = 15.0  # of all cores, above which others disturb


def runs_of(home: Path, rows: int, encoders: int) -> Path:
    """A folder with the runs of one size; made where it is absent."""
    folder = home / str(rows)
    names = [folder / "runs" / f"synthetic-{encoder}-set-{rows}" / "progress.json" for encoder in range(encoders)]
    if not all(name.exists() for name in names):
        print(f"Making {encoders} runs of {rows:,} images in {folder}.", flush=True)
        jpegs = thumbnails()
        for encoder in range(encoders):
            make_run(folder, rows, encoder, jpegs)
    return folder


async def measure(browser: Browser, folder: Path, rows: int, repeats: int, log: Path) -> dict[str, Any]:
    """Everything about one size."""
    disturbed = busy_percent()
    with serve(folder, log) as server:
        tab = await new_tab(browser, marks=server.marks)
        await tab.open(server.url)
        names, addresses = await ui_steps.titles(tab.page), await ui_steps.addresses(tab.page)
        await tab.page.context.close()
    loads = [
        await load(browser, folder, name, address, log) for name, address in zip(names, addresses, strict=True)
    ]  # fmt: skip
    with serve(folder, log) as server:
        memory = [{"when": "started", **server.memory()}]
        tab = await new_tab(browser, marks=server.marks)
        await tab.open(server.url)
        memory.append({"when": "first page", **server.memory()})
        clicks = []
        async for taken in ui_steps.walk(tab, repeats):
            clicks.append({"page": taken.page, "action": taken.action, "turn": taken.turn, **asdict(taken.seen)})
            print(f"{rows:>9,}  {taken.page}: {taken.action}, {seconds(taken.seen.server_s)} s", flush=True)
        await tab.alerts()
        unsettled = [f"{found['page']}: {found['error']}" for found in loads if "error" in found]
        errors = [*unsettled, *tab.errors, *server.errors()]
        memory.append({"when": "every click", **server.memory()})
        await tab.page.context.close()
    with serve(folder, log) as server:
        together = await together_at(browser, server)
        memory.append({"when": f"{BROWSERS} browsers", **server.memory()})
    return {
        "rows": rows, "encoders": len(list((folder / "runs").glob("*/run.json"))), "loads": loads, "clicks": clicks,
        "memory": memory, "together": together, "errors": errors, "busy_by_others_percent": [disturbed, busy_percent()],
    }  # fmt: skip


async def load(browser: Browser, folder: Path, name: str, address: str, log: Path) -> dict[str, Any]:
    """One page in a fresh browser, from a cold server and again from the same one, warm."""
    path = address.split("/", 3)[3]
    found: dict[str, Any] = {"page": name}
    with serve(folder, log) as server:
        for state in ("cold", "warm"):
            tab = await new_tab(browser, marks=server.marks)
            try:
                found[state] = asdict(await tab.open(f"{server.url}/{path}"))
            except Unsettled as error:
                found["error"] = str(error)
            await tab.page.context.close()
    return found


async def together_at(browser: Browser, server: Server) -> dict[str, Any]:
    """Several browsers that click at the same moment."""
    tabs = [await new_tab(browser, marks=server.marks) for _ in range(BROWSERS)]
    for tab in tabs:
        await tab.open(f"{server.url}/class_extremes")
        await ui_steps.all_at_once([tab], rounds=2)  # which brings the parts of the program that the clicks need
    seen = await ui_steps.all_at_once(tabs, rounds=2)
    for tab in tabs:
        await tab.alerts()
    errors = [error for tab in tabs for error in tab.errors] + server.errors()
    for tab in tabs:
        await tab.page.context.close()
    return {
        "browsers": BROWSERS,
        "clicks": len(seen),
        "slowest_settled_s": max(one.settled_s for one in seen),
        "median_settled_s": statistics.median(one.settled_s for one in seen),
        "slowest_server_s": max(one.server_s or 0.0 for one in seen),
        "median_server_s": statistics.median(one.server_s or 0.0 for one in seen),
        "errors": errors,
    }


def busy_percent() -> float:
    """Share of all cores that other work takes, measured for two seconds while ours is at rest."""
    return float(psutil.cpu_percent(interval=2.0))


async def beside_lightly(browser: Browser, options: argparse.Namespace, log: Path) -> dict[str, Any]:
    """Ours and LightlyStudio on a folder of photographs, or why not."""
    if options.photos is None or not options.photos.is_dir():
        return {"skipped": "no --photos FOLDER"}
    if options.lightly_python is None or not options.lightly_python.exists():
        return {"skipped": "no --lightly-python: the interpreter of a virtual environment with lightly-studio"}
    found: dict[str, Any] = {"images": sum(1 for path in options.photos.rglob("*") if path.is_file())}
    found["ours"] = await ui_photos.ours(browser, options.photos, log)
    found["lightly"], found["lightly_version"] = await ui_photos.lightly(
        browser, options.photos, options.lightly_python
    )
    return found


def environment(browser_version: str) -> dict[str, Any]:
    """What a reader must know to repeat the numbers."""
    packages = ("streamlit", "plotly", "pandas", "numpy", "pyarrow", "duckdb", "playwright")
    return {
        "device_name": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "python": platform.python_version(),
        "chromium": browser_version,
        "viewport": VIEWPORT,
        "calm_ms": CALM_MS,
        "server_time": "in the server, from a request for a run of the script to its script_finished",
        "versions": {package: version(package) for package in packages},
    }


async def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure all that is asked for."""
    log = options.home / "server.log"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=list(FLAGS))
        sizes = []
        for rows in options.rows:
            folder = runs_of(options.home, rows, options.encoders)
            sizes.append(await measure(browser, folder, rows, options.repeats, log))
        photos = await beside_lightly(browser, options, log)
        found = {"environment": environment(browser.version), "sizes": sizes, "photos": photos, "notes": options.note}
        await browser.close()
    return found


def main() -> None:
    """Measure, print the tables, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--home", type=Path, default=Path(tempfile.gettempdir()) / "jepascore-bench-ui")
    parser.add_argument("--rows", type=int, nargs="+", default=SIZES, help="images of each run")
    parser.add_argument("--encoders", type=int, default=ENCODERS, help="runs of each size that are made")
    parser.add_argument("--repeats", type=int, default=3, help="how often each click is made")
    parser.add_argument("--photos", type=Path, help="folder of photographs, for LightlyStudio and ours")
    parser.add_argument("--lightly-python", type=Path, help="Python of an environment with lightly-studio")
    parser.add_argument("--note", action="append", default=[], help="kept in the JSON, such as what else was at work")
    parser.add_argument("--out", type=Path, default=RESULTS / "ui.json")
    options = parser.parse_args()
    if not chromium():
        parser.exit(1, "No Chromium on this machine (apt install chromium).\n")
    options.home.mkdir(parents=True, exist_ok=True)
    print(f"Runs are kept in {options.home}.", flush=True)
    results = asyncio.run(run(options))
    print(
        "\n".join(["", loads_table(results["sizes"]), "", clicks_table(results["sizes"]), "", table(results["sizes"])])
    )
    print("\n" + photos_table(results["photos"]))
    for size in results["sizes"]:
        if max(size["busy_by_others_percent"]) > _BUSY_PERCENT:
            shares = " and ".join(f"{share:.0f} %" for share in size["busy_by_others_percent"])
            print(f"Disturbed at {size['rows']:,} images: other work took {shares} of the cores.")
        for error in [*size["errors"], *size["together"]["errors"]]:
            print(f"Error at {size['rows']:,} images: {error}")
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
