"""Run folders: where they lie, what they are, and how far they are. None of this raises on a damaged folder."""

import contextlib
import dataclasses
import os
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jepascore_core.allowed import check_path, data_roots, may_reach
from jepascore_core.errors import RunError
from jepascore_core.files import expanded, read_json, remembered
from jepascore_core.store import parts
from jepascore_core.store.progress import FILE_NAME as PROGRESS_FILE
from jepascore_core.store.progress import Progress, read_progress
from jepascore_core.store.request import RunRequest, short_name
from jepascore_core.store.run_json import stored, what_is_missing

FILE_NAME = "run.json"
_BIRTH_S = 10.0


@dataclass(frozen=True, slots=True)
class Run:
    """One encoder over one dataset: a folder.

    Attributes:
        path: The folder.
        meta: What ``run.json`` holds; empty when that cannot be read.
        problem: Why the run cannot be shown, in one sentence, or None.
        warning: What is damaged while the rest can be shown, in one sentence, or None.
    """

    path: Path
    meta: dict[str, Any] = field(default_factory=dict, hash=False, compare=False)
    problem: str | None = None
    warning: str | None = None

    @property
    def name(self) -> str:
        """The folder's name, which is the run's id."""
        return self.path.name

    @property
    def label(self) -> str:
        """Short name for people, such as ``jepa-tiny · photos``."""
        if not self.meta:
            return self.name
        return f"{self.meta['encoder']['name']} · {short_name(self.meta['dataset']['id'])}"

    @property
    def planned(self) -> int:
        """Images in the run."""
        return int(self.meta.get("planned", 0))

    def check(self) -> None:
        """Refuse a run that cannot be shown.

        Raises:
            RunError: It has a problem.
        """
        if self.problem:
            raise RunError(f"{self.name} cannot be shown: {self.problem}")

    def request(self) -> RunRequest:
        """What was asked for, so that it can be asked again, which resumes the run.

        Returns:
            The request, on whatever device there is.

        Raises:
            RunError: ``run.json`` does not say.
        """
        if not isinstance(self.meta.get("request"), dict):
            raise RunError(f"{FILE_NAME} of {self.name} does not say what was asked for.")
        return RunRequest.from_json(self.meta["request"]).on_one_machine()  # a folder from elsewhere names no cluster

    def progress(self) -> Progress:
        """How far the run is; never raises.

        Returns:
            What its process wrote; or, where that is damaged, absent or out of date, what the parts tell.
        """
        try:
            progress = read_progress(self.path)
        except FileNotFoundError:
            progress = Progress("queued" if is_newborn(self.path) else "interrupted", planned=self.planned)
        except ValueError:
            progress = Progress("interrupted", planned=self.planned)
        if progress.active:
            return progress
        done, failed = parts.count_rows(self.path)  # after a kill, progress.json may count rows that were lost
        state = progress.state
        if state == "interrupted" and self.planned and done + failed >= self.planned:
            state = "done"
        return dataclasses.replace(
            progress,
            state=state,
            done=done,
            failed=failed,
            planned=self.planned or progress.planned,
            message=progress.message or self.warning or "",
        )


def runs_home(runs_dir: str | Path | None = None) -> Path:
    """Folder that holds the runs; made when absent.

    Args:
        runs_dir: The folder; None takes ``$JEPASCORE_HOME/runs``, else ``~/.jepascore/runs``.

    Returns:
        Its absolute path.

    Raises:
        RunError: It cannot be made.
    """
    if runs_dir is None:
        runs_dir = Path(os.environ.get("JEPASCORE_HOME") or "~/.jepascore") / "runs"
    folder = expanded(runs_dir).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"Cannot make the runs folder {folder} ({error.strerror}); choose another.") from error
    return folder


def list_runs(runs_dir: str | Path | None = None) -> list[Run]:
    """Every run of a folder, newest first; a damaged one is listed with its ``problem``.

    Args:
        runs_dir: As ``runs_home`` takes it.

    Returns:
        The runs.

    Raises:
        RunError: The runs folder cannot be made or read.
    """
    home = runs_home(runs_dir)
    try:
        folders = [Path(entry.path) for entry in os.scandir(home) if not entry.name.startswith(".") and entry.is_dir()]
    except OSError as error:
        raise RunError(f"Cannot read the runs folder {home} ({error.strerror}).") from error
    runs = [read_run(folder) for folder in folders if _is_run(folder)]
    return sorted(runs, key=lambda run: (_created(run), run.name), reverse=True)


def open_run(path_or_name: str | Path, runs_dir: str | Path | None = None) -> Run:
    """Open one run.

    Args:
        path_or_name: Its folder, or its name within the runs folder.
        runs_dir: As ``runs_home`` takes it.

    Returns:
        The run; look at ``problem`` before counting on its ``meta``.

    Raises:
        RunError: There is no such run, or it lies neither in the runs folder nor where we may read.
    """
    path = expanded(path_or_name)
    candidates = [path] if path.is_absolute() else [runs_home(runs_dir) / path, path.absolute()]
    for folder in candidates:
        if not _may_open(folder, runs_dir):
            continue
        with contextlib.suppress(OSError, ValueError):  # names that no file system takes
            if folder.is_dir() and _is_run(folder):
                return read_run(folder)
    if len(path.parts) > 1 and not _may_open(candidates[-1], runs_dir):
        check_path(candidates[-1], RunError)
    raise RunError(f"There is no run {path.name!r} in {candidates[0].parent}.")


def named_run(name: str) -> Run:
    """Open a run of the usual runs folder by its name, which may come from an address or a file: no path leads out.

    Args:
        name: As ``Run.name`` gives it.

    Returns:
        The run.

    Raises:
        RunError: There is no such run.
    """
    home = runs_home()
    with contextlib.suppress(OSError, ValueError):
        if name and name[0] != "." and Path(name).name == name and _is_run(home / name):
            return read_run(home / name)
    raise RunError("There is no such run in the runs folder; it may have been moved or removed.")


def earlier_states(home: Path, meta: dict[str, Any]) -> list[str]:
    """Runs of the same request whose dataset had other images: the folder or file has changed since.

    Args:
        home: Where runs lie.
        meta: What ``run.json`` of the new run will hold.

    Returns:
        Their names, newest first.
    """
    return [run.name for run in list_runs(home) if run.problem is None and _is_earlier(run.meta, meta)]


def _is_earlier(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Whether two runs differ in nothing but the state of their dataset."""
    same = ("sample", "precision", "tolerance", "views")
    asked = old.get("request")
    return (
        isinstance(asked, dict)
        and asked.get("dataset_id") == new["request"]["dataset_id"]
        and old["dataset"].get("fingerprint") != new["dataset"]["fingerprint"]
        and all(old["encoder"].get(name) == new["encoder"].get(name) for name in ("id", "digest", "input_size"))
        and all(old.get(name) == new.get(name) for name in same)
    )


def about_dataset(meta: dict[str, Any]) -> str:
    """What a person should know of the dataset of a run, in one sentence.

    Args:
        meta: What ``run.json`` holds.

    Returns:
        Which run is of an earlier state of it, or "".
    """
    earlier = meta["dataset"].get("earlier") if meta else None
    if not isinstance(earlier, list) or not earlier:
        return ""
    return f"The dataset has changed since {earlier[0]}, whose rows are of its earlier state; this is a new run."


def read_run(folder: Path) -> Run:
    """Read a run's folder, whatever state it is in.

    Args:
        folder: The folder.

    Returns:
        The run, with its problem and its warning.
    """
    try:
        known, problem = remembered(folder / FILE_NAME, _described)
    except FileNotFoundError:
        return Run(folder, problem=f"{FILE_NAME} is missing.")
    except ValueError as error:
        return Run(folder, problem=str(error))
    # whoever changes a section of it changes no one else's
    meta = {name: dict(value) if isinstance(value, dict) else value for name, value in known.items()}
    return Run(folder, meta, problem, None if problem else _warning(folder) or rewritten(meta))


def _described(path: Path) -> tuple[dict[str, Any], str | None]:
    """What a ``run.json`` says, and why it is not enough.

    Raises:
        ValueError: It cannot be read.
    """
    read = read_json(path)
    meta = {name: value if name == "request" else stored(value) for name, value in read.items()}  # it names files
    missing = what_is_missing(meta)
    if missing:
        return {}, f"{FILE_NAME} does not say {missing}."
    if meta.get("format_version") != parts.FORMAT_VERSION:
        version = str(meta.get("format_version"))[:20]
        return meta, f"{FILE_NAME} has format {version}, and this version reads {parts.FORMAT_VERSION}."
    return meta, None


def _may_open(folder: Path, runs_dir: str | Path | None) -> bool:
    """Whether a folder may be opened as a run: it lies in a folder of runs, or where files may be named."""
    if data_roots() is None:
        return True
    homes = {runs_home(None), runs_home(runs_dir)}
    return Path(os.path.normpath(folder)).parent in homes or may_reach(folder)


def _is_run(folder: Path) -> bool:
    """Whether a folder looks like a run, be it damaged."""
    found = any((folder / name).exists() for name in (FILE_NAME, PROGRESS_FILE))
    return found or bool(parts.part_files(folder))


def _warning(folder: Path) -> str | None:
    """What is damaged in a run that can be shown."""
    damaged = parts.damaged_parts(folder)
    if damaged:
        name, problem = next(iter(damaged.items()))
        others = f" (and {len(damaged) - 1} more)" if len(damaged) > 1 else ""
        return f"{name}{others} {problem}; its images are left out until they are scored again."
    try:
        read_progress(folder)
    except ValueError as error:
        return str(error)
    except FileNotFoundError:
        return None if is_newborn(folder) else f"{PROGRESS_FILE} is missing."
    return None


def rewritten(meta: dict[str, Any]) -> str | None:
    """What a person should know of a run that read images which were written anew meanwhile.

    Args:
        meta: What ``run.json`` holds.

    Returns:
        One sentence, or None where all rows are of one state of the dataset.
    """
    count = meta["dataset"].get("rewritten")
    if type(count) is not int or count < 1:
        return None
    files = "1 image was" if count == 1 else f"{count:,} images were"
    return f"{files} written anew while the run read them, so that its rows may be of different states of the dataset."


def is_newborn(folder: Path) -> bool:
    """Whether run.json is so new that its process may be about to write progress.json, and there are no parts."""
    try:
        age_s = time.time() - (folder / FILE_NAME).stat().st_mtime
    except OSError:
        return False
    return abs(age_s) < _BIRTH_S and not parts.part_files(folder)


def _created(run: Run) -> float:
    """When a run was made, seconds since 1970; that of its folder when it does not say."""
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        moment = datetime.fromisoformat(run.meta["created"] if run.meta else "")
        return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
    try:
        return run.path.stat().st_mtime
    except OSError:
        return 0.0
