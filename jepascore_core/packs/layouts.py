"""What a pack looks like inside: where an image lies, and the list that says what is known of each.

Three layouts with one interface. A list is written to a file as images come, so that a million of them fit in memory.
"""

import csv
import io
import json
import random
import re
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from jepascore_core.packs.chosen import FACTS, Picture
from jepascore_core.packs.names import LONGEST, safe_name, stem_of

Facts = dict[str, Any]


class Layout(Protocol):
    """A way to lay out images and what is known of them."""

    def place(self, number: int, picture: Picture) -> str:
        """Relative path of an image; ``number`` counts from 1, and no two images share one."""
        ...

    def note(self, path: str, facts: Facts) -> str:
        """What to append to the list for an image."""
        ...

    def finish(self, notes: Path) -> dict[str, Path]:
        """Files to pack beside the images, by their path in the pack; ``notes`` is the list, to be changed at will."""
        ...


class Manifest:
    """``<run>/<class>/<number>-<name>``, and ``manifest.csv``."""

    def place(self, number: int, picture: Picture) -> str:
        """See ``Layout``. The number alone makes the path unique, also where case and Unicode's forms do not count."""
        facts = picture.facts
        folders = f"{safe_name(facts['run'], 2 * LONGEST)}/{safe_name(facts['class_name'] or 'unlabelled')}"
        return f"{folders}/{number:06d}-{stem_of(facts['key'])}{picture.suffix}"

    def note(self, path: str, facts: Facts) -> str:
        """See ``Layout``."""
        row = {"file": path} | facts | {"tags": json.dumps(facts["tags"], ensure_ascii=False)}
        return _csv_line(map(_disarmed, row.values()))

    def finish(self, notes: Path) -> dict[str, Path]:
        """See ``Layout``."""
        whole = notes.with_name("manifest.csv")
        _join(whole, _csv_line(["file", *FACTS]), notes)
        return {whole.name: whole}


class ImageFolder:
    """Hugging Face's ``imagefolder``: ``images/<number>`` and ``metadata.jsonl``, read by ``datasets.load_dataset``.

    https://huggingface.co/docs/datasets/image_dataset#imagefolder. Names are numbers alone, since the library makes a
    split of files whose path holds a word such as ``test``.
    """

    def __init__(self) -> None:
        self._first: list[str] = []
        self._untyped = set(FACTS)

    def place(self, number: int, picture: Picture) -> str:
        """See ``Layout``."""
        return f"images/{number:09d}{picture.suffix}"

    def note(self, path: str, facts: Facts) -> str:
        """See ``Layout``.

        The library takes each column's type from the first ten megabytes, and fails where a later row disagrees: the
        first row that has a value in a column goes to the front.
        """
        line = json.dumps({"file_name": path} | facts, allow_nan=False) + "\n"
        typed = {name for name in self._untyped if facts[name] not in (None, [])}
        self._untyped -= typed
        if typed:
            self._first.append(line)
        return "" if typed else line

    def finish(self, notes: Path) -> dict[str, Path]:
        """See ``Layout``."""
        whole, about = notes.with_name("metadata.jsonl"), notes.with_name("README.md")
        _join(whole, "".join(self._first), notes)
        about.write_text(_HUGGING_FACE, encoding="utf-8")
        return {whole.name: whole, about.name: about}


class FiftyOne:
    """A FiftyOne dataset: ``data/<number>``, ``samples.json`` and ``metadata.json``, as ``FiftyOneDataset`` reads it.

    https://docs.voxel51.com/user_guide/dataset_creation/datasets.html#fiftyonedataset. The format of FiftyOne 1.0;
    later versions bring it up to date when they import it.
    """

    def __init__(self) -> None:
        self._between = "\n"

    def place(self, number: int, picture: Picture) -> str:
        """See ``Layout``."""
        return f"data/{number:09d}{picture.suffix}"

    def note(self, path: str, facts: Facts) -> str:
        """See ``Layout``."""
        label = {"_id": _object_id(), "_cls": "Classification", "tags": [], "label": facts["class_name"]}
        known = facts | {"source": facts["dataset"]}  # a sample has ``dataset`` and ``_dataset_id`` of its own
        sample = {
            "_id": _object_id(),
            "filepath": path,
            "tags": facts["tags"],
            "_media_type": "image",
            "_rand": random.random(),
            "ground_truth": label if facts["class_name"] else None,
            **{name: known[name] for name in _FIFTYONE_FIELDS},
        }
        before, self._between = self._between, ",\n"
        return before + json.dumps(sample, allow_nan=False)

    def finish(self, notes: Path) -> dict[str, Path]:
        """See ``Layout``."""
        whole, metadata, about = (notes.with_name(name) for name in ("samples.json", "metadata.json", "README.md"))
        _join(whole, '{"samples": [', notes, "\n]}\n")
        described = {"version": "1.0.0", "media_type": "image", "sample_fields": _fiftyone_fields()}
        metadata.write_text(json.dumps(described, indent=1), encoding="utf-8")
        about.write_text(_FIFTYONE, encoding="utf-8")
        return {file.name: file for file in (whole, metadata, about)}


_STRINGS = "fiftyone.core.fields.StringField"
_FIFTYONE_OWN = {
    "id": "ObjectIdField",
    "filepath": "StringField",
    "_media_type": "StringField",
    "_rand": "FloatField",
    "_dataset_id": "ObjectIdField",
}
_FIFTYONE_FIELDS = {
    "jepa_score": "FloatField",
    "score_error": "FloatField",
    "convention": "StringField",
    "encoder": "StringField",
    "source": "StringField",
    "run": "StringField",
    "key": "StringField",
    "index": "IntField",
    "label": "IntField",
}

_ABOUT = """
`jepa_score` is in nats (higher is likelier, under one encoder only) in the convention that `convention` names, and
`score_error` is its rounding error. `key` is the image's name in its dataset, `label` its class there (-1 for none).
Images that could not be packed, if any, are listed in `missing.txt`.
"""

_HUGGING_FACE = f"""# Images with JEPA-SCOREs

```python
import datasets

images = datasets.load_dataset("imagefolder", data_dir="this folder, unpacked", split="train")
```
{_ABOUT}"""

_FIFTYONE = f"""# Images with JEPA-SCOREs

```python
import fiftyone as fo

dataset = fo.Dataset.from_dir(dataset_dir="this folder, unpacked", dataset_type=fo.types.FiftyOneDataset)
```

The class is `ground_truth`, the dataset is `source`.
{_ABOUT}"""


def _fiftyone_fields() -> list[dict[str, Any]]:
    """Every field of a sample."""
    label = [
        _field("id", "ObjectIdField"),
        _field("tags", "ListField", subfield=_STRINGS),
        _field("label", "StringField"),
        _field("confidence", "FloatField"),
        _field("logits", "VectorField"),
    ]
    return [
        *(_field(name, kind) for name, kind in (_FIFTYONE_OWN | _FIFTYONE_FIELDS).items()),
        _field("tags", "ListField", subfield=_STRINGS),
        _field("metadata", "EmbeddedDocumentField", document="metadata.ImageMetadata"),
        _field("ground_truth", "EmbeddedDocumentField", document="labels.Classification", fields=label),
    ]


def _field(
    name: str, kind: str, *, document: str | None = None, subfield: str | None = None, fields: Any = ()
) -> dict[str, Any]:
    """A field's description, as FiftyOne keeps it."""
    return {
        "name": name,
        "ftype": f"fiftyone.core.fields.{kind}",
        "embedded_doc_type": f"fiftyone.core.{document}" if document else None,
        "subfield": subfield,
        "fields": list(fields),
        "db_field": "_id" if name == "id" else name,
        "description": None,
        "info": None,
    }


def _object_id() -> dict[str, str]:
    """A new id of MongoDB, random, so that two packs go into one dataset."""
    return {"$oid": secrets.token_hex(12)}


def _join(whole: Path, before: str, notes: Path, after: str = "") -> None:
    """Write a file: some text, a list, some more text."""
    with whole.open("w", encoding="utf-8", newline="") as out, notes.open(encoding="utf-8", newline="") as lines:
        out.write(before)
        shutil.copyfileobj(lines, out)
        out.write(after)


def _csv_line(cells: Iterable[Any]) -> str:
    line = io.StringIO(newline="")
    csv.writer(line).writerow(cells)
    return line.getvalue()


def _disarmed(value: Any) -> Any:
    """A cell that no spreadsheet runs as a formula; see ``store.exports``."""
    return f"'{value}" if isinstance(value, str) and re.match(r"[=+\-@\t\r\n＝＋－＠]", value) else value
