"""Join a Ray cluster, or start a Ray on this machine, and find room for workers in it."""

import contextlib
import logging
import math
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import IO, Any, cast

import torch

from jepascore_core.devices import lock_of, resolve_device
from jepascore_core.errors import RunError
from jepascore_core.locks import Cancelled

_KNOCK_S = 5.0
_STORE_BYTES = 1 << 30  # a Ray of our own holds one encoder in its object store, and next to nothing else


@dataclass(frozen=True, slots=True)
class Room:
    """Where workers find room.

    Attributes:
        device: What each of them scores on: ``cpu``, or ``cuda`` as the one GPU that it sees.
        workers: How many there are.
        cpus: CPU cores of each.
        together: Most workers of one node.
        address: The cluster, or None for a Ray on this machine.
    """

    device: torch.device
    workers: int
    cpus: int
    together: int
    address: str | None = None

    def locks(self) -> list[Any]:
        """Locks of this machine's devices that the workers use; a cluster deals out its devices itself."""
        if self.address is not None:
            return []
        if self.device.type == "cpu":
            return [lock_of(self.device)]
        return [lock_of(torch.device("cuda", number)) for number in range(self.workers)]


@contextlib.contextmanager
def connected(address: str | None, device: str, workers: int | None) -> Iterator[Room]:
    """Be the driver of a Ray cluster for the length of a block.

    Args:
        address: ``auto``, ``host:port``, or None for a Ray of its own on this machine.
        device: ``auto`` takes GPUs where the cluster has them; ``cpu``, or ``cuda``.
        workers: How many; None takes one for each GPU, else one for each node.

    Yields:
        The room for workers.

    Raises:
        RunError: There is no such cluster, or it does not have what is asked for.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise RunError(f"Ray deals out the GPUs itself: use --device auto, cpu or cuda, not {device!r}.")
    if address is None and device == "cuda":
        resolve_device(device)
    _be_quiet()
    ray = import_module("ray")
    import_module("ray.data")
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # which the import has set
    with contextlib.redirect_stdout(cast(IO[str], _WithoutRay(sys.stdout))):
        try:
            _join(ray, address, device, workers)
            yield find_room(ray.nodes(), device, workers, address)
        finally:
            ray.shutdown()


def _join(ray: Any, address: str | None, device: str, workers: int | None) -> None:
    """Connect to a cluster, or start a Ray.

    Raises:
        RunError: There is none, or it does not start.
        Cancelled: SIGTERM came meanwhile.
    """
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    if address is None:
        gpus = torch.cuda.device_count() if device != "cpu" else 0
        options |= {
            "include_dashboard": False,
            "num_cpus": max(os.cpu_count() or 1, workers or 1),
            "num_gpus": gpus,
            "object_store_memory": _STORE_BYTES,
            "_node_ip_address": "127.0.0.1",  # some of its ports listen there only; the others ask for a token
        }
    elif address != "auto":
        _check_address(address)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with _silent():
            ray.init(address=address or "local", **options)
    except SystemExit as error:  # what Ray makes of SIGTERM
        raise Cancelled("Cancelled before scoring began.") from error
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        if address == "auto":
            raise RunError("This machine belongs to no Ray cluster: ray start makes one; or name none.") from error
        where = f"The Ray cluster at {address} does not answer" if address else "Ray does not start on this machine"
        raise RunError(f"{where} ({' '.join(str(error).split())[:200].rstrip('.')}).") from error
    finally:
        if threading.current_thread() is threading.main_thread() and before is not None:
            signal.signal(signal.SIGTERM, before)  # ours, which stops a run in good order


def _check_address(address: str) -> None:
    """Knock: Ray itself would try for minutes.

    Raises:
        RunError: Nobody answers.
    """
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_S).close()
    except (OSError, ValueError, OverflowError) as error:
        raise RunError(f"There is no Ray cluster at {address}: nobody answers there.") from error


def find_room(nodes: list[dict[str, Any]], device: str, workers: int | None, address: str | None) -> Room:
    """Room for workers on the nodes of a cluster.

    Args:
        nodes: As ``ray.nodes()`` tells them.
        device: ``auto``, ``cpu`` or ``cuda``.
        workers: How many are asked for.
        address: The cluster, or None for a Ray on this machine.

    Returns:
        The room.

    Raises:
        RunError: The cluster has no GPU, too few of them, or no node with a CPU.
    """
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    gpus = [int(node.get("GPU", 0)) for node in alive]
    if device != "cpu" and any(gpus):
        together = max(gpus)
        if address is None and (workers or 0) > sum(gpus):
            raise RunError(f"This machine has {sum(gpus)} GPUs, too few for {workers} workers.")
        cpus = min(int(node.get("CPU", 1)) // count for node, count in zip(alive, gpus, strict=True) if count)
        return Room(torch.device("cuda"), workers or sum(gpus), max(1, cpus), together, address)
    if device == "cuda":
        raise RunError("The Ray cluster has no GPU; use --device cpu, or start nodes that have one.")
    cores = [int(node.get("CPU", 0)) for node in alive if node.get("CPU", 0) >= 1]
    if not cores:
        raise RunError("The Ray cluster has no node with a CPU to spare; start its nodes with --num-cpus.")
    wanted = workers or len(cores)
    together = math.ceil(wanted / len(cores))
    return Room(torch.device("cpu"), wanted, max(1, min(cores) // together), together, address)


def _be_quiet() -> None:
    """No reports to Ray's makers, no bars, no log lines in between ours."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what it will do, and what it warns of otherwise
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as the command line has it, for workers of a Ray of our own
    logging.getLogger("ray").setLevel(logging.ERROR)


class _WithoutRay:
    """Standard output without the pages that a thread of Ray prints there when a worker or a node dies.

    Args:
        stream: Where all else goes.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write what is ours."""
        return len(text) if threading.current_thread().name.startswith("ray_") else self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Drop what native code writes to stderr: Ray tells there that it will log nothing."""
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
