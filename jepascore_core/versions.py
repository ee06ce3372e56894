"""Versions of what scores and speeds depend on."""

import contextlib
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = ("jepascore-explorer", "torch", "torchvision", "timm", "open_clip_torch", "datasets", "pillow", "numpy")


def versions() -> dict[str, str]:
    """Versions of the packages that decide scores and speeds.

    Returns:
        Version by package, for those that are installed.
    """
    found = {}
    for package in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def own_version() -> str:
    """Version of this project, installed or run from its folder.

    Returns:
        Such as ``0.1.0``; ``unknown`` where nothing says.
    """
    with contextlib.suppress(PackageNotFoundError):
        return version(_PACKAGES[0])
    with contextlib.suppress(OSError, tomllib.TOMLDecodeError, KeyError):
        text = (Path(__file__).parent.parent / "pyproject.toml").read_text("utf-8")
        return str(tomllib.loads(text)["project"]["version"])
    return "unknown"
