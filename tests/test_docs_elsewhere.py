"""The snippets of the page on other runtimes, each in its runtime's environment where that is set up."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from benchmarks.runtimes.installed import RUNTIMES, Runtime, environment, is_installed
from tests.bundles import tiny_bundle
from tests.test_docs import DOCS
from training.export.portable import write

PAGE = (DOCS / "how-to" / "elsewhere.md").read_text(encoding="utf-8")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with the files that the page's first snippets write."""
    write(tiny_bundle(tmp_path / "models" / "reviews"), tmp_path / "sentiment.onnx")
    tokens, lengths = np.ones((2, 3, 1), np.int32), np.array([3, 1], np.int32)
    np.savez(tmp_path / "texts.npz", tokens=tokens, lengths=lengths)
    return tmp_path


def here(runtime: Runtime) -> Path:
    if not is_installed(runtime):
        pytest.skip(f"{runtime.name} is not installed (python -m benchmarks runtimes sets it up)")
    return environment(runtime)


def run(place: Path, *arguments: str, **variables: str) -> str:
    done = subprocess.run(
        arguments, cwd=place, env={**os.environ, **variables}, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["openvino", "tract"])
def test_python_snippets_run_where_their_runtime_is(place: Path, name: str) -> None:
    (code,) = re.findall(rf"<!-- not run: needs {name} -->\n```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    (runtime,) = (each for each in RUNTIMES if each.kind == "python" and each.loader == name)
    assert re.fullmatch(r"\[[01] [01]\]\n", run(place, str(here(runtime) / "bin" / "python"), "-c", code))


def test_the_snippets_for_mnn_run_where_it_is(place: Path) -> None:
    (runtime,) = (each for each in RUNTIMES if each.loader == "mnn")
    programs = here(runtime) / "bin"
    (command,) = re.findall(r"```text\n(mnnconvert .*?)\n```$", PAGE, re.DOTALL | re.MULTILINE)
    (code,) = re.findall(r"<!-- not run: needs mnn -->\n```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    pip = place / "pip"  # the converter calls pip by itself, to install more packages
    pip.write_text("#!/bin/sh\nexit 1\n")
    pip.chmod(0o700)
    run(place, str(programs / "mnnconvert"), *command.split()[1:], PATH=f"{place}{os.pathsep}{os.environ['PATH']}")
    last = run(place, str(programs / "python"), "-c", code).splitlines()[-1]
    assert re.fullmatch(r"\[[01] [01]\]", last)


def test_the_snippet_for_the_web_runs_in_node(place: Path) -> None:
    (code,) = re.findall(r"```text\n(const ort.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    (runtime,) = (each for each in RUNTIMES if each.kind == "node")
    modules = here(runtime) / "node_modules"
    if not shutil.which("node"):
        pytest.skip("node is not installed")
    (place / "run.cjs").write_text(code)
    assert run(place, "node", "run.cjs", NODE_PATH=str(modules)).startswith("[ 2, 2 ]")


def test_every_key_of_the_metadata_is_described(place: Path) -> None:
    import onnx

    names = {each.key for each in onnx.load(place / "sentiment.onnx").metadata_props}
    missing = [name for name in names if f"`{name}`" not in PAGE]
    assert missing == []
