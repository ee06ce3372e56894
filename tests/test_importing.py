"""Results of others become runs: every format, every refusal, and nothing half-written."""

import io
import json
import math
import os
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

from jepascore_core import importing, naming, store
from jepascore_core.errors import ImportedFileError, RunError
from jepascore_core.importing import ImportRequest, import_file
from jepascore_core.importing import arrays as arrays_module
from jepascore_core.importing import table as table_module
from jepascore_core.score import jepa_score
from jepascore_core.store import Run, ScoreRule

N, D = 12, 6
SIGMA = np.exp(np.random.default_rng(0).normal(size=(N, D)))  # unsorted
KEYS = [f"images/{place}.png" for place in range(N)]
CLASSES = ["cat" if place % 3 else "dog" for place in range(N)]
EXPECTED = np.log(SIGMA).sum(1)


def bring(path: Path, encoder: str = "theirs", dataset: str = "birds", **options: Any) -> Run:
    run, _ = import_file(ImportRequest(path, encoder, dataset, **options))
    return run


def rows_of(run: Run) -> pd.DataFrame:
    columns = ["index", "key", "label", "class_name", "jepa_score", "singular_values", "embedding", "error"]
    batches = list(store.exports.stream(run, columns))
    return pa.Table.from_batches(batches).to_pandas().set_index("key")


def write_npy(path: Path) -> None:
    np.save(path, SIGMA)


def write_npy_in_columns(path: Path) -> None:
    np.save(path, np.asfortranarray(SIGMA.astype(">f8")))


def write_npz_of_images(path: Path) -> None:
    np.savez(path, **dict(zip(KEYS, SIGMA, strict=True)))


def write_npz_table(path: Path) -> None:
    np.savez_compressed(path, J=SIGMA.astype(np.float32), Keys=np.array(KEYS), labels=np.arange(N) % 11, features=SIGMA)


def write_csv(path: Path) -> None:
    frame = pd.DataFrame({"Path": KEYS, "SVDVALS": [json.dumps(list(row)) for row in SIGMA], "Class": CLASSES})
    frame.to_csv(path, index=False)


def write_tsv_of_scores(path: Path) -> None:
    frame = pd.DataFrame({"file": KEYS, "Score": EXPECTED, "target": CLASSES, "epoch": 3})
    frame.to_csv(path, index=False, sep="\t", encoding="utf-8-sig")


def write_json_lines(path: Path) -> None:
    lines = [json.dumps({"id": key, "sigma": list(row)}) for key, row in zip(KEYS, SIGMA, strict=True)]
    path.write_text("\n\n".join(lines), encoding="utf-8")


def write_json_array(path: Path) -> None:
    rows = [{"image": key, "jepa_score": float(score)} for key, score in zip(KEYS, EXPECTED, strict=True)]
    path.write_text(json.dumps(rows, indent=1), encoding="utf-8")


def write_parquet(path: Path) -> None:
    pd.DataFrame({"key": KEYS, "singular_values": list(SIGMA), "embeddings": list(SIGMA)}).to_parquet(path)


def write_parquet_of_scores(path: Path) -> None:
    pictures = [{"bytes": b"no picture"} for _ in KEYS]  # "image" has the name of a key, and cannot be one
    pd.DataFrame({"image": pictures, "path": KEYS, "score": EXPECTED}).to_parquet(path)


FORMATS: dict[str, Callable[[Path], None]] = {
    "a.npy": write_npy,
    "b.npy": write_npy_in_columns,
    "a.npz": write_npz_of_images,
    "b.npz": write_npz_table,
    "a.csv": write_csv,
    "b.tsv": write_tsv_of_scores,
    "a.jsonl": write_json_lines,
    "a.json": write_json_array,
    "a.parquet": write_parquet,
    "b.PARQUET": write_parquet_of_scores,
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_scores(name: str, tmp_path: Path) -> None:
    FORMATS[name](tmp_path / name)
    run = bring(tmp_path / name)
    assert run.problem is None and run.warning is None
    progress = run.progress()
    assert (progress.state, progress.done, progress.failed, run.planned) == ("done", N, 0, N)
    rows = rows_of(run)
    assert list(rows.index) == (KEYS if not name.endswith(".npy") else [f"row {place:02d}" for place in range(N)])
    np.testing.assert_allclose(rows["jepa_score"], EXPECTED, rtol=1e-6)
    told = run.meta["imported"]
    assert (
        re.fullmatch(r"\d+\.\d+.*", told["version"]) and run.meta["versions"]["jepascore-explorer"] == told["version"]
    )
    assert told["file"] == name and told["bytes"] == (tmp_path / name).stat().st_size and len(told["sha256"]) == 64
    spectra = rows["singular_values"]
    if told["score"] == "spectra":
        np.testing.assert_allclose(np.stack(list(spectra)), -np.sort(-SIGMA, axis=1), rtol=1e-6)
        assert run.meta["encoder"]["embedding_dim"] == D
    else:
        assert spectra.isna().all()
    assert store.why_not(run, ScoreRule("listing1", 1e-2)) is None if told["score"] == "spectra" else True


def test_classes_are_in_natural_order(tmp_path: Path) -> None:
    write_npz_table(tmp_path / "a.npz")
    run = bring(tmp_path / "a.npz")
    assert run.meta["dataset"]["class_names"] == [str(place) for place in range(11)]
    rows = rows_of(run)
    assert rows["class_name"].tolist() == [str(place % 11) for place in range(N)]
    assert rows["label"].tolist() == [place % 11 for place in range(N)]


def test_eq_5_leaves_out_what_is_null_for_a_preset(tmp_path: Path) -> None:
    sigma = np.exp(np.random.default_rng(1).normal(size=(3, 384)))
    sigma[:, [5, 9]] = 1e-3
    np.save(tmp_path / "a.npy", sigma)
    dino = "timm:vit_small_patch14_dinov2.lvd142m"
    known, told = bring(tmp_path / "a.npy", dino), bring(tmp_path / "a.npy", dino, null_dim=0)
    assert known.name != told.name
    assert (known.meta["encoder"]["null_dim"], told.meta["encoder"]["null_dim"]) == (2, 0)
    assert known.meta["encoder"]["name"] == "DINOv2 ViT-S/14" and known.meta["encoder"]["input_size"] == [3, 224, 224]
    for run, null_dim in ((known, 2), (told, 0)):
        expected = jepa_score(torch.from_numpy(sigma), null_dim=null_dim)
        np.testing.assert_allclose(rows_of(run)["jepa_score"], expected)
    listing1 = store.scores(known, rule=ScoreRule("listing1"))["score"]
    np.testing.assert_allclose(listing1, jepa_score(torch.from_numpy(sigma)), rtol=1e-6)


def test_log_sigma_is_taken_when_asked_for_and_never_guessed(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.log(SIGMA))
    with pytest.raises(ImportedFileError, match="--log"):
        bring(tmp_path / "a.npy")
    np.testing.assert_allclose(rows_of(bring(tmp_path / "a.npy", log=True))["jepa_score"], EXPECTED)


def test_scores_of_the_other_direction_are_turned_and_the_run_says_so(tmp_path: Path) -> None:
    pd.DataFrame({"key": KEYS, "score": EXPECTED}).to_csv(tmp_path / "a.csv", index=False)
    plain, turned = bring(tmp_path / "a.csv"), bring(tmp_path / "a.csv", direction="out")
    assert plain.name != turned.name
    np.testing.assert_allclose(rows_of(turned)["jepa_score"], -rows_of(plain)["jepa_score"])
    assert turned.meta["imported"]["turned"] is True and plain.meta["imported"]["turned"] is False
    assert "sign turned" in naming.origin(turned)
    assert naming.rule_name(ScoreRule(), [turned]) == "imported with the sign turned"
    assert store.encoder_of(plain) != store.encoder_of(turned)  # they share no scale


def test_the_direction_has_no_effect_on_spectra(tmp_path: Path) -> None:
    write_npy(tmp_path / "a.npy")
    first = bring(tmp_path / "a.npy", direction="out")
    assert first.meta["imported"]["turned"] is False
    assert bring(tmp_path / "a.npy").name == first.name


def test_conventions_that_need_a_spectrum_are_not_offered_for_scores(tmp_path: Path) -> None:
    write_parquet_of_scores(tmp_path / "a.parquet")
    run = bring(tmp_path / "a.parquet")
    assert store.why_not(run, ScoreRule()) is None
    for rule in (ScoreRule("listing1"), ScoreRule("sphere"), ScoreRule("corrected"), ScoreRule("raw", 1e-2)):
        assert "imported as scores" in str(store.why_not(run, rule))
        with pytest.raises(RunError, match="imported as scores"):
            store.scores(run, rule=rule)


def test_the_same_file_under_the_same_names_is_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_csv(tmp_path / "a.csv")
    first = bring(tmp_path / "a.csv")
    parts = sorted(first.path.glob("part-*"))
    (tmp_path / "a.csv").rename(tmp_path / "b.csv")
    monkeypatch.setattr(importing, "look", None)  # not even read again
    second, results = import_file(ImportRequest(tmp_path / "b.csv", "theirs", "birds"))
    assert results is None and second.name == first.name and sorted(second.path.glob("part-*")) == parts


def test_a_run_that_was_damaged_is_made_whole_by_importing_again(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv")
    run = bring(tmp_path / "a.csv")
    expected = rows_of(run)
    for part in run.path.glob("part-*"):
        part.write_bytes(part.read_bytes()[:100])
    healed = bring(tmp_path / "a.csv")
    assert healed.name == run.name and healed.warning is None
    pd.testing.assert_frame_equal(rows_of(healed), expected)


def test_many_rows_make_several_parts(tmp_path: Path) -> None:
    frame = pd.DataFrame({"key": [f"{place}" for place in range(9000)], "score": np.arange(9000.0)})
    frame.to_csv(tmp_path / "a.csv", index=False)
    run = bring(tmp_path / "a.csv")
    assert len(list(run.path.glob("part-*"))) == 3 and run.progress().done == 9000
    assert rows_of(run)["jepa_score"].tolist() == list(range(9000))


BAD_ROWS = {
    "nan": ([np.nan, *SIGMA[0, 1:]], "not all finite"),
    "inf": ([np.inf, *SIGMA[0, 1:]], "not all finite"),
    "beyond float32": ([1e39, *SIGMA[0, 1:]], "not all finite"),
    "negative": ([-0.1, *SIGMA[0, 1:]], "negative"),
    "zero": ([0.0] * D, "zero"),
    "short": (SIGMA[0, 1:].tolist(), "5 singular values where the others have 6"),
    "long": ([*SIGMA[0], 1.0], "7 singular values where the others have 6"),
    "empty": ([], "gives it no singular values"),
    "absent": (None, "gives it no singular values"),
    "words": (["a", 1.0], "not a list of numbers"),
    "nested": ([[1.0]], "not a list of numbers"),
    "one number": (1.0, "not a list of numbers"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_bad_row_is_kept_with_the_reason(name: str, tmp_path: Path) -> None:
    bad, reason = BAD_ROWS[name]
    rows = [{"key": key, "svdvals": list(row)} for key, row in zip(KEYS, SIGMA, strict=True)]
    rows[4]["svdvals"] = bad
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    run = bring(tmp_path / "a.jsonl")
    failed = store.failures(run)
    assert failed["key"].tolist() == [KEYS[4]] and reason in failed["error"].iloc[0]
    assert (run.progress().done, run.progress().failed) == (N - 1, 1)
    row = rows_of(run).loc[KEYS[4]]
    assert np.isnan(row["jepa_score"]) and row["singular_values"] is None


@pytest.mark.parametrize(
    ("cell", "reason"), [("", "no score"), ("NaN", "no score"), ("inf", "infinite"), ("1,5", "'1,5' is not a number")]
)
def test_a_bad_score_is_kept_with_the_reason(cell: str, reason: str, tmp_path: Path) -> None:
    cells = [*map(str, EXPECTED)]
    cells[3] = cell
    pd.DataFrame({"key": KEYS, "score": cells}).to_csv(tmp_path / "a.csv", index=False)
    failed = store.failures(bring(tmp_path / "a.csv"))
    assert failed["key"].tolist() == [KEYS[3]] and reason in failed["error"].iloc[0]


def test_zeros_beside_other_singular_values_are_clipped(tmp_path: Path) -> None:
    sigma = SIGMA.copy()
    sigma[0, 0] = 0
    np.save(tmp_path / "a.npy", sigma)
    assert rows_of(bring(tmp_path / "a.npy"))["jepa_score"].iloc[0] == pytest.approx(
        np.log(SIGMA[0, 1:]).sum() + math.log(1e-6)
    )


def test_mixed_lengths_in_an_archive(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **dict(zip(KEYS, SIGMA, strict=True)), odd=np.ones(D + 1), note=np.array("words"))
    run = bring(tmp_path / "a.npz")
    assert store.failures(run)["key"].tolist() == ["odd"] and run.meta["imported"]["ignored"] == ["note"]


def npz_with(name: str, content: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, content)

    return write


def npy_bytes(array: np.ndarray, *, allow_pickle: bool = False) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=allow_pickle)
    return out.getvalue()


def header(shape: object, descr: str = "<f8") -> bytes:
    text = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode()
    text += b" " * (64 - (len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


class Bomb:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (os.environ["JEPASCORE_HOME"] + "-owned",)


def pickled() -> bytes:
    return npy_bytes(np.array([Bomb()], dtype=object), allow_pickle=True)


def lines(*rows: object) -> bytes:
    return "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows).encode()


def parquet_bytes(columns: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


REFUSED: dict[str, tuple[str, Callable[[], bytes] | bytes, str]] = {
    "pickle in npy": ("a.npy", pickled, "pickle"),
    "pickle by another name": ("a.npy", lambda: pickle.dumps([1]), "pickle"),
    "structured": ("a.npy", lambda: npy_bytes(np.zeros(3, [("a", "f8")])), "not real numbers"),
    "complex": ("a.npy", lambda: npy_bytes(np.zeros((3, 2), complex)), "not real numbers"),
    "text array": ("a.npy", lambda: npy_bytes(np.array([["a"]])), "spectra are numbers"),
    "three axes": ("a.npy", lambda: npy_bytes(np.ones((2, 2, 2))), "shape"),
    "no rows": ("a.npy", lambda: npy_bytes(np.ones((0, 4))), "no rows"),
    "no columns": ("a.npy", lambda: npy_bytes(np.ones((4, 0))), "no singular values"),
    "claims 8 exabytes": ("a.npy", header((10**9, 10**9)), "truncated"),
    "claims beyond integers": ("a.npy", header((10**30, 10**30)), "truncated"),
    "claims negative": ("a.npy", header((-1, 4)), "NumPy's format"),
    "header is code": ("a.npy", header("__import__('os')"), "NumPy's format"),
    "truncated npy": ("a.npy", lambda: npy_bytes(SIGMA)[:-9], "truncated"),
    "csv named npy": ("a.npy", b"key,score\na,1\n", "not a .npy file"),
    "parquet named csv": ("a.csv", lambda: parquet_bytes({"score": [1.0]}), "is Parquet"),
    "all nan": ("a.npy", lambda: npy_bytes(np.full((4, 3), np.nan)), "None of the 4 rows"),
    "all zero": ("a.npy", lambda: npy_bytes(np.zeros((4, 3))), "All its singular values are zero"),
    "truncated npz": ("a.npz", lambda: archive_bytes(a=SIGMA)[:-30], "damaged"),
    "flipped npz": ("a.npz", lambda: flipped(archive_bytes(a=SIGMA)), "damaged|truncated"),
    "empty npz": ("a.npz", lambda: archive_bytes(), "damaged|no arrays"),
    "two spectra": ("a.npz", lambda: archive_bytes(a=SIGMA, b=SIGMA), "name the right one svdvals"),
    "lengths differ": ("a.npz", lambda: archive_bytes(svdvals=SIGMA, labels=np.arange(3)), "not of one length"),
    "no spectra in npz": ("a.npz", lambda: archive_bytes(note=np.array("words")), "no spectra"),
    "duplicate keys": ("a.csv", b"key,score\na,1\nb,2\na,3\n", "Rows 1 and 3 of a.csv have one key, 'a'"),
    "several runs": ("a.csv", b"run,key,score\nx,a,1\ny,a,2\n", "several runs"),
    "two columns of one name": ("a.csv", b"key,score,Score\na,1,2\n", "two columns"),
    "two scores": ("a.csv", b"key,score,jepa_score\na,1,2\n", "--score-column"),
    "unknown score": ("a.csv", b"key,loss\na,1\n", "'key', 'loss': say which with --score-column"),
    "ragged": ("a.csv", b"key,score\na,1\nb,2,3,4\n", "Line 3 of a.csv has 4 cells, and the header 2"),
    "one cell too many everywhere": ("a.csv", b"key,score\na,1,2\nb,2,3\n", "Line 2 of a.csv has 3 cells"),
    "open quote": ("a.csv", b'key,score\n"a,1\nb,2\n', "not a CSV file as it stands"),
    "old Macintosh": ("a.csv", b"key,score\ra,1\rb,2\r", "not a CSV file as it stands"),
    "scores in a column": ("a.npz", lambda: archive_bytes(scores=np.ones((5, 1))), "has the shape"),
    "no header": ("a.csv", b",,\n1,2,3\n", "header"),
    "header only": ("a.csv", b"key,score\n", "no rows"),
    "latin-1": ("a.csv", "key,score\nMüller,1\n".encode("latin-1"), "UTF-8"),
    "utf-16": ("a.csv", "key,score\na,1\n".encode("utf-16"), "UTF-8"),
    "null bytes": ("a.csv", b"key,score\na\0,1\n", "null bytes"),
    "enormous line": ("a.csv", b"key,score\n" + b"a" * (9 << 20) + b",1\n", "Line 2 of a.csv is longer than 8 MiB"),
    "enormous key": ("a.csv", b"key,score\n" + b"a" * 2000 + b",1\n", "2,000 letters"),
    "blank": ("a.csv", b"\n\n\n", "header|no rows|empty"),
    "no scores at all": ("a.csv", b"key,score\na,x\nb,y\n", "None of the 2 rows"),
    "bad line": ("a.jsonl", lines({"key": "a", "score": 1}, '{"key": "b", "sco', {"key": "c"}), "Line 2 of a.jsonl"),
    "not an object": ("a.jsonl", lines({"key": "a", "score": 1}, "", 7), "Line 3 of a.jsonl is not a JSON object"),
    "deep": ("a.jsonl", lines({"key": "a", "score": 1}, "[" * 200_000), "Line 2"),
    "truncated array": ("a.json", b'[{"key": "a", "score": 1},', "truncated"),
    "array of numbers": ("a.json", b"[1, 2]", "Entry 1"),
    "truncated parquet": ("a.parquet", lambda: parquet_bytes({"score": [1.0]})[:-9], "damaged"),
    "scores in lists": ("a.parquet", lambda: parquet_bytes({"score": [[1.0]]}), "expected one value"),
    "spectra that are numbers": ("a.parquet", lambda: parquet_bytes({"sigma": [1.0]}), "expected a list"),
    "unknown ending": ("a.xlsx", b"anything", "must end in .npy"),
    "no ending": ("scores", b"key,score\na,1\n", "must end in"),
    "empty npy": ("a.npy", b"", "empty"),
    "empty csv": ("a.csv", b"", "empty"),
    "empty lines": ("a.jsonl", b"", "empty"),
    "empty parquet": ("a.parquet", b"", "empty"),
}  # fmt: skip


def archive_bytes(**entries: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.savez_compressed(out, **entries)
    return out.getvalue()


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :]


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_imported_is_refused_in_one_sentence(name: str, tmp_path: Path) -> None:
    file, content, reason = REFUSED[name]
    (tmp_path / file).write_bytes(content if isinstance(content, bytes) else content())
    with pytest.raises(ImportedFileError, match=reason) as refusal:
        bring(tmp_path / file)
    assert "\n" not in str(refusal.value) and str(refusal.value).endswith(".") and len(str(refusal.value)) < 400
    nothing_was_written()


def nothing_was_written() -> None:
    home = store.runs_home()
    assert list(home.iterdir()) == []
    assert not Path(f"{home.parent}-owned").exists()  # what a pickle would have made


def test_a_pickle_within_an_archive_is_never_loaded(tmp_path: Path) -> None:
    for name in ("key.npy", "svdvals.npy", "labels.npy"):
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            archive.writestr("good.npy", npy_bytes(SIGMA))
            archive.writestr(name, pickled())
        with pytest.raises(ImportedFileError, match="pickle"):
            bring(tmp_path / "a.npz")
    nothing_was_written()


def test_an_archive_that_unpacks_to_too_much_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays_module, "_USUAL_BYTES", 1 << 20)
    monkeypatch.setattr(arrays_module.npy, "read_array", None)
    np.savez_compressed(tmp_path / "a.npz", svdvals=np.zeros((1 << 12, 1 << 8)))
    with pytest.raises(ImportedFileError, match="unpacks to more than"):
        bring(tmp_path / "a.npz")
    nothing_was_written()


@pytest.mark.parametrize("shape", [(10**12,), (10**12, 4), (10**30,)])
def test_an_archives_claimed_shape_is_checked_before_reading(shape: tuple[int, ...], tmp_path: Path) -> None:
    npz_with("a.npy", header(shape) + b"\0" * 800)(tmp_path / "a.npz")
    with pytest.raises(ImportedFileError, match="truncated or damaged"):
        bring(tmp_path / "a.npz")


def test_lists_and_rows_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_json_lines(tmp_path / "a.jsonl")
    monkeypatch.setattr(table_module, "MOST_VALUES", N * D - 1)
    with pytest.raises(ImportedFileError, match=r"more than 71 numbers; use \.npy"):
        bring(tmp_path / "a.jsonl")
    monkeypatch.setattr(table_module, "LONGEST_LIST", D - 1)
    with pytest.raises(ImportedFileError, match="a list of 6 numbers"):
        bring(tmp_path / "a.jsonl")
    monkeypatch.setattr(table_module, "MOST_ROWS", N - 1)
    with pytest.raises(ImportedFileError, match="more than 11 rows"):
        bring(tmp_path / "a.jsonl")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"encoder": " "}, "Name the encoder"),
        ({"dataset": "two\nlines"}, "Name the dataset"),
        ({"dataset": "x" * 300}, "Name the dataset"),
        ({"direction": "up"}, "in or out"),
        ({"null_dim": -1}, "at least 0"),
        ({"null_dim": D}, "leaves nothing"),
        ({"score_column": "x"}, "leave out --score-column"),
        ({"encoder": "demo:jepa-tiny"}, "D = 16; say with --null-dim"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], reason: str, tmp_path: Path) -> None:
    write_npy(tmp_path / "a.npy")
    with pytest.raises(ImportedFileError, match=reason):
        bring(tmp_path / "a.npy", **options)
    nothing_was_written()


def test_embeddings_and_spectra_are_of_one_size(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", svdvals=SIGMA, embedding=SIGMA[:, 1:])
    with pytest.raises(ImportedFileError, match="both are D"):
        bring(tmp_path / "a.npz")


def test_embeddings_give_the_corrected_score(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet")
    run = bring(tmp_path / "a.parquet")
    assert store.why_not(run, ScoreRule("corrected")) is None
    assert store.embeddings(run).shape == (N, D)


def test_a_column_of_errors_is_heard_only_where_there_is_no_score(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("key,score,error\na,1,0.5\nb,,the disk failed\n")
    run = bring(tmp_path / "a.csv")
    assert store.failures(run)["error"].tolist() == ["the disk failed"] and run.progress().done == 1


def test_spectra_that_are_all_absent_give_no_score(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"key": "a", "svdvals": null}\n{"key": "b", "svdvals": []}')
    with pytest.raises(ImportedFileError, match="None of the 2 rows"):
        bring(tmp_path / "a.jsonl")


def test_scores_in_an_archive_are_never_taken_for_a_spectrum(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", scores=EXPECTED, names=np.array(KEYS))
    run = bring(tmp_path / "a.npz")
    assert run.planned == N and store.is_given(run)


def test_cells_of_a_csv_may_be_short_quoted_or_separated_by_semicolons(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('key;score;\n"a;\n";1;\nb\n\nc;3\n')
    rows = rows_of(bring(tmp_path / "a.csv"))
    assert rows.index.tolist() == ["a;\n", "b", "c"] and rows["error"].tolist()[1] == "The file gives it no score."
    assert rows["jepa_score"].tolist()[::2] == [1, 3]


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")
    for name in ("folder.csv", "pipe.csv"):
        with pytest.raises(ImportedFileError, match="is not a file"):
            bring(tmp_path / name)
    with pytest.raises(ImportedFileError, match="No such file"):
        bring(tmp_path / "nothing.csv")


def test_the_score_column_can_be_named(tmp_path: Path) -> None:
    pd.DataFrame({"key": KEYS, "score": 0.0, "log p": EXPECTED}).to_csv(tmp_path / "a.csv", index=False)
    np.testing.assert_allclose(rows_of(bring(tmp_path / "a.csv", score_column="log p"))["jepa_score"], EXPECTED)
    with pytest.raises(ImportedFileError, match="no column 'x'; its columns are 'key', 'score', 'log p'"):
        bring(tmp_path / "a.csv", score_column="x")


def test_rows_without_a_key_are_kept(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("key,score\na,1\n ,2\n,3\n")
    failed = store.failures(bring(tmp_path / "a.csv"))
    assert failed["error"].tolist() == ["The file gives it no key."] * 2 and failed["key"].is_unique


def test_a_disk_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from jepascore_core.importing import writing

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    write_csv(tmp_path / "a.csv")
    monkeypatch.setattr(writing, "write_part", full)
    with pytest.raises(RunError, match="No space left"):
        bring(tmp_path / "a.csv")
    nothing_was_written()


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of ours with one image that has no score, and several views."""
    from jepascore_core.runner import score_dataset
    from jepascore_core.store.request import RunRequest

    folder = tmp_path_factory.mktemp("ours")
    request = RunRequest("demo:jepa-tiny", "demo:photos", limit=6, views=2, device="cpu")
    return score_dataset(request, runs_dir=folder)


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_our_own_exports_come_back_with_the_same_scores(ours: Run, ending: str, tmp_path: Path) -> None:
    store.export(ours, tmp_path / f"out{ending}")
    run = bring(tmp_path / f"out{ending}", "demo:jepa-tiny", "demo:photos")
    expected, found = rows_of(ours), rows_of(run)
    assert found.index.tolist() == expected.index.tolist()
    np.testing.assert_array_equal(found["jepa_score"], expected["jepa_score"])
    assert found["class_name"].tolist() == expected["class_name"].tolist()
    if ending == ".parquet":
        np.testing.assert_array_equal(np.stack(found["embedding"]), np.stack(expected["embedding"]))
        for rule in (ScoreRule("sphere"), ScoreRule("corrected"), ScoreRule("listing1", 1e-2)):
            assert store.why_not(run, rule) is None
            np.testing.assert_allclose(store.scores(run, rule=rule)["score"], store.scores(ours, rule=rule)["score"])


def test_text_that_our_csv_disarmed_is_armed_again(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("key,score\n=a,1\n'b,2\n")
    first = bring(tmp_path / "a.csv")
    store.export(first, tmp_path / "b.csv")
    assert "'=a" in (tmp_path / "b.csv").read_text()
    assert rows_of(bring(tmp_path / "b.csv")).index.tolist() == ["=a", "'b"]


def test_runs_of_one_dataset_name_compare_by_key(ours: Run, tmp_path: Path) -> None:
    table = rows_of(ours)
    shuffled = table.sample(frac=1, random_state=0).iloc[1:]
    pd.DataFrame({"key": shuffled.index, "score": -shuffled["jepa_score"]}).to_csv(tmp_path / "a.csv", index=False)
    theirs = bring(tmp_path / "a.csv", "theirs", "demo:photos", direction="out")
    other = bring(tmp_path / "a.csv", "theirs", "somewhere else")
    assert store.same_dataset([theirs, other, ours]) == [[theirs, ours], [other]]
    common = store.common_images([ours, theirs])
    assert len(common) == len(table) - 1
    np.testing.assert_allclose(common.scores(0), common.scores(1))
    with pytest.raises(RunError, match="different images"):
        store.common_images([ours, other])


def test_the_command(tmp_path: Path) -> None:
    from jepascore_core.__main__ import app

    write_tsv_of_scores(tmp_path / "a.tsv")
    arguments = ["import", str(tmp_path / "a.tsv"), "--encoder", "theirs", "--dataset", "birds", "--direction", "out"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    (run,) = store.list_runs()
    assert done.stdout.splitlines() == [run.name]
    assert "12 rows, 12 with a score" in done.stderr and "sign turned" in done.stderr and "'epoch'" in done.stderr
    again = CliRunner().invoke(app, [*arguments, "--json"])
    assert json.loads(again.stdout)["new"] is False and json.loads(again.stdout)["imported"]["turned"] is True
    shown = CliRunner().invoke(app, ["show", run.name])
    assert "Imported from a.tsv" in shown.stdout and "sign turned" in shown.stdout


def test_spectra_told_a_direction_say_that_it_has_no_effect(tmp_path: Path) -> None:
    from jepascore_core.__main__ import app

    write_npy(tmp_path / "a.npy")
    arguments = ["import", str(tmp_path / "a.npy"), "--encoder", "theirs", "--dataset", "birds", "--direction", "out"]
    for _ in range(2):
        assert "no effect on spectra" in CliRunner().invoke(app, arguments).stderr


@pytest.mark.parametrize("header", ["{'descr': '<f8', 'shape': ((((", "[" * 2000, "'" * 3])
def test_a_header_that_never_ends_is_refused(header: str, tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    text = header.encode() + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\0" + len(text).to_bytes(2, "little") + text + bytes(80))
    with pytest.raises(ImportedFileError, match="not an array in NumPy's format"):
        import_file(ImportRequest(path, "mine", "theirs"), tmp_path / "runs")
