"""docs/security.md: its commands run, and what it names is there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.serving import free_port
from service.model.bundle import FILES
from service.model.engine import WARM_UP_SECONDS
from service.model.loading import _COPIES, _HEADROOM
from service.settings import Settings, flag, variable

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")


def test_every_flag_and_variable_is_a_setting() -> None:
    flags = set(re.findall(r"--[a-z][a-z-]+", "\n".join(re.findall(r"`(--[^`]+)`", PAGE))))
    assert flags
    assert flags <= {flag(name) for name in Settings.model_fields}
    assert set(re.findall(r"SERVICE_\w+", PAGE)) <= {variable(name) for name in Settings.model_fields}


def test_the_numbers_are_those_of_the_code() -> None:
    assert (_HEADROOM["cpu"] >> 20, _HEADROOM["cuda"] >> 30, _COPIES, WARM_UP_SECONDS) == (512, 8, 8, 20)
    assert "weights.safetensors" in FILES


def test_the_commands_run(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    port = str(free_port())
    (tmp_path / "models").symlink_to(ROOT / "models")
    (block,) = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    commands = block.replace("8765", port).replace("python -m", f"{sys.executable} -m")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert '"default"' in done.stdout
    assert "<title>Gatelight" in done.stdout
    assert "gatelight_requests_total" in done.stdout
    assert '"name":"ner-gru"' in done.stdout
