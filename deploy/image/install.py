"""Makes /opt/venv, an environment without pip, from a list of requirements, and takes out of it what is never run.

    python install.py REQUIREMENTS [--pip-option …]

Wheels alone: the base has no compiler, and needs none.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator, Mapping
from importlib.metadata import Distribution, distributions
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement
from pip._vendor.packaging.utils import NormalizedName, canonicalize_name

VENV = Path("/opt/venv")
PIP = [sys.executable, "-m", "pip", "--python", str(VENV / "bin/python"), "--disable-pip-version-check"]
UNUSED = ("huggingface-hub",)
"""Required by tokenizers for downloads from the Hub, which the service never makes; with all that only it requires."""
FOLDERS = (
    *("onnxruntime/transformers", "onnxruntime/quantization", "onnxruntime/tools", "onnxruntime/datasets"),
    *("onnxruntime/backend", "numpy/f2py", "numpy/distutils"),
)
"""Tools of libraries that nothing imports at run time."""
SUFFIXES = (".pyi", ".pyx", ".pxd", ".h")


def main(requirements: Path, *options: str) -> None:
    venv.create(VENV)
    install = ["install", "--quiet", "--no-cache-dir", "--only-binary", ":all:", "--requirement", str(requirements)]
    subprocess.run([*PIP, *install, "--constraint", "constraints.txt", *options], check=True)
    (site,) = VENV.glob("lib/python*/site-packages")
    if not requirements.name.startswith("train"):
        prune(site, requirements)
    for tests in [path for path in site.rglob("tests") if path.is_dir()]:
        shutil.rmtree(tests)


def prune(site: Path, requirements: Path) -> None:
    """Uninstall what only `UNUSED` requires, and remove `FOLDERS` and sources of compiled modules."""
    installed = {canonicalize_name(each.name): each for each in distributions(path=[str(site)])}
    wanted = [Requirement(line) for line in requirements.read_text("utf-8").split("\n") if line]
    needed = set(reached(installed, wanted))
    extra = sorted(installed.keys() - needed)
    subprocess.run([*PIP, "uninstall", "--quiet", "--yes", *extra], check=True)
    print(f"not in the image: {', '.join(extra)}")
    for folder in FOLDERS:
        shutil.rmtree(site / folder, ignore_errors=True)
    for path in [path for path in site.rglob("*") if path.suffix in SUFFIXES]:
        path.unlink()


def reached(installed: Mapping[NormalizedName, Distribution], wanted: list[Requirement]) -> Iterator[str]:
    """The names of the distributions that requirements lead to, without `UNUSED`."""
    waiting = [(each, "") for each in wanted]
    seen: set[tuple[str, str]] = set()
    while waiting:
        requirement, extra = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in UNUSED or (requirement.marker and not requirement.marker.evaluate({"extra": extra})):
            continue
        yield name
        for own in ("", *requirement.extras):
            if (name, own) not in seen:
                seen.add((name, own))
                waiting += [(Requirement(line), own) for line in installed[name].requires or ()]


main(Path(sys.argv[1]), *sys.argv[2:])
