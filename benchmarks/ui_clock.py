"""Streamlit's server with a clock: ``python -m benchmarks.ui_clock MARKS run app.py …`` for ``benchmarks.ui``.

The browser notes a websocket frame when its page has time to look at it, after the charts that came before are drawn;
so the server itself notes when it was asked for a run of the script, and when it queued the last of the answer.
"""

import json
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.runtime.app_session import AppSession
from streamlit.web.cli import main

Mark = tuple[float, str, str]  # monotonic seconds, session, asked | ended


def read_marks(path: Path, since: int = 0) -> tuple[list[Mark], int]:
    """What a server has noted.

    Args:
        path: Where it does.
        since: Bytes already read.

    Returns:
        The marks after them, and the bytes that are read now.
    """
    with path.open("rb") as file:
        file.seek(since)
        whole, end, _ = file.read().rpartition(b"\n")
    return [tuple(json.loads(line)) for line in whole.splitlines()], since + len(whole) + len(end)


def spans(marks: Iterable[Mark], session: str | None = None) -> list[float]:
    """Seconds from each request for a run of the script to its end; what is asked meanwhile is part of it.

    Args:
        marks: What the server has noted.
        session: Whose; None takes all, one by one.
    """
    found, since = [], dict[str, float]()
    for moment, whose, kind in marks:
        if session in (None, whose):
            if kind == "asked":
                since.setdefault(whose, moment)
            elif whose in since:
                found.append(moment - since.pop(whose))
    return found


def _noting(marks: int) -> None:
    """Let every session of this process note what it is asked and when that has ended."""
    ask, answer = AppSession.handle_backmsg, AppSession._enqueue_forward_msg

    def note(session: AppSession, kind: str) -> None:
        os.write(marks, f"{json.dumps([time.monotonic(), session.id, kind])}\n".encode())

    def asked(session: AppSession, message: BackMsg) -> None:
        if message.WhichOneof("type") == "rerun_script":
            note(session, "asked")
        ask(session, message)

    def answered(session: AppSession, message: ForwardMsg) -> None:
        answer(session, message)
        again = message.script_finished == ForwardMsg.FINISHED_EARLY_FOR_RERUN  # another run follows at once
        if message.WhichOneof("type") == "script_finished" and not again:
            note(session, "ended")

    hooks: Any = AppSession
    hooks.handle_backmsg, hooks._enqueue_forward_msg = asked, answered


if __name__ == "__main__":
    _noting(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND))
    sys.argv = ["streamlit", *sys.argv[2:]]
    main()
