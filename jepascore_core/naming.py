"""What runs, encoders and scores are called, on pages and on paper; and what of a name may leave this machine."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from jepascore_core.corrupted_id import take_apart
from jepascore_core.encoders.names import split_layer
from jepascore_core.store import Run, ScoreRule, is_given
from jepascore_core.store.request import short_name

_PATHS = ("folder", "parquet", "file")  # kinds of ids that are paths
_FOLDERS = re.compile(r"(?<![\w./\\-])(?:[A-Za-z]:|~)?[\\/](?:[^\s/\\]+[\\/])+")


def encoder_name(run: Run) -> str:
    """Short name of a run's encoder."""
    return str(run.meta["encoder"].get("name") or run.meta["encoder"]["id"])


def dataset_name(run: Run) -> str:
    """Last part of a run's dataset id."""
    return short_name(str(run.meta["dataset"]["id"]))


def is_variant(run: Run) -> bool:
    """Whether a run was made to test the score: its images are corrupted, or its encoder is cut off behind a layer."""
    dataset, encoder = str(run.meta["dataset"]["id"]), str(run.meta["encoder"]["id"])
    return take_apart(dataset) is not None or split_layer(encoder)[1] is not None


def distinct_names(runs: Sequence[Run]) -> dict[str, str]:
    """A name for each of some runs of one encoder: its dataset, and what tells it from others of that dataset.

    Args:
        runs: The runs.

    Returns:
        Name by the run's folder name.
    """
    names = {run.name: dataset_name(run) for run in runs}
    for more in (lambda run: f", {_views(run)} views" if _views(run) > 1 else "", lambda run: f" · {run.name[-10:]}"):
        taken = Counter(names.values())
        names |= {run.name: names[run.name] + more(run) for run in runs if taken[names[run.name]] > 1}
    return names


def encoder_phrase(run: Run) -> str:
    """Encoder, embedding size, input size and precision in one phrase."""
    encoder = run.meta["encoder"]
    untrained = "" if encoder.get("pretrained", True) else ", random weights"
    seen = f", {_views(run)} views" if _views(run) > 1 else ""
    size = [f"D = {encoder['embedding_dim']}"] if encoder["embedding_dim"] else []
    side = [input_side(run)] if encoder.get("input_size") or not is_imported(run) else []
    return f"{public_id(str(encoder['id']))} ({', '.join([*size, *side, precision(run)])}{untrained}{seen})"


def is_imported(run: Run) -> bool:
    """Whether a run's numbers were computed elsewhere and imported."""
    return isinstance(run.meta.get("imported"), dict)


def origin(run: Run) -> str:
    """Where an imported run comes from, in one sentence of plain text; "" for any other run."""
    if not is_imported(run):
        return ""
    told = run.meta["imported"]
    file = f"{told.get('file')} (SHA-256 {str(told.get('sha256'))[:12]}…)"
    if not is_given(run):
        how = "its singular values are scored here by eq. (5)"
    else:
        how = "its scores are shown as given" + (", with their sign turned" if told.get("turned") else "")
    return f"Imported from {file}; {how}."


def input_side(run: Run) -> str:
    """Side of the encoder's input, such as ``224 px``."""
    size = run.meta["encoder"].get("input_size")
    if not size and is_imported(run):
        return "input size unknown"
    return f"{size[-1]} px" if isinstance(size, list | tuple) and size else f"{size} px"


def precision(run: Run) -> str:
    """The arithmetic of a run: that it began with, and that its last image was scored in."""
    tried = run.meta.get("precisions") or [run.meta.get("precision", "float32")]
    return " to ".join(dict.fromkeys([str(tried[0]), str(tried[-1])]))


def rule_name(rule: ScoreRule, runs: Sequence[Run]) -> str:
    """How a convention is called in a caption of some runs."""
    given = [run for run in runs if is_given(run)]
    if given and rule == ScoreRule():
        computed = [run for run in runs if not is_given(run)]
        turned = " with the sign turned" if any(run.meta["imported"].get("turned") for run in given) else ""
        return f"{rule_name(rule, computed)}, or imported{turned}" if computed else f"imported{turned}"
    views = any(_views(run) > 1 for run in runs)
    if rule == ScoreRule():
        return "raw, eq. (4)" if views else "raw, eq. (5)"
    eps = f"{rule.eps:.0e}".replace("e-0", "e−")
    name = f"Listing 1, ε {eps}" if rule.convention == "listing1" else rule.convention
    return f"{name}, of the plain image" if views else name


def score_title(rule: ScoreRule) -> str:
    """How a score is called on an axis."""
    return f"{rule.convention.capitalize()} score" if rule.convention in ("sphere", "corrected") else "JEPA-SCORE"


def public_id(identifier: str) -> str:
    """An encoder or dataset id without the folders that lead to it.

    Args:
        identifier: Such as ``folder:/home/me/birds`` or ``demo:photos``.

    Returns:
        The id that may be shown to others.

    Example:
        >>> public_id("folder:/home/me/my birds"), public_id("hf:org/set:test")
        ('folder:…/my birds', 'hf:org/set:test')
        >>> public_id("file:/home/me/vit.safetensors@timm:vit_tiny_patch16_224")
        'file:…/vit.safetensors@timm:vit_tiny_patch16_224'
    """
    if parts := take_apart(identifier):
        return identifier.removesuffix(parts[2]) + public_id(parts[2])
    kind, colon, rest = identifier.partition(":")
    if not colon or kind not in _PATHS:
        return without_folders(identifier)
    head, at, architecture = rest.rpartition("@")
    path, tail = (head, at + architecture) if at and ":" in architecture else (rest, "")
    last = re.split(r"[/\\]", path.rstrip("/\\"))[-1]
    return f"{kind}:{last if last == path else f'…/{last}'}{tail}"


def without_folders(text: str, known: Sequence[str] = ()) -> str:
    """Text in which absolute paths are cut to their last part.

    Args:
        text: Such as the reason why an image has no score.
        known: Folders that may occur in it; they are found also where their names hold spaces.

    Returns:
        The text.

    Example:
        >>> without_folders("Row group 3 of /home/me/a.parquet is damaged; see https://host/page.")
        'Row group 3 of …/a.parquet is damaged; see https://host/page.'
    """
    for folder in sorted((folder for folder in known if len(folder) > 1), key=len, reverse=True):
        text = text.replace(folder, "…")
    return _FOLDERS.sub("…/", text).replace("……", "…")


def printable(text: str) -> str:
    r"""Text in one line, without what moves a cursor, turns the writing direction or cannot be stored.

    Args:
        text: Any text.

    Returns:
        The text; a line break or tab is a space, anything else of that kind is ``�``.

    Example:
        >>> printable("two\nlines\x1b[31m")
        'two lines�[31m'
    """
    return "".join(letter if _shown(letter) else " " if letter.isspace() else "�" for letter in text)


def _shown(letter: str) -> bool:
    """Whether a letter may stay: also spaces of other widths, and joiners, which some scripts need."""
    return letter.isprintable() or letter in "\u200c\u200d" or unicodedata.category(letter) == "Zs"


def _views(run: Run) -> int:
    return int(run.meta.get("views") or 1)
