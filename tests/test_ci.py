"""`.ci/run` adds nothing that `make test` would need on another machine."""

from __future__ import annotations

import re

from tests.integration.conftest import ROOT

LINES = [line.strip() for line in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()]
COMMANDS = [line for line in LINES if line and not line.startswith("#")]


def test_it_ends_with_make_test_and_runs_no_other_target() -> None:
    assert [line for line in COMMANDS if line.split()[0] == "make"] == ["make test"]
    assert COMMANDS[-1] == "make test"


def test_it_installs_no_python_package() -> None:
    assert [line for line in COMMANDS if re.search(r"\bpip3?\b|\.venv", line)] == []
