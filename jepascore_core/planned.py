"""Which images a run is of, asked of its dataset where that is at hand."""

from jepascore_core.datasets import at_hand, load_dataset, sample
from jepascore_core.errors import JepaScoreError
from jepascore_core.files import storable
from jepascore_core.store import Run


def planned_keys(run: Run) -> tuple[frozenset[str] | None, str]:
    """Keys of the images that a run plans, and what of its dataset a person should know.

    Nothing is downloaded: the images of a dataset of the hub, or of an imported run, are not known.

    Args:
        run: The run.

    Returns:
        The keys, or None where they cannot be known; and a sentence, or "".
    """
    if run.problem or not isinstance(run.meta.get("request"), dict):
        return None, ""
    try:
        request = run.request()
        if not at_hand(request.dataset_id):
            return None, ""
        dataset = load_dataset(request.dataset_id, download=False)
    except JepaScoreError as error:
        return None, f"The dataset is out of reach, so that its images were not compared ({error})"
    if dataset.fingerprint != run.meta["dataset"].get("fingerprint"):
        return None, (
            "The dataset has changed since this run was planned: files came, went or have another size. Scored again, "
            "it makes a new run; these rows are of its earlier state."
        )
    try:
        items = sample(
            dataset.items, per_class=request.per_class, limit=request.limit, seed=request.seed, classes=request.classes
        )
    except JepaScoreError as error:
        return None, f"The sample cannot be drawn again ({error})"
    return frozenset(storable(item.key) for item in items), ""
