"""Score on a Ray cluster: Ray Data deals out blocks of images, workers score and write them, the driver takes them in.

One worker holds the encoder for each GPU (or share of the CPUs). It reads, decodes, scores and writes; nothing but a
line about each block comes back, so that neither the driver nor Ray's object store grows with the dataset. Ray Data
gives a worker the next block when it is done with one, and starts a worker that died again, with its blocks.

**Exactly once.** A worker writes a whole block into a staging folder of this driver (``store.staging``). The driver,
which holds the run's lock, looks at the keys in it and makes it one of the run's parts by a rename, unless an image of
it is there already. So a block that Ray repeats is taken in once; what a dead driver's workers still write is never
taken in, for the next holder of the lock, of whichever engine, does away with their folder first; and what was lost
with a node is dealt out again, because the images left are always the planned ones minus the stored ones.

**Why not Ray Data's own checkpoints** (``DataContext.checkpoint_config``). They note the ids of written rows in files
of their own beside the data, filter by them what one of Ray's *read* operators gives, and are deleted when an execution
succeeds. A run already holds that truth: its parts. A second one would not know of images that the local engine scored
or of parts that were damaged and set aside, and works with Ray's own reading and writing only, which know neither our
columns, row groups and checksums nor a reason why an image cannot be read.
"""

from importlib.util import find_spec

from jepascore_core.errors import RunError

INSTALL = "pip install -r requirements-cluster.txt"


def has_ray() -> bool:
    """Whether Ray can be imported here; imports nothing."""
    return find_spec("ray") is not None


def check_ray() -> None:
    """Refuse to go on without Ray.

    Raises:
        RunError: It is not installed.
    """
    if not has_ray():
        raise RunError(f"--engine ray needs Ray Data, which is not installed here: {INSTALL}")
