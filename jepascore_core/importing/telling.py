"""What was found in a file, in sentences, for a terminal and a page."""

from collections import Counter

from jepascore_core.importing.columns import shown
from jepascore_core.importing.judging import Results
from jepascore_core.text import count, listed, plural, significant


def facts(results: Results) -> list[str]:
    """What was found, and what is made of it.

    Args:
        results: The judged rows.

    Returns:
        Sentences of plain text.
    """
    table = results.table
    scored = table.size - len(results.errors)
    columns = listed([f"{_WORDS[kind]} ({name})" for kind, name in table.found.items()])
    lines = [f"{plural(table.size, 'row')}, {count(scored)} with a score; found: {columns}."]
    if table.ignored:
        more = f" and {count(len(table.ignored) - 8)} more" if len(table.ignored) > 8 else ""
        lines.append(f"Not used: {', '.join(map(shown, table.ignored[:8]))}{more}.")
    lines += _score(results)
    if results.errors:
        reason, times = Counter(results.errors.values()).most_common(1)[0]
        often = f"; most often ({count(times)})" if times < len(results.errors) else ""
        lines.append(f"{plural(len(results.errors), 'row')} without a score{often}: {reason}")
    if table.keys is None:
        lines.append(
            "The file has no keys: rows are numbered, and match only those of other imports in the same order."
        )
    return lines


_WORDS = {
    "key": "keys",
    "score": "scores",
    "singular_values": "singular values",
    "class_name": "classes",
    "embedding": "embeddings",
    "score_error": "error bars",
    "sphere_term": "sphere terms",
    "view_scores": "scores of views",
    "error": "errors",
}


def _score(results: Results) -> list[str]:
    """Where the scores come from."""
    request = results.request
    if not results.from_spectra:
        turned = ", their sign turned so that higher means likelier" if results.turned else ""
        return [f"The scores are those given{turned}; conventions that need a spectrum are not offered."]
    origin = (
        "as asked" if request.null_dim is not None else "of this preset" if request.spec.embedding_dim else "assumed"
    )
    given = "log σ" if request.log else "σ"
    lines = [
        f"Scored by eq. (5) from {given}, D = {results.table.dim}, null dimension {results.null_dim} ({origin})"
        + (f", {results.views} views by eq. (4)." if results.views > 1 else ".")
    ]
    if request.direction == "out":
        lines.append("The direction has no effect on spectra.")
    if results.differs is not None and results.differs > 0.01:
        lines.append(f"The file's own scores, which are not used, differ by up to {significant(results.differs)} nats.")
    return lines
