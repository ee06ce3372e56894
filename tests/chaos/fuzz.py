"""Coverage-guided fuzzing of our own parsers with atheris: each target takes any bytes, and checks what must hold.

``python -m tests.chaos.fuzz 20000`` fuzzes all of them, each so many times; ``python -m tests.chaos.fuzz TARGET RUNS
SEED FOLDER`` one of them in this process, which libFuzzer ends. Where there is no atheris (its wheels are for Linux),
bytes are mutated without guidance.
"""

import contextlib
import importlib
import importlib.util
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from unittest import mock

from tests.chaos.outcome import Outcome

CAMPAIGN = "fuzz"
_LONGEST = 2000  # bytes of an input
_HANG_S = 10
_MEMORY_MB = 2048
_EACH_S = 120  # at most, for a target


@dataclass(frozen=True, slots=True)
class Target:
    """One parser.

    Attributes:
        check: Takes any bytes; raises where a promise is broken.
        modules: What it covers, for guidance.
        seeds: Inputs to begin with.
        share: Of the runs that others get, for slow ones.
    """

    check: Callable[[bytes], None]
    modules: tuple[str, ...]
    seeds: tuple[bytes, ...] = ()
    share: float = 1.0


def _text(data: bytes) -> str:
    """Any text, lone surrogates too."""
    return data.decode("utf-8", "surrogateescape")


def _json(data: bytes) -> dict[str, Any]:
    """Any JSON object; others are passed over."""
    with contextlib.suppress(ValueError, RecursionError):
        found = json.loads(data.decode("utf-8", "replace"))
        if isinstance(found, dict):
            return found
    return {}


def _file(data: bytes, name: str) -> Path:
    """A file of these bytes, always at one place."""
    path = Path(os.environ["JEPASCORE_FUZZ"], name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


# ---- targets


def request(data: bytes) -> None:
    """A request is refused in a sentence, or goes into JSON and back."""
    from jepascore_core.errors import RunError
    from jepascore_core.store.request import RunRequest

    try:
        found = RunRequest.from_json(_json(data))
        found.check()
    except RunError as error:
        assert str(error).isprintable() or "\\" not in str(error)
        return
    assert RunRequest.from_json(json.loads(json.dumps(found.to_json()))) == found
    assert len(found.to_argv()) >= 2


def class_list(data: bytes) -> None:
    """Class names go into one line and back; any line is read or refused."""
    from jepascore_core.errors import JepaScoreError
    from jepascore_core.store.request import format_classes, split_classes

    names = tuple(_text(data).split("\x1f"))
    if all(names):
        assert split_classes(format_classes(names)) == names
    with contextlib.suppress(JepaScoreError):
        split_classes(_text(data))


def progress(data: bytes) -> None:
    """Progress is damaged, or can be shown."""
    from jepascore_core.store.progress import read_progress
    from pages.components import text

    try:
        found = read_progress(_file(data, "progress.json").parent)
    except ValueError as error:
        assert str(error).startswith("progress.json ")
        return
    assert 0 <= found.fraction <= 1
    text.duration(found.eta_s), text.number(found.images_per_s), text.md(found.message).encode()


def run_json(data: bytes) -> None:
    """A run has a problem, or can be named, shown and asked for again."""
    from jepascore_core import naming
    from jepascore_core.errors import RunError
    from jepascore_core.store import ScoreRule
    from jepascore_core.store.runs import read_run

    run = read_run(_file(data, "run/run.json").parent)
    if run.problem:
        run.problem.encode()
        return
    for words in (run.label, naming.encoder_phrase(run), naming.origin(run), naming.precision(run)):
        words.encode()
    naming.rule_name(ScoreRule(), [run]), naming.is_variant(run), naming.distinct_names([run]), naming.input_side(run)
    with contextlib.suppress(RunError):
        run.request().check()


def tag(data: bytes) -> None:
    """A tag file is damaged, or holds a tag; any text is a tag's name or none."""
    from jepascore_core.errors import RunError
    from jepascore_core.store import tag_files

    with contextlib.suppress(RunError):
        name = tag_files.tag_name(_text(data))
        assert name.encode() and tag_files.tag_name(name) == name
        path = tag_files.path_of(_file(b"", "tags/x").parent, name)
        path.write_bytes(json.dumps({"name": name, "created": "", "keys": [name]}).encode())
        assert tag_files.read(path).keys == (name,)
        path.unlink()
    with contextlib.suppress(ValueError):
        tag_files.read(_file(data, "tags/0.json"))


def results(data: bytes) -> None:
    """A file of results, its format told by the first byte, is looked at or refused."""
    from jepascore_core.errors import JepaScoreError
    from jepascore_core.importing import ENDINGS, ImportRequest, look

    if not data:
        return
    ending = ENDINGS[data[0] % len(ENDINGS)]
    with contextlib.suppress(JepaScoreError):
        found = look(ImportRequest(_file(data[1:], f"results{ending}"), "mine", "theirs"))
        assert len(found.keys) == len(found.scores) == len(set(found.keys))
        "".join(found.keys).encode()


def dataset_id(data: bytes) -> None:
    """A dataset's id is taken apart, shortened, made absolute and public; nothing but a sentence is raised."""
    from jepascore_core import naming
    from jepascore_core.corrupted_id import corrupted_id, innermost, take_apart
    from jepascore_core.datasets import expand
    from jepascore_core.errors import DatasetError
    from jepascore_core.store.request import absolute_id, short_name, slug

    text = _text(data)
    if parts := take_apart(text):
        assert text == f"corrupted:{':'.join(parts)}"
    assert take_apart(innermost(text)) is None
    assert take_apart(corrupted_id("blur", 3, text)) == ("blur", "3", text)
    short_name(text), naming.public_id(text)
    assert set(slug(text)) <= set("abcdefghijklmnopqrstuvwxyz0123456789._-") and 0 < len(slug(text)) <= 40
    assert absolute_id(absolute_id(text)) == absolute_id(text)
    try:
        expand(text)
    except DatasetError as error:
        str(error).encode()


def encoder_id(data: bytes) -> None:
    """An encoder's id is known or unknown, and its layer is split off and put back."""
    from jepascore_core.encoders import names
    from jepascore_core.errors import EncoderError

    text = _text(data)
    whole, layer = names.split_layer(text)
    assert layer is None or whole
    assert names.split_layer(names.with_layer(text or "x", 3)) == (text or "x", 3)
    few = mock.patch.object(names, "closest", lambda *_: ["one"])  # it looks at thousands of names
    with few, contextlib.suppress(EncoderError):
        assert names.parse(str(names.parse(text))) == names.parse(text)


def markdown(data: bytes) -> None:
    """Escaped text is one line without markup, links or icons, and says the same."""
    import re

    from pages.components import text as words

    text = _text(data)
    escaped = words.md(text)
    escaped.encode()
    plain = re.sub(r"\\([!-/:-@\[-`{-~])", "", escaped)
    assert not re.search(r"[!-/:-@\[-`{-~]", plain), "something is not escaped"
    assert "\n" not in escaped and "\r" not in escaped
    assert not re.search(r"https?\\:\\/\\/(?!huggingface)|www\\\.", escaped, re.IGNORECASE), "an address"
    words.public_md(text).encode()


def keys(data: bytes) -> None:
    """Keys go into lines and file names, and back."""
    from jepascore_core.datasets.keys import key_to_name, name_to_key, printable
    from jepascore_core.packs.names import safe_name, stem_of
    from jepascore_core.store.key_lines import key_line, parse_key_line

    text = _text(data)
    assert parse_key_line(key_line(text)) == (None, text)
    assert parse_key_line(key_line(text, "run")) == ("run", text)
    assert key_to_name(name_to_key(text)) == text
    name_to_key(text).encode(), printable(text).encode()
    for name in (safe_name(text), stem_of(text)):
        assert name and name not in (".", "..") and not set(name) & set('/\\\0\n:*?"<>|') and len(name) <= 48
    parse_key_line(text)


def schema(data: bytes) -> None:
    """What a Parquet file says of its classes is understood or passed over; so is an idx file."""
    import pyarrow as pa

    from jepascore_core.datasets import columns, idx

    fields = [("image", pa.binary()), ("label", pa.int64())]
    for metadata in ({b"huggingface": data}, {b"classes": data}):
        made = pa.schema(fields, metadata=metadata)
        label = columns.label_column(made)
        assert label is None or label in made.names
        names = columns.class_names(made, "label")
        assert names is None or all(isinstance(name, str) for name in names)
    for dimensions in (1, 3):
        with contextlib.suppress(ValueError):
            idx._parse_idx(BytesIO(data), dimensions)


def job(data: bytes) -> None:
    """A job's file is damaged or holds a job."""
    from jepascore_core.jobs.job_file import judged, read_job

    with contextlib.suppress(ValueError, TypeError):
        found = judged(read_job(_file(data, "job.json")), {})
        json.dumps([*found.argv, *found.runs, found.eta_s], allow_nan=False)
        found.message.encode()


_TINY_RUN = (
    b'{"format_version": 1, "encoder": {"id": "demo:a", "name": "a", "digest": "d", "embedding_dim": 3, "null_dim": 0, '
    b'"input_size": [3, 8, 8]}, "dataset": {"id": "demo:b", "class_names": ["x"], "size": 3}, "sample": {"seed": 0}, '
    b'"planned": 3, "views": 1, "precisions": ["float32"], "request": {"encoder_id": "demo:a", "dataset_id": "demo:b"}}'
)
TARGETS: dict[str, Target] = {
    "request": Target(
        request, ("jepascore_core.store.request",), (b'{"encoder_id": "a", "dataset_id": "b", "classes": ["c"]}',)
    ),
    "class list": Target(class_list, ("jepascore_core.store.request", "csv"), (b'"a, b",c', b"a\x1fb,c\x1f")),
    "progress": Target(
        progress,
        ("jepascore_core.store.progress", "jepascore_core.files"),
        (b'{"state": "running", "done": 1, "failed": 0, "planned": 3, "heartbeat": 1.5, "stages": {}}',),
    ),
    "run.json": Target(run_json, ("jepascore_core.store", "jepascore_core.naming"), (_TINY_RUN,), 0.5),
    "tag": Target(tag, ("jepascore_core.store.tag_files",), (b'{"name": "a", "created": "", "keys": ["b"]}',)),
    "results": Target(
        results,
        ("jepascore_core.importing",),
        (
            b"\x02key,score,class\na,1.5,x\nb,-2,y\n", b"\x02path;sigma\na;1.0 0.5\nb;[2, 1]\n",
            b'\x04{"key": "a", "score": 1.5}\n{"key": "b", "singular_values": [1, 2]}\n',
            b'\x06[{"id": 3, "score": 1}]',
            b"\x00\x93NUMPY\x01\x00\x3a\x00{'descr': '<f8', 'fortran_order': False, 'shape': (2, 1)}\n" + bytes(16),
        ),
        0.3,
    ),
    "dataset id": Target(
        dataset_id,
        ("jepascore_core.corrupted_id", "jepascore_core.datasets", "jepascore_core.store.request"),
        (b"corrupted:blur:3:folder:/a/b", b"hf:a/b:test", b"parquet:~/x.parquet", b"C:\\a\\b"),
        0.3,
    ),
    "encoder id": Target(
        encoder_id,
        ("jepascore_core.encoders.names",),
        (b"demo:jepa-tiny@layer2", b"file:/a@timm:vit_tiny_patch16_224@layer3", b"open_clip:ViT-B-32/openai"),
        0.3,
    ),
    "markdown": Target(
        markdown,
        ("pages.components.text", "jepascore_core.naming"),
        (b"a*b [c](javascript:d) :cat: $x$ http://e.f www.g.h i@j.kl /home/me/x", b":material/bug:", b"<a\nhref>"),
    ),
    "keys": Target(
        keys,
        ("jepascore_core.datasets.keys", "jepascore_core.store.key_lines", "jepascore_core.packs.names"),
        (b"a/b\\x0a\tc\n", b"CON.txt", b"..\xff"),
    ),
    "schema": Target(
        schema,
        ("jepascore_core.datasets.columns", "jepascore_core.datasets.idx"),
        (
            b'{"info": {"features": {"label": {"_type": "ClassLabel", "names": ["a"]}, "img": {"_type": "Image"}}}}',
            b"\0\0\x08\x03\0\0\0\x01\0\0\0\x02\0\0\0\x02abcd",
        ),
    ),
    "job": Target(
        job,
        ("jepascore_core.jobs.job_file",),
        (b'{"kind": "score", "argv": ["a"], "state": "done", "request": {"a": 1}, "eta_s": 2.5, "pid": 99999999}',),
    ),
}  # fmt: skip


def campaign(trials: int = 20_000, seed: int = 0, work: Path = Path("chaos")) -> list[Outcome]:
    """Fuzz every target.

    Args:
        trials: Runs of each, or the share of them that it takes; at most two minutes each.
        seed: Of libFuzzer.
        work: An empty folder; inputs that did harm are kept there.

    Returns:
        An outcome for each target.
    """
    return list(_outcomes(trials, seed, work))


def _outcomes(trials: int, seed: int, work: Path) -> Iterator[Outcome]:
    for name, target in TARGETS.items():
        folder = work / name.replace(" ", "-")
        (folder / "corpus").mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(target.seeds):
            (folder / "corpus" / str(number)).write_bytes(data)
        begun, runs = time.monotonic(), max(1, round(trials * target.share))
        command = [sys.executable, "-m", "tests.chaos.fuzz", name, str(runs), str(seed), str(folder)]
        environment = os.environ | {"JEPASCORE_FUZZ": str(folder / "files"), "JEPASCORE_HOME": str(folder / "home")}
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=2 * _EACH_S, env=environment
            )  # fmt: skip
            said, ok = done.stdout + done.stderr, done.returncode == 0
        except subprocess.TimeoutExpired:
            said, ok = "It hung.", False
        words = f"{runs:,} runs, {_number_of(said)}" if ok else _failure(said)
        yield Outcome(CAMPAIGN, f"fuzz, {name}", ok, words, round(time.monotonic() - begun, 1), _peak_mb(said))


def _number_of(said: str) -> str:
    """How much was covered."""
    lines = [line.split() for line in said.splitlines() if " cov: " in line]
    return f"{lines[-1][lines[-1].index('cov:') + 1]} edges covered" if lines else "not guided by coverage"


def _peak_mb(said: str) -> float | None:
    found = [line for line in said.splitlines() if line.startswith("stat::peak_rss_mb:")]
    return float(found[-1].split()[-1]) if found else None


def _failure(said: str) -> str:
    """What went wrong, from what the process printed."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    telling = [
        line for line in lines if "Error" in line or "ALARM" in line or "out-of-memory" in line or "Test unit" in line
    ]
    return " | ".join(telling[:3] + telling[-1:])[:600] or " | ".join(lines[-3:])


def fuzz(name: str, runs: int, seed: int, folder: Path) -> None:
    """Fuzz one target in this process; libFuzzer ends it, with a code that is not 0 where a promise was broken."""
    target = TARGETS[name]
    os.environ.setdefault("JEPASCORE_FUZZ", str(folder / "files"))
    if importlib.util.find_spec("atheris") is None:
        _unguided(target, runs, seed)
        return
    import atheris

    with atheris.instrument_imports(include=list(target.modules), enable_loader_override=False):
        for module in target.modules:
            importlib.import_module(module)
        target.check(b"{}")
    limits = [
        f"-timeout={_HANG_S}",
        f"-rss_limit_mb={_MEMORY_MB}",
        f"-max_total_time={_EACH_S}",
        f"-max_len={_LONGEST}",
    ]
    told = [f"-runs={runs}", f"-seed={seed + 1}", "-print_final_stats=1", f"-artifact_prefix={folder}/"]
    atheris.Setup([sys.argv[0], *limits, *told, str(folder / "corpus")], target.check)
    atheris.Fuzz()


def _unguided(target: Target, runs: int, seed: int) -> None:
    """Mutate the seeds again and again, without guidance."""
    from tests.chaos.mutations import MUTATIONS

    draw = random.Random(seed)
    for _ in range(runs):
        data = draw.choice(target.seeds)
        for _ in range(draw.choice((1, 2, 5))):
            data = MUTATIONS[draw.choice(list(MUTATIONS))](data, draw)[:_LONGEST] or b"{"
        target.check(data)


def main() -> None:
    """Fuzz one target, or all of them."""
    if len(sys.argv) == 5:
        fuzz(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
        return
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    for outcome in _outcomes(runs, seed, Path(tempfile.mkdtemp(prefix="fuzz-"))):
        print(
            f"{'ok' if outcome.ok else 'FAILED':7} {outcome.trial:18} {outcome.seconds:6.1f} s  {outcome.words}",
            flush=True,
        )


if __name__ == "__main__":
    main()
