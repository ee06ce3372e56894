"""Does the score notice? Corrupted images, classes that were left out, wrong labels; and all of it layer by layer.

Everything here works on ``outliers.Rows`` and judges by ``outliers`` methods, so that a model never judges a row that
it was fitted to. ``estimates`` holds intervals for images that are paired, ``dose`` the response to a corruption,
``classes`` one class left out in turn, ``labels`` wrong labels, ``depth`` the score layer by layer; ``experiments``
finds the stored runs that each of them needs, and asks for those that are missing.
"""

from jepascore_core.sensitivity.classes import ClassFinding, LeftOut, MacroMean, leave_one_out
from jepascore_core.sensitivity.depth import LayerFinding, over_depth
from jepascore_core.sensitivity.dose import Dose, dose_response
from jepascore_core.sensitivity.estimates import Apart, paired_apart
from jepascore_core.sensitivity.labels import SHARES, LabelFinding, label_noise

__all__ = [
    "SHARES",
    "Apart",
    "ClassFinding",
    "Dose",
    "LabelFinding",
    "LayerFinding",
    "LeftOut",
    "MacroMean",
    "dose_response",
    "label_noise",
    "leave_one_out",
    "over_depth",
    "paired_apart",
]
