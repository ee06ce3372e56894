"""Which column of a table holds the images, which the labels, and what the classes are called."""

import json
from typing import Any

import pyarrow as pa

from jepascore_core.errors import DatasetError

# Names in use on the Hugging Face hub, likeliest first; a declared Image or ClassLabel comes before any of them.
IMAGE_COLUMNS = ("image", "img", "jpg", "jpeg", "png", "webp", "picture", "bytes")
LABEL_COLUMNS = ("label", "labels", "fine_label", "class_name", "class", "cls", "category", "target")


def is_image(kind: pa.DataType) -> bool:
    """Whether a column's type can hold image files: bytes, or a struct with a field ``bytes``."""
    if pa.types.is_struct(kind):
        position = kind.get_field_index("bytes")
        return position >= 0 and is_image(kind.field(position).type)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def image_column(schema: pa.Schema, where: str) -> str:
    """Find the column of images.

    Args:
        schema: Columns of a table.
        where: Name of the table, for the message.

    Returns:
        Name of the column.

    Raises:
        DatasetError: There is none.
    """
    possible = [field.name for field in schema if is_image(field.type)]
    declared = [name for name, feature in _features(schema).items() if feature.get("_type") == "Image"]
    for name in (*declared, *IMAGE_COLUMNS, *possible):
        if name in possible:
            return name
    columns = ", ".join(map(repr, schema.names[:8])) or "none"
    raise DatasetError(f"{where} has no column of image bytes; its columns are {columns}.")


def label_column(schema: pa.Schema) -> str | None:
    """Name of the column of labels, or None."""
    declared = [name for name, feature in _features(schema).items() if feature.get("_type") == "ClassLabel"]
    ranked = sorted(declared, key=lambda name: LABEL_COLUMNS.index(name) if name in LABEL_COLUMNS else 99)
    return next((name for name in (*ranked, *LABEL_COLUMNS) if name in schema.names), None)


def class_names(schema: pa.Schema, column: str) -> list[str] | None:
    """Class names that a schema declares for a column of numbers.

    They stand in Hugging Face's metadata (``ClassLabel``), or under the key ``classes`` as a JSON list or text
    separated by ``|`` or commas.

    Returns:
        The names by label, or None.
    """
    names = _features(schema).get(column, {}).get("names")
    if names is None:
        text = (schema.metadata or {}).get(b"classes", b"").decode(errors="backslashreplace")
        names = _json(text) or (text.split("|" if "|" in text else ",") if text else None)
    return [str(name) for name in names] if isinstance(names, list) and names else None


def _features(schema: pa.Schema) -> dict[str, dict[str, Any]]:
    """Hugging Face's description of the columns; empty where there is none or it cannot be read."""
    found = _json((schema.metadata or {}).get(b"huggingface", b""))
    for key in ("info", "features"):
        found = found.get(key) if isinstance(found, dict) else None
    features = found if isinstance(found, dict) else {}
    return {str(name): feature for name, feature in features.items() if isinstance(feature, dict)}


def _json(text: str | bytes) -> Any:
    """Parsed JSON, or None."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
