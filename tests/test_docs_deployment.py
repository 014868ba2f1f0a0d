"""docs/deployment.md and docs/scaling.md: what they name is there, and their commands are ones that can be given."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from service.observability.metrics import DERIVED, FAMILIES, PREFIX
from service.settings import Settings, flag, variable

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "docs" / "deployment.md", ROOT / "docs" / "scaling.md"]
COMPOSE = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
SWARM = (ROOT / "deploy" / "swarm.yml").read_text(encoding="utf-8")


def commands() -> list[str]:
    """The lines of every sh block."""
    blocks = [
        block for page in PAGES for block in re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.S)
    ]
    return [line for block in blocks for line in block.splitlines()]


def split(command: str) -> tuple[dict[str, str], list[str]]:
    """A command's variables and its words."""
    words = shlex.split(command)
    count = next(number for number, word in enumerate(words) if not re.match(r"[A-Z_]+=", word))
    return dict(word.split("=", 1) for word in words[:count]), words[count:]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_settings_and_metrics_are_real(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for path in re.findall(r"`((?:deploy|models|docs|benchmarks)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), path
    for target in re.findall(r"\]\(([\w.-]+\.md)", text):
        assert (page.parent / target).exists(), target
    known = {variable(name) for name in Settings.model_fields}
    assert set(re.findall(r"\bSERVICE_[A-Z_]+", text)) <= known
    names = {PREFIX + family.name for family in (*FAMILIES, *DERIVED)}
    assert set(re.findall(r"\bgatelight_(?!service)\w+", text)) <= names


@pytest.mark.parametrize("command", [each for each in commands() if " compose " in each])
def test_compose_commands(command: str) -> None:
    variables, words = split(command)
    assert words[:2] == ["docker", "compose"]
    services = yaml.safe_load(COMPOSE)["services"]
    profiles = {profile for service in services.values() for profile in service.get("profiles", [])}
    assert all(f"${{{name}:" in COMPOSE for name in variables)
    assert set(words[2:]) <= {"up", "run", "--build", "--wait", "--rm", "--profile", *services, *profiles}


@pytest.mark.parametrize("command", [each for each in commands() if each.startswith("kubectl")])
def test_kubernetes_commands(command: str) -> None:
    words = split(command)[1]
    if "--kustomize" in words:
        assert (ROOT / words[words.index("--kustomize") + 1] / "kustomization.yaml").is_file()


@pytest.mark.parametrize("command", [each for each in commands() if re.match("docker (stack|service|swarm)", each)])
def test_swarm_commands(command: str) -> None:
    words = split(command)[1]
    if "--compose-file" in words:
        assert (ROOT / words[words.index("--compose-file") + 1]).is_file()
    for service in re.findall(r"gatelight_(\w+)", command):
        assert service in yaml.safe_load(SWARM)["services"]


@pytest.mark.parametrize("command", [each for each in commands() if each.startswith("make ")])
def test_make_commands(command: str) -> None:
    if shutil.which("make") is None:
        pytest.skip("there is no make here")
    result = subprocess.run(["make", "--dry-run", *split(command)[1][1:]], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_the_variables_that_are_named_are_the_files_own() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    for name in re.findall(r"`([A-Z]+(?:_[A-Z]+)*)(?:=[^`]*)?`", text):
        if not name.startswith("SERVICE_") and name not in ("GET", "POST"):
            assert f"${{{name}:" in COMPOSE + SWARM or f"$({name})" in MAKEFILE, name


def test_the_job_knows_its_options() -> None:
    pytest.importorskip("pyarrow", reason="pyarrow, of the extra ray, is not installed")
    script = ROOT / "deploy" / "ray" / "score.py"
    help_text = subprocess.run(
        [sys.executable, str(script), "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ).stdout
    for command in (each for each in commands() if "score.py" in each):
        assert all(word in help_text for word in split(command)[1] if word.startswith("--"))


def test_the_flags_are_settings() -> None:
    text = PAGES[0].read_text(encoding="utf-8")
    flags = {flag(name) for name in Settings.model_fields}
    assert {"--provider", "--strict"} <= flags & set(re.findall(r"--[a-z-]+", text))
