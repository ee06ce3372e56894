"""Versions of what scores and speeds depend on."""

import contextlib
from importlib.metadata import PackageNotFoundError, version

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
