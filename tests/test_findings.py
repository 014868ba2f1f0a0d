"""findings/: the form of each script. The scripts install packages, so they are not run here."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "findings"
SCRIPTS = sorted(FOLDER.glob("*.sh"))
ROW = re.compile(r"^\| `([^`]+\.sh)` \| [^|]+ \| [^|]+ \| \d{4}-\d{2}-\d{2} \|$", re.MULTILINE)


def test_every_script_has_one_row_and_every_row_a_script() -> None:
    assert SCRIPTS
    rows = ROW.findall((FOLDER / "README.md").read_text(encoding="utf-8"))
    assert rows == [script.name for script in SCRIPTS]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_script_keeps_the_form(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    assert os.access(script, os.X_OK), "set the run bit"
    assert text.startswith("#!/usr/bin/env bash\n# ")
    assert '\nset -euo pipefail\nwork=$(mktemp -d)\ntrap \'rm -rf "$work"\' EXIT\ncd "$work"\n' in text
    subprocess.run(["bash", "-n", str(script)], check=True)

    installs = re.findall(r"pip install --quiet (.+)", text)
    assert installs
    for package in " ".join(installs).split():
        assert re.fullmatch(r"[\w.-]+(\[\w+\])?==[\w.]+", package), f"pin {package} with =="
    assert len(installs) == text.count("pip install")

    assert "assert " in text, "exit non-zero if the behaviour has changed"
    assert not re.search(r"^\s*(from|import) (service|training|benchmarks)\b", text, re.MULTILINE)
    assert set(re.findall(r"\w+://[^/:\s\"]+", text)) <= {"http://127.0.0.1"}
    assert "index-url" not in text
