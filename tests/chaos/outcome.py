"""What one trial of the fault campaign came to."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Outcome:
    """One trial.

    Attributes:
        campaign: Which campaign, in a word: ``kills``, ``faults``, ``inputs``, ``fuzz``.
        trial: What was done, in a few words; the same words for trials of one kind.
        ok: Whether the product kept its promise.
        words: The sentence that a person would have read, or what went wrong.
        seconds: How long it took.
        memory_mb: Most memory of the process, MB; None where it was not measured.
    """

    campaign: str
    trial: str
    ok: bool
    words: str = ""
    seconds: float = 0.0
    memory_mb: float | None = None
