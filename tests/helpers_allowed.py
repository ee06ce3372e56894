"""Small files that the tests of what may be reached name."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.runs_made import made_run


def a_parquet(path: Path, image: bytes) -> None:
    """Write a dataset of one image."""
    pq.write_table(pa.table({"image": pa.array([image], pa.binary())}), path)


def a_run(folder: Path) -> None:
    """Write a run of three images under a name of one's choice."""
    made = made_run(folder.parent, None, None, np.arange(3.0)).path
    made.rename(folder)
