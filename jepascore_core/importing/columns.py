"""Which column of a file of results holds what: a small table of names, compared without regard to case."""

from collections.abc import Mapping, Sequence

from jepascore_core.errors import ImportedFileError

# Names in use, the one that wins first. Anything else is passed over, and named in what the import says it found.
SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "key": ("key", "keys", "path", "paths", "file", "files", "filename", "filenames", "id", "ids", "image", "images"),
    "score": ("jepa_score", "jepa_scores", "score", "scores"),
    "singular_values": ("singular_values", "svdvals", "sigma", "sigmas"),
    "class_name": ("class_name", "class", "label", "labels", "target", "targets"),
    "embedding": ("embedding", "embeddings", "feature", "features"),
    # what our own exports hold besides
    "score_error": ("score_error",),
    "sphere_term": ("sphere_term",),
    "view_scores": ("view_scores",),
    "error": ("error",),
}
LISTS = ("singular_values", "embedding", "view_scores")


def match(names: Sequence[str], where: str, score_column: str | None = None) -> dict[str, str]:
    """Tell what each column holds by its name.

    Args:
        names: The file's columns.
        where: Name of the file, for the message.
        score_column: The column of scores, where the person said so.

    Returns:
        Name of the column, by what it holds; only what is there.

    Raises:
        ImportedFileError: Two columns have one name, ``score_column`` is not there, or the scores cannot be told.

    Example:
        >>> match(["Path", "JEPA_Score", "Target", "lr"], "a.csv")
        {'key': 'Path', 'score': 'JEPA_Score', 'class_name': 'Target'}
    """
    known: dict[str, str] = {}
    for name in names:
        if known.setdefault(_plain(name), name) != name or list(names).count(name) > 1:
            raise ImportedFileError(f"{where} has two columns named {shown(name)}.")
    found = {}
    for kind, synonyms in SYNONYMS.items():
        present = [known[name] for name in synonyms if name in known]
        if kind == "score":
            present = _scores(present, names, where, score_column)
        if present:
            found[kind] = present[0]
    if found.get("singular_values") and score_column is not None:
        raise ImportedFileError(
            f"{where} holds singular values, from which the score is computed; leave out --score-column, or import a "
            "file without them."
        )
    if "score" not in found and "singular_values" not in found:
        raise ImportedFileError(f"{where} has no column of scores that can be told by its name; {_choose(names)}")
    return found


def no_choice(names: Sequence[str], found: Mapping[str, str]) -> list[str]:
    """Columns that nothing is made of.

    Args:
        names: The file's columns.
        found: What ``match`` gave.

    Returns:
        Their names, in order.
    """
    return [name for name in names if name.strip() and name not in found.values()]


def shown(text: object, most: int = 60) -> str:
    """A name or value from a file in quotes, cut short.

    Args:
        text: The value.
        most: Most letters.

    Returns:
        Its printable form.
    """
    words = str(text)
    return repr(words if len(words) <= most else f"{words[: most - 1]}…")


def _scores(present: list[str], names: Sequence[str], where: str, score_column: str | None) -> list[str]:
    """The column of scores: that which was asked for, else the one that can be."""
    if score_column is not None:
        if score_column not in names:
            raise ImportedFileError(f"{where} has no column {shown(score_column)}; {_choose(names)}")
        return [score_column]
    spectra = {_plain(name) for name in names} & set(SYNONYMS["singular_values"])
    if len(present) > 1 and not spectra:
        raise ImportedFileError(f"{where} has {len(present)} columns that may be the score; {_choose(names)}")
    return present


def _choose(names: Sequence[str]) -> str:
    """What a person can do about it."""
    listed = ", ".join(map(shown, names[:20])) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    return f"its columns are {listed or 'none'}: say which with --score-column."


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")
