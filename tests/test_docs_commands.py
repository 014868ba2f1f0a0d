"""What the README and the pages beside the four folders show: each command is one that can be given, and is given where
that takes no more than a few of the examples. `tests/test_docs.py` runs those of the other pages.
"""

from __future__ import annotations

import csv
import gzip
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.integration.conftest import ROOT, Process, served
from tests.test_docs import ADDRESS, DOCS, OWN, environment

__all__ = ["served"]

ELSEWHERE = {"deployment.md", "scaling.md", "security.md", "gradients.md", "next-model.md"}
"""Pages whose commands tests of their own run."""
README = ROOT / "README.md"
PAGES = [README, *(page for page in sorted(DOCS.rglob("*.md")) if page not in OWN and page.name not in ELSEWHERE)]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"`(\.venv/bin/python -m [^`]+)`")
OURS = ".venv/bin/python -m "
PIP = OURS + "pip install --constraint constraints.txt "


def commands() -> list[str]:
    """Every command, those in running text too; a line that goes on below is one with it."""
    found: list[str] = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        blocks = [code for language, code in _BLOCK.findall(text) if language == "sh"]
        lines = "".join(blocks).replace("\\\n", " ").splitlines()
        found += [
            *(line.strip() for line in lines if line.strip()),
            *(" ".join(each.split()) for each in _INLINE.findall(text)),
        ]
    return list(dict.fromkeys(found))


COMMANDS = commands()


def test_every_command_is_of_a_kind_that_is_tried() -> None:
    kinds = ("make ", "curl ", "python -m benchmarks", OURS + "training ", OURS + "service ", PIP)
    assert [command for command in COMMANDS if not command.startswith(kinds)] == []
    assert len(COMMANDS) > 10


@pytest.mark.parametrize("command", [each for each in COMMANDS if each.startswith("make ")])
def test_a_target_of_make(command: str) -> None:
    if shutil.which("make") is None:
        pytest.skip("there is no make here")
    words = shlex.split(command, comments=True)
    done = subprocess.run(["make", "--dry-run", *words[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", [each for each in COMMANDS if each.startswith("python -m benchmarks")])
def test_a_benchmark_knows_its_options(command: str) -> None:
    _, _, module, *words = shlex.split(command, comments=True)
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert all(word in done.stdout for word in words)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the commands name, small ones, and a Python of that name."""
    folder = tmp_path_factory.mktemp("commands")
    examples = ROOT / "examples"
    for name in ("my-train.conll", "my-dev.conll", "my-test.conll"):
        sentences = (examples / "ner" / "dev.conll").read_text(encoding="utf-8").split("\n\n")[:40]
        (folder / name).write_text("\n\n".join(sentences) + "\n", encoding="utf-8")
    with (examples / "sentiment" / "dev.tsv").open(encoding="utf-8") as file:
        rows = list(csv.reader(file, quoting=csv.QUOTE_NONE, delimiter="\t"))[:40]
    for name in ("mine.csv", "mine-dev.csv"):
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(rows)
    with gzip.open(folder / "reviews.csv.gz", "wt", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["body"], *([text] for text, _ in rows[1:])])
    words = {word for text, _ in rows[1:] for word in text.lower().split()}
    numbers = " ".join(["0.1"] * 100)
    (folder / "glove.6B.100d.txt").write_text(
        "".join(f"{word} {numbers}\n" for word in sorted(words)), encoding="utf-8"
    )
    shutil.copytree(ROOT / "models" / "sentiment-bilstm", folder / "models" / "sentiment-bilstm")
    program = folder / ".venv" / "bin" / "python"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    (folder / "bin").mkdir()
    return folder


@pytest.mark.timeout(600)
def test_what_our_programs_are_asked_runs(place: Path) -> None:
    """One after the other, for later ones read what earlier ones wrote; a single epoch each."""
    asked = [command for command in COMMANDS if command.startswith(OURS) and not command.startswith(PIP)]
    assert {command.split()[3] for command in asked} >= {"fit", "evaluate", "predict"}
    for command in asked:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=place,
            env={**environment(place), "TRAINING_FIT_EPOCHS": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


def test_what_is_installed_for_the_snippets_is_what_they_import() -> None:
    """Installing takes a network: the names are held against what is pinned, and what the page goes on to use."""
    (command,) = [each for each in COMMANDS if each.startswith(PIP)]
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8").replace("-", "_")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    asked = [word for word in shlex.split(command.removeprefix(PIP)) if word != "--editable"]
    assert {"huggingface_hub", "tritonclient[http]", ".[client]"} == set(asked)
    for word in asked:
        name, _, extra = word.rstrip("]").partition("[")
        assert extra in extras if name == "." else f"\n{name}==" in pinned
    text = README.read_text(encoding="utf-8")
    assert text.index(PIP) < text.index("from huggingface_hub import") < text.index("from service.client import")


@pytest.mark.parametrize("code", [code for kind, code in _BLOCK.findall(README.read_text("utf-8")) if kind == "python"])
def test_a_snippet_of_the_readme(code: str, served: Process, tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    done = subprocess.run(
        [sys.executable, "-c", code.replace(ADDRESS, served.url)],
        cwd=tmp_path,
        env=environment(ROOT),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
