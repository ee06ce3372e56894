"""The pinned packages are those that the app asks for, and nothing in the list leads to a place of its own."""

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
LOCK = (ROOT / "requirements.lock").read_text()
PINNED = dict(re.findall(r"^(\S+)==(\S+)", LOCK, re.MULTILINE))


def wanted(name: str) -> list[Requirement]:
    """What a file of requirements asks for."""
    lines = (line.partition("#")[0].strip() for line in (ROOT / name).read_text().splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("-")]


@pytest.mark.parametrize("requirement", wanted("requirements.txt"), ids=str)
def test_what_the_app_needs_is_pinned_as_it_asks(requirement: Requirement) -> None:
    assert PINNED[canonicalize_name(requirement.name)] in requirement.specifier


def test_every_pinned_package_has_hashes_and_comes_from_the_usual_index() -> None:
    packages = re.split(r"^(?=[a-z])", LOCK, flags=re.MULTILINE)[1:]
    assert len(packages) == len(PINNED) > 80
    assert not [package for package in packages if "--hash=sha256:" not in package]
    assert not re.search(r"://|@ |-url|-links", LOCK), "another index or place than everybody's"
    assert "uv pip compile requirements.txt" in LOCK.splitlines()[1]
