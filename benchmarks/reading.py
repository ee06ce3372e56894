"""What pages ask of large runs, without the pages: time and memory of orders, comparisons and single images.

    python -m benchmarks.reading --rows 1000000 [--home FOLDER]

Makes synthetic runs as ``benchmarks.ui`` does, or takes those of an earlier one, and asks each question for the first
time in one process: an order under each convention, all encoders side by side, one image with its neighbours. Processor
time is of all threads; the wall clock depends on what else the machine does. torch is in memory, as in the dashboard.
What was read of a large run is kept for the next process, which is asked last.
"""

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil

from benchmarks.speed import environment
from benchmarks.ui_runs import make_run, thumbnails
from jepascore_core import store
from jepascore_core.comparison import correlations
from jepascore_core.files import write_json
from jepascore_core.store import ScoreRule
from jepascore_core.store.reading import FOLDER
from jepascore_core.store.shelf import shelf

RESULTS = Path(__file__).parent / "results" / "reading.json"
RULES = {
    "raw": ScoreRule(),
    "Listing 1": ScoreRule("listing1"),
    "Listing 1, ε 1e−4": ScoreRule("listing1", 1e-4),
    "sphere": ScoreRule("sphere"),
    "corrected": ScoreRule("corrected"),
}
NEIGHBOURS, AMONG = 12, 200_000  # as in the drawer of an image
SCREEN = 60  # thumbnails


def measured(name: str, ask: Callable[[], object]) -> dict[str, object]:
    """Ask once; seconds of the processor and of the clock, and memory afterwards."""
    clock, processor = time.perf_counter(), time.process_time()
    ask()
    found = {
        "question": name,
        "processor_s": round(time.process_time() - processor, 3),
        "clock_s": round(time.perf_counter() - clock, 3),
        "memory_bytes": psutil.Process().memory_info().rss,
    }
    print(f"{name:45s} {found['processor_s']:8.2f} s {found['clock_s']:8.2f} s", flush=True)
    return found


def questions(runs: list[store.Run]) -> Iterator[tuple[str, Callable[[], object]]]:
    """Each question and what asks it, in the order in which one who looks around would come to them."""
    run = runs[0]
    for name, rule in RULES.items():
        yield f"order, {name}", lambda rule=rule: store.ranking(run, rule)  # type: ignore[misc]
    held = store.ranking(run)
    rows = held.rows(np.arange(len(held) // 2, len(held) // 2 + SCREEN))
    key = str(rows["key"][0])
    yield "order, raw again", lambda: store.ranking(run)
    yield "a screen of thumbnails", lambda: store.thumbnails(run, rows["index"].tolist())
    yield "one image", lambda: store.row(run, key)
    yield "spectra of its class", lambda: store.spectrum_band(run, str(rows["class_name"][0]))
    yield "its neighbours", lambda: store.nearest(run, key, NEIGHBOURS, among=AMONG)
    for name, rule in RULES.items():
        yield f"all encoders, {name}", lambda rule=rule: store.common_images(runs, rule)  # type: ignore[misc]
    common = store.common_images(runs)
    yield "correlations of two of them", lambda: correlations(common, 0, 1)
    yield "all encoders, raw again", lambda: store.common_images(runs)
    shelf.drop(lambda name, stamp: True)
    yield "order, raw, in the next process", lambda: store.ranking(run)


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="images of each run")
    parser.add_argument("--encoders", type=int, default=3, help="how many encoders score them")
    parser.add_argument("--home", type=Path, help="where the runs are made, or were made before")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the results are written")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as aside:
        home = options.home or Path(aside)
        jpegs = [] if options.home and any(home.glob(f"runs/*-{options.rows}")) else thumbnails()
        runs = [store.open_run(make_run(home, options.rows, encoder, jpegs)) for encoder in range(options.encoders)]
        shutil.rmtree(home / "runs" / FOLDER, ignore_errors=True)  # what an earlier process kept of them
        found = [measured(name, ask) for name, ask in questions(runs)]
    write_json(options.out, {"environment": environment("cpu"), "rows": options.rows, "questions": found})
    print(json.dumps({"written": str(options.out)}))


if __name__ == "__main__":
    main()
