"""docs/next-model.md: its commands go round the whole circle, against a service of two workers."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.serving import free_port
from service.settings import Settings, flag
from tests.integration.conftest import ROOT
from tests.test_docs import environment

PAGE = (ROOT / "docs" / "next-model.md").read_text(encoding="utf-8")
_REPORT = "curl -sf http://127.0.0.1:8767/models/my-film/shadow"
WAITS = {
    "sleep 1": "until [ $(cat payload*.jsonl | wc -l) -ge 66 ]; do sleep 0.2; done",
    "sleep 2": f"until {_REPORT} | grep '\"requests\":6,' > /dev/null; do sleep 0.2; done",
}
"""The page's pauses, and what they wait for: on a busy machine it comes later. The log gets an event for each of six
requests and of 60 texts with feedback; the shadow runs on six requests."""


@pytest.mark.timeout(900)
def test_the_commands_go_round(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    port = str(free_port())
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    commands = "".join(re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL))
    for pause, wait in WAITS.items():
        assert commands.count(pause) == 1
        commands = commands.replace(pause, wait)
    commands = commands.replace("8767", port)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    said = f"{done.stdout}\n{done.stderr[-4000:]}"
    assert done.returncode == 0, said
    answered = re.findall(r"version (\d) answered 60 texts", done.stdout)
    assert answered[:2] == ["1", "1"], said
    assert set(answered[2:5]) <= {"1", "2"}
    assert answered[5] == "2"
    (accuracy,) = re.findall(r'^gatelight_feedback_accuracy{model="my-film",version="1"} (\S+)', done.stdout, re.M)
    assert 0 < float(accuracy) <= 1
    report, _ = json.JSONDecoder().raw_decode(done.stdout, done.stdout.index('{"model":"my-film","served"'))
    assert (report["served"], report["shadow"], report["dropped"]) == ("1", "2", 0)
    assert report["requests"] == 6
    assert report["inputs"] == 60
    listed = re.findall(r'\{"name":"my-film","versions":(\[.*?\])\}', done.stdout)
    states = [[(each["version"], each["share"], each["shadow"]) for each in json.loads(line)] for line in listed]
    assert states[:2] == [[("1", 1, False), ("2", 0, True)], [("1", 0.5, False), ("2", 0.5, False)]]
    labelled = (tmp_path / "labelled.tsv").read_text(encoding="utf-8").splitlines()
    assert labelled[0] == "text\tlabel"
    assert len(labelled) > 50


def test_every_flag_is_a_setting() -> None:
    rows = "\n".join(re.findall(r"^\| (`--.*?) \|", PAGE, re.M))
    assert set(re.findall(r"--[a-z][a-z-]+", rows)) <= {flag(name) for name in Settings.model_fields}
