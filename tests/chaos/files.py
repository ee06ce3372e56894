"""Mutated files other than images: tables, results, metadata, weights; and a pickle wherever one might be loaded."""

import copy
import functools
import gzip
import io
import json
import math
import os
import pickle
import random
import shutil
import struct
import threading
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.chaos.images import check_sentence
from tests.chaos.mutations import MUTATIONS
from tests.chaos.pictures import sources

ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 3, 2**31, 2**63, 10**400, -(10**400), 0.5, -1e308, math.nan, math.inf, -math.inf, "", "0",
    "x" * 5000, "\ud800", "a\0b", "../../etc/passwd", "<img src=x onerror=a()>", "=1+1", [], [None], [[]], [1, "a"], {},
    {"a": 1},
)  # fmt: skip
NPY_HEADERS = (
    "{'descr': '|O', 'fortran_order': False, 'shape': (3,), }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 16), }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (-1, 16), }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (0, 16), }",
    "{'descr': '<f8', 'fortran_order': 7, 'shape': (True, 16), }",
    "{'descr': [('a', '<f8'), ('b', '|O')], 'fortran_order': False, 'shape': (3,), }",
    "{'descr': '<M8[ns]', 'fortran_order': False, 'shape': (3, 2), }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': " + "(" * 3000 + ", }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (3,), 'x': __import__('os').mkdir('owned')}",
    "{'descr': '<U99999999', 'fortran_order': False, 'shape': (9,), }",
    "[" * 2000,
    "",
)


# ---- what is mutated


def mutated_json(text: str, draw: random.Random) -> bytes:
    """A JSON text with some values replaced, removed or added; sometimes with damaged bytes."""
    if draw.random() < 0.25:
        return MUTATIONS[draw.choice(list(MUTATIONS))](text.encode(), draw)
    data = json.loads(text)
    for _ in range(draw.choice((1, 1, 2, 5))):
        places = [(data, name) for name in data] if isinstance(data, dict) else []
        for held, name in list(places):
            inner = held[name]
            if isinstance(inner, dict):
                places += [(inner, key) for key in inner]
            if isinstance(inner, list) and inner:
                places += [(inner, draw.randrange(len(inner)))]
        if not places:
            break
        held, name = draw.choice(places)
        deed = draw.random()
        if deed < 0.15 and isinstance(held, dict):
            del held[name]
        elif deed < 0.25 and isinstance(held, dict):
            held[draw.choice(("", "x", "\ud800", "__class__", "path"))] = copy.deepcopy(draw.choice(ODD))
        else:
            held[name] = copy.deepcopy(draw.choice(ODD))
    if draw.random() < 0.03:
        return b"[" * 100_000
    with_long_integers = json.dumps(data)
    return with_long_integers.encode("utf-8", "surrogatepass")


def mutated_csv(text: str, draw: random.Random) -> bytes:
    """Cells replaced, rows and columns doubled; or damaged bytes."""
    if draw.random() < 0.4:
        return MUTATIONS[draw.choice(list(MUTATIONS))](text.encode(), draw)
    rows = [line.split(",") for line in text.splitlines()]
    for _ in range(draw.choice((1, 3, 9))):
        row = draw.choice(rows)
        row[draw.randrange(len(row))] = str(draw.choice((*ODD, '"', '"a', "1e999", "[1, 2", "1 2 3", "nan", "٣")))
    if draw.random() < 0.3:
        rows.insert(draw.randrange(len(rows)), draw.choice(rows) * draw.choice((1, 2, 2000)))
    return draw.choice(("\n", "\r\n", "\r")).join(",".join(row) for row in rows).encode("utf-8", "surrogatepass")


def mutated_bytes(data: bytes, draw: random.Random) -> bytes:
    """Damaged bytes, once or twice."""
    data = MUTATIONS[draw.choice(list(MUTATIONS)[1:])](data, draw)
    return MUTATIONS[draw.choice(list(MUTATIONS))](data, draw) if data and draw.random() < 0.3 else data


def mutated_safetensors(data: bytes, draw: random.Random) -> bytes:
    """The header's JSON changed, its length right; or damaged bytes."""
    if draw.random() < 0.3:
        return mutated_bytes(data, draw)
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    about = header.get("__metadata__", {})
    nested = [name for name, value in about.items() if value.startswith("{")]
    if nested and draw.random() < 0.7:
        name = draw.choice(nested)
        about[name] = mutated_json(about[name], draw).decode("utf-8", "backslashreplace")
        changed = json.dumps(header).encode()
    else:
        changed = mutated_json(json.dumps(header), draw)
    return len(changed).to_bytes(8, "little") + changed + data[8 + size :]


def mutated_npy(data: bytes, draw: random.Random) -> bytes:
    """Another header, or damaged bytes."""
    if draw.random() < 0.5:
        return mutated_bytes(data, draw)
    header = draw.choice(NPY_HEADERS).encode("latin-1") + b"\n"
    start = 10 + int.from_bytes(data[8:10], "little")
    return data[:8] + struct.pack("<H", len(header)) + header + data[start:]


def mutated_npz(data: bytes, draw: random.Random) -> bytes:
    """Entries changed, doubled or renamed, the archive whole; or damaged bytes."""
    if draw.random() < 0.4:
        return mutated_bytes(data, draw)
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", draw.choice((0, 8))) as new:
        for info in old.infolist():
            body = old.read(info)
            name = draw.choice((info.filename, info.filename, "../../x.npy", "a/b.npy", "score.npy", "\x01", "x.txt"))
            with warnings.catch_warnings(action="ignore"):  # two entries of one name are meant
                new.writestr(name, mutated_npy(body, draw) if draw.random() < 0.6 else body)
    return out.getvalue()


def mutated_parquet(data: bytes, draw: random.Random) -> bytes:
    """Columns of other types, names, values and metadata; or damaged bytes."""
    if draw.random() < 0.6:
        return mutated_bytes(data, draw)
    table = pq.read_table(io.BytesIO(data))
    place = draw.randrange(table.num_columns)
    n, name = table.num_rows, table.schema.names[place]
    odd = draw.choice(
        (
            pa.nulls(n), pa.array([[b"a", None]] * n), pa.array(["\U0001f600" * 9] * n), pa.array([2**62] * n),
            pa.array([math.nan] * n), pa.array([{"bytes": b"x", "path": "../../x"}] * n), pa.array([True] * n),
            pa.array([[math.inf, -1.0]] * n), pa.array(["a"] * n).dictionary_encode(), pa.array([0] * n, pa.date64()),
        )
    )  # fmt: skip
    deed = draw.randrange(4)
    if deed == 0:
        table = table.set_column(place, name, odd)
    elif deed == 1:
        table = table.drop_columns([name])
    elif deed == 2:
        table = table.append_column(name, odd)
    else:
        told = draw.choice((
            b"{",
            b"[1]",
            b'{"info": {"features": {"label": {"_type": "ClassLabel", "names": 5}}}}',
            b"\xff",
        ))
        table = table.replace_schema_metadata({b"huggingface": told, b"classes": told, b"jepascore_map": told})
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


# ---- what they are mutations of


@functools.cache
def _results() -> dict[str, bytes]:
    """A file of results in each format."""
    from jepascore_core.store.parts import SCHEMA

    draw = np.random.default_rng(0)
    sigma, keys = np.exp(draw.normal(size=(12, 4))), [f"a/{n}.png" for n in range(12)]
    scores = np.log(sigma).sum(1)
    npz, npy, parquet = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.savez(npz, svdvals=sigma, keys=np.array(keys), label=np.arange(12) % 3)
    np.save(npy, sigma)
    columns = {"key": keys, "jepa_score": scores, "singular_values": list(sigma), "class_name": ["x", "y"] * 6}
    columns["embedding"] = list(draw.normal(size=(12, 4)))
    pq.write_table(pa.table(columns), parquet)
    rows = [
        f"{key},{score},c{n % 2},[{' '.join(map(str, row))}]"
        for n, (key, score, row) in enumerate(zip(keys, scores, sigma, strict=True))
    ]
    objects = [{"key": k, "score": float(s), "embedding": [1, 2.5]} for k, s in zip(keys, scores, strict=True)]
    assert "singular_values" in SCHEMA.names
    return {
        ".npz": npz.getvalue(),
        ".npy": npy.getvalue(),
        ".parquet": parquet.getvalue(),
        ".csv": "\n".join(["key,score,class,sigma", *rows]).encode(),
        ".jsonl": "\n".join(map(json.dumps, objects)).encode(),
        ".json": json.dumps(objects).encode(),
    }


@functools.cache
def _dataset() -> bytes:
    """A Parquet dataset as Hugging Face writes it."""
    pictures = [{"bytes": data, "path": f"{n}.png"} for n, (_, _, data) in enumerate(sources()[::40])]
    told = {"info": {"features": {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["a", "b"]}}}}
    table = pa.table({"image": pictures, "label": [n % 2 for n in range(len(pictures))]})
    out = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({b"huggingface": json.dumps(told).encode()}), out, row_group_size=4)
    return out.getvalue()


@functools.cache
def _weights() -> bytes:
    from jepascore_core.encoders.load import WEIGHTS

    return (WEIGHTS / "jepa-tiny.safetensors").read_bytes()


@functools.cache
def _run_files() -> dict[str, bytes]:
    """The files of a small run with a tag, and of a job."""
    import tempfile

    from jepascore_core import store
    from tests.runs_made import made_run

    draw = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        run = made_run(Path(folder), draw.normal(size=(9, 3)), np.arange(9) % 3, draw.normal(size=9))
        store.add_tag(run, "odd", ["class 0/00000.png"])
        found = [path for path in run.path.rglob("*.*") if path.is_file() and path.suffix in (".json", ".parquet")]
        return {str(path.relative_to(run.path)): path.read_bytes() for path in found}


_JOB = {
    "kind": "score", "argv": ["score"], "pid": 4_000_000, "state": "scoring", "runs": ["a"], "message": "",
    "host": "here", "started": "2026-01-01T00:00:00+00:00", "process": "x", "done": 0, "planned": 3, "eta_s": 5.0,
    "request": {"encoder_id": "demo:jepa-tiny", "dataset_id": "demo:photos", "limit": 3, "classes": ["a"]},
}  # fmt: skip


# ---- how they are used, in the child


def use_dataset(path: str) -> str:
    """Open a Parquet file or folder of idx files, read what it lists."""
    from jepascore_core.datasets import load_dataset
    from jepascore_core.datasets.images import thumbnail
    from jepascore_core.runner.reading import reader

    dataset = load_dataset(path)
    read = reader(dataset, lambda image: _tensor(), thumbnail)
    for item in dataset.items[:12]:
        loaded = read(item)
        if loaded.error is not None:
            check_sentence(loaded.error)
    return "read"


def use_results(path: str) -> str:
    """Import a file of results and look at the run as a page does."""
    from jepascore_core.importing import ImportRequest, import_file

    run, _ = import_file(ImportRequest(Path(path), "mine", "theirs"), Path(path).parent / "runs")
    return look_at(run)


def use_run(path: str) -> str:
    """List and open a runs folder, look at everything in it."""
    from jepascore_core import jobs, store

    runs = store.list_runs(path)
    words = [look_at(store.open_run(run.name, path)) for run in runs]
    for job in jobs.list_jobs(path):
        assert isinstance(job.message, str) and job.done >= 0 and job.planned >= 0
        json.dumps([*job.argv, *job.runs, job.eta_s], allow_nan=False)
        _named(lambda job=job: store.RunRequest.from_json(job.request or {}).check())  # type: ignore[misc]
    return "; ".join(words)


def look_at(run: Any) -> str:
    """What pages, commands and reports ask of a run; only a sentence may be raised."""
    from jepascore_core import naming, store
    from jepascore_core.report import make_report
    from pages.components import text

    progress = run.progress()
    assert 0 <= progress.fraction <= 1
    text.duration(progress.eta_s), text.number(progress.images_per_s), text.count(progress.planned)
    text.public_md(run.problem or run.warning or progress.message).encode()
    if run.problem:
        check_sentence(run.problem)
        return run.problem
    for words in (
        run.label,
        naming.encoder_phrase(run),
        naming.origin(run),
        naming.dataset_name(run),
        naming.precision(run),
    ):
        text.md(words).encode()
    naming.is_variant(run), naming.distinct_names([run, run]), naming.rule_name(store.ScoreRule(), [run])
    _named(lambda: run.request().check())
    store.list_tags(run), store.damaged_tags(run), store.tags_by_key(run), store.counts(run), store.encoder_of(run)
    for convention in store.CONVENTIONS:
        rule = store.ScoreRule(convention)
        if store.why_not(run, rule) is None:
            _named(lambda rule=rule: store.scores(run, rule=rule))  # type: ignore[misc]
            _named(lambda rule=rule: store.extremes(run, 3, rule=rule))  # type: ignore[misc]
    for question in (
        store.class_counts,
        store.failures,
        store.spectra,
        store.embeddings,
        store.spectrum_band,
        store.median,
    ):
        _named(lambda question=question: question(run))  # type: ignore[misc]
    _named(lambda: store.thumbnails(run, [0, 1]))
    _named(lambda: make_report([run]).encode())
    return "shown"


def use_beside(path: str) -> str:
    """A map, a cost, or a record of the theory lab, each beside the runs."""
    from jepascore_core.store.costs import read_cost
    from jepascore_core.store.maps import read_map
    from jepascore_core.theory import grid

    read_map(Path(path)), read_cost(Path(path))
    records = grid.all_kept(Path(path).parent.parent)
    grid.summary(records), grid.summary(records, "spearman")
    return "read"


def use_weights(path: str) -> str:
    """Weights of our own kind, or of timm's, as an encoder."""
    import torch

    from jepascore_core.encoders import load_encoder

    encoder = load_encoder(path)
    values = encoder(torch.zeros(1, *encoder.spec.input_size))
    assert values.shape == (1, encoder.spec.embedding_dim)
    return "loaded"


def use_training(path: str) -> str:
    """A training taken up again from its checkpoint, for one step."""
    from jepascore_core.trainer import train

    return "resumed" if train(_training(), out=Path(path), stop=_set()).done is False else "done"


def make_training(path: str) -> str:
    """A checkpoint to mutate."""
    return use_training(path)


def _training() -> Any:
    from jepascore_core.trainer import TrainConfig

    return TrainConfig(dataset="demo:digits", steps=3, batch_size=8, input_size=16, limit=32, device="cpu")


def _set() -> threading.Event:
    stop = threading.Event()
    stop.set()
    return stop


def _tensor() -> Any:
    import torch

    return torch.zeros(3, 4, 4)


def _named(question: Callable[[], object]) -> None:
    """Ask; the answer may be a sentence of ours."""
    from jepascore_core.errors import JepaScoreError

    try:
        question()
    except JepaScoreError as error:
        check_sentence(str(error))


def guarded(case: tuple[str, str]) -> str:
    """Use a file; what is refused is refused in a sentence of ours.

    Args:
        case: Name of a function of this module, and its argument.
    """
    from jepascore_core.errors import JepaScoreError

    try:
        return str(globals()[case[0]](case[1]))
    except JepaScoreError as error:
        assert str(error).isprintable() and len(str(error)) < 600, f"not one line: {error}"
        return f"refused: {error}"


# ---- the trials


def trials(n: int, seed: int, work: Path) -> Iterator[tuple[str, str, str, Path]]:
    """Kind, function, argument and file of each trial; the file is there while it is asked for.

    Args:
        n: How many.
        seed: Of all chances.
        work: Where.
    """
    makers = (_a_dataset, _some_results, _some_results, _a_run, _a_run, _a_run, _a_job, _beside, _some_weights, _an_idx)
    for place in range(n):
        draw = random.Random(f"files {seed} {place}")
        folder = work / f"file {place:05d}"
        folder.mkdir(parents=True)
        yield makers[place % len(makers)](folder, draw)
        shutil.rmtree(folder)


def _a_dataset(folder: Path, draw: random.Random) -> tuple[str, str, str, Path]:
    path = folder / "data.parquet"
    path.write_bytes(mutated_parquet(_dataset(), draw))
    return "Parquet dataset", "use_dataset", f"parquet:{path}", path


def _an_idx(folder: Path, draw: random.Random) -> tuple[str, str, str, Path]:
    path, labels = folder / "t10k-images-idx3-ubyte.gz", folder / "t10k-labels-idx1-ubyte"
    images, codes = struct.pack(">IIII", 2051, 6, 8, 8) + bytes(384), struct.pack(">II", 2049, 6) + bytes(range(6))
    if draw.random() < 0.3:
        codes = mutated_bytes(codes, draw)
    path.write_bytes(
        gzip.compress(mutated_bytes(images, draw))
        if draw.random() < 0.6
        else mutated_bytes(gzip.compress(images), draw)
    )
    labels.write_bytes(codes)
    return "idx dataset", "use_dataset", f"folder:{folder}", path


def _some_results(folder: Path, draw: random.Random) -> tuple[str, str, str, Path]:
    ending = draw.choice(list(_results()))
    whole = _results()[ending]
    path = folder / f"results{ending}"
    if ending == ".csv":
        data = mutated_csv(whole.decode(), draw)
    elif ending == ".jsonl":
        lines = whole.split(b"\n")
        place = draw.randrange(len(lines))
        lines[place] = mutated_json(lines[place].decode(), draw)
        data = b"\n".join(lines)
    elif ending == ".json":
        data = mutated_json(json.dumps({"a": json.loads(whole)}), draw).removeprefix(b'{"a": ').removesuffix(b"}")
    else:
        data = {".npz": mutated_npz, ".npy": mutated_npy, ".parquet": mutated_parquet}[ending](whole, draw)
    path.write_bytes(data)
    return f"results {ending}", "use_results", str(path), path


def _a_run(folder: Path, draw: random.Random) -> tuple[str, str, str, Path]:
    chosen = draw.choice(list(_run_files()))
    for name, data in _run_files().items():
        path = folder / "run" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name == chosen:
            data = mutated_json(data.decode(), draw) if name.endswith(".json") else mutated_parquet(data, draw)
        path.write_bytes(data)
    kind = "tag" if chosen.startswith("tags") else "part" if chosen.startswith("part") else chosen
    return kind, "use_run", str(folder), folder / "run" / chosen


def _a_job(folder: Path, draw: random.Random) -> tuple[str, str, str, Path]:
    path = folder / ".jobs" / "job.json"
    path.parent.mkdir()
    path.write_bytes(mutated_json(json.dumps(_JOB), draw))
    return "job", "use_run", str(folder), path


def _beside(folder: Path, draw: random.Random) -> tuple[str, str, str, Path]:
    which = draw.randrange(3)
    if which == 0:
        path, table = (
            folder / "maps" / "map.parquet",
            pa.table({"run": [0, 0], "index": [1, 2], "x": [0.5, 1], "y": [0.5, 1]}),
        )
        out = io.BytesIO()
        told = {"request": {"runs": ["a"], "projection": "pca"}, "share": [0.5, 0.2], "names": ["a"]}
        pq.write_table(table.replace_schema_metadata({b"jepascore_map": mutated_json(json.dumps(told), draw)}), out)
        data = mutated_parquet(out.getvalue(), draw) if draw.random() < 0.5 else out.getvalue()
    elif which == 1:
        path = folder / "costs" / "cost.json"
        data = mutated_json(json.dumps({"images_per_s": 2.5, "start_s": 1.0, "device": "cpu", "images": 40}), draw)
    else:
        path = folder / "theory" / "record.json"
        told = {
            "dim": 2,
            "samples": 100,
            "seed": 0,
            "objective": "sigreg",
            "broken": "",
            "pearson": 0.9,
            "spearman": 0.8,
        }
        data = mutated_json(json.dumps(told | {"recipe": _recipe(), "config": {"dim": 2}, "elapsed_s": 1.5}), draw)
    path.parent.mkdir()
    path.write_bytes(data)
    return f"{path.stem} beside the runs", "use_beside", str(path), path


def _some_weights(folder: Path, draw: random.Random) -> tuple[str, str, str, Path]:
    path = folder / "net.safetensors"
    path.write_bytes(mutated_safetensors(_weights(), draw))
    return "safetensors", "use_weights", f"file:{path}", path


@functools.cache
def _recipe() -> Any:
    from jepascore_core.theory.grid import RECIPE

    return RECIPE


# ---- pickles


class Evil:
    """Makes a folder when an unguarded reader unpickles it."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def pickles(work: Path) -> Iterator[tuple[str, str, str, Path]]:
    """Kind, function, argument and the folder that must not appear, for each place that might load a pickle."""
    import torch

    work.mkdir(parents=True, exist_ok=True)
    marker = work / "owned"
    evil = Evil(marker)
    raw = pickle.dumps(evil)
    timm = "timm:vit_tiny_patch16_224"
    for ending in (".pth", ".pt", ".bin", ".ckpt", ".pkl", ".safetensors"):
        path = work / f"raw{ending}"
        path.write_bytes(raw)
        yield "pickle as weights", "use_weights", f"file:{path}", marker
        yield "pickle as weights", "use_weights", f"file:{path}@{timm}", marker
        for legacy in (False, True):
            path = work / f"torch{legacy}{ending}"
            torch.save({"w": evil}, path, _use_new_zipfile_serialization=not legacy)
            yield "pickle as weights", "use_weights", f"file:{path}@{timm}", marker
    objects = np.array([evil, evil], dtype=object)
    np.save(work / "objects.npy", objects, allow_pickle=True)
    np.savez(work / "objects.npz", score=objects, key=np.array(["a", "b"]), x=np.array([1, 1]))
    np.savez(work / "keys.npz", svdvals=np.ones((2, 3)), key=objects)
    for name in ("objects.npy", "objects.npz", "keys.npz"):
        yield "pickle as results", "use_results", str(work / name), marker
    for ending in _results():
        (work / f"raw{ending}").write_bytes(raw)
        yield "pickle as results", "use_results", str(work / f"raw{ending}"), marker
    plain = pq.read_table(io.BytesIO(_dataset()))
    told = {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": raw}
    for column in (0, 1):
        field = plain.schema.field(column).with_metadata(told)
        table = plain.cast(plain.schema.set(column, field))
        pq.write_table(table, work / f"extension{column}.parquet")
        yield "pickle as a Parquet type", "use_dataset", f"parquet:{work / f'extension{column}.parquet'}", marker
        yield "pickle as a Parquet type", "use_results", str(work / f"extension{column}.parquet"), marker
    for name in _run_files():
        folder = work / f"home {len(name)} {name[:4]}"
        for other, data in _run_files().items():
            path = folder / "run" / other
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(raw if other == name else data)
        yield "pickle in a run", "use_run", str(folder), marker
    (work / "beside").mkdir()
    (work / "beside" / "map.parquet").write_bytes(raw)
    yield "pickle beside the runs", "use_beside", str(work / "beside" / "map.parquet"), marker
    for legacy in (False, True):
        path = work / f"training{legacy}.safetensors"
        torch.save(
            {"identity": evil}, path.with_name(f"{path.stem}.checkpoint.pt"), _use_new_zipfile_serialization=not legacy
        )
        yield "pickle as a training", "use_training", str(path), marker
