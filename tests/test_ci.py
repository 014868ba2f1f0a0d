"""`make test` needs Python and make alone: `.ci/run` adds nothing to it, the pins suit every Python it accepts, and its
processes agree on the names of the tests."""

from __future__ import annotations

import gzip
import re
from importlib import metadata

import pytest
from packaging.specifiers import SpecifierSet

from tests.integration.conftest import ROOT

LINES = [line.strip() for line in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()]
COMMANDS = [line for line in LINES if line and not line.startswith("#")]


def test_it_ends_with_make_test_and_runs_no_other_target() -> None:
    assert [line for line in COMMANDS if line.split()[0] == "make"] == ["make test"]
    assert COMMANDS[-1] == "make test"


def test_it_installs_no_python_package() -> None:
    assert [line for line in COMMANDS if re.search(r"\bpip3?\b|\.venv", line)] == []


def test_every_pinned_package_runs_on_the_oldest_python_that_make_accepts() -> None:
    """Debian 12, on which CI runs, has Python 3.11.2."""
    pinned = re.findall(r"^(.+)==", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    needs = {name: _requires_python(name) for name in pinned}
    assert {name: versions for name, versions in needs.items() if not SpecifierSet(versions).contains("3.11.0")} == {}


def _requires_python(name: str) -> str:
    """The Python versions that an installed package is for; empty for any, and for one that is not installed."""
    try:
        return str(metadata.metadata(name).json.get("requires_python", ""))
    except metadata.PackageNotFoundError:
        return ""


@pytest.mark.parametrize("packed", [gzip.compress(b"a", mtime=second) for second in (0, 1_800_000_000)])
def test_a_name_holds_no_time(packed: bytes, request: pytest.FixtureRequest) -> None:
    """Two processes that pack a value in different seconds name the test alike, or xdist runs none."""
    assert request.node.name.startswith(f"test_a_name_holds_no_time[{len(packed)}-bytes")


@pytest.mark.parametrize("text", [b"plain"])
def test_a_name_holds_bytes_that_can_be_read(text: bytes, request: pytest.FixtureRequest) -> None:
    assert request.node.name.endswith(f"[{text.decode()}]")
