"""Does keeping images by their score beat keeping as many at random? Duplicates, selections, probes, and a verdict.

Pure maths on arrays; ``jepascore_core.curating`` asks it of a run.
"""

from jepascore_core.curation.duplicates import Duplicates, find_duplicates
from jepascore_core.curation.rules import CONTROLS, RULES, choose
from jepascore_core.curation.splits import hashed, held_out
from jepascore_core.curation.trials import (
    FRACTIONS,
    HELD_OUT,
    SEEDS,
    USUAL_RULES,
    Images,
    Outcome,
    Trials,
    run_split,
    run_trials,
    summarise,
)
from jepascore_core.curation.words import PROBE_WORDS, RULE_WORDS, about_duplicates, losses, points, verdict

__all__ = [
    "CONTROLS",
    "FRACTIONS",
    "HELD_OUT",
    "PROBE_WORDS",
    "RULES",
    "RULE_WORDS",
    "SEEDS",
    "USUAL_RULES",
    "Duplicates",
    "Images",
    "Outcome",
    "Trials",
    "about_duplicates",
    "choose",
    "find_duplicates",
    "hashed",
    "held_out",
    "losses",
    "points",
    "run_split",
    "run_trials",
    "summarise",
    "verdict",
]
