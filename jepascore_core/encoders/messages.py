"""Words for error messages."""

LONGEST_REASON = 160


def reason(error: BaseException) -> str:
    """Say in a few words why a library objected.

    Args:
        error: What it raised.

    Returns:
        First line of its message, without the full stop; its type when there is no message.
    """
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")[:LONGEST_REASON]
