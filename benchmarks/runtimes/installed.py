"""The runtimes, and how each is set up in an environment of its own, outside of the project's folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["own", "python", "node", "browser"]
WORKER = Path(__file__).with_name("worker.py")
WEB_WORKER = Path(__file__).with_name("worker.mjs")
WEB = "onnxruntime-web@1.30.0"
INSTALL_SECONDS = 600.0


class NotInstalled(Exception):
    """A runtime cannot be set up here; the message says why."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """One row of the table. `loader` is its function in worker.py. pip installs `packages` with one of the `pythons`,
    and those of `alone` without their dependencies. A runtime without packages is part of the project's own
    environment."""

    name: str
    kind: Kind
    loader: str = ""
    packages: tuple[str, ...] = ()
    pythons: tuple[str, ...] = ()
    alone: tuple[str, ...] = ()


BASELINE = Runtime("ONNX Runtime", "own", "onnxruntime")
RUNTIMES = (
    BASELINE,
    Runtime(
        "ONNX Runtime, oldest for opset 13",
        "python",
        "onnxruntime",
        ("onnxruntime==1.6.0", "numpy<1.24", "protobuf<4"),
        ("python3.8", "python3.7"),
    ),
    Runtime("OpenVINO", "python", "openvino", ("openvino==2026.4.1", "numpy>=2,<3")),
    Runtime("tract", "python", "tract", ("tract==0.23.9", "numpy>=2,<3")),
    Runtime("MNN", "python", "mnn", ("mnn==3.6.1", "numpy>=2,<3")),
    Runtime(
        "IREE",
        "python",
        "iree",
        ("iree-base-compiler==3.13.0", "iree-base-runtime==3.13.0", "onnx==1.23.2", "sympy==1.14.0", "numpy>=2,<3"),
    ),
    Runtime("Apache TVM", "python", "tvm", ("apache-tvm==0.27.0.post1", "onnx==1.23.2", "numpy>=2,<3")),
    # pnnx requires torch, for its Python functions; its program needs none.
    Runtime("ncnn", "python", "ncnn", ("ncnn==1.0.20261020", "onnx==1.23.2", "numpy>=2,<3"), alone=("pnnx==20261020",)),
    Runtime("onnx reference evaluator", "own", "onnx"),
    Runtime("ONNX Runtime Web, Node", "node"),
    Runtime("ONNX Runtime Web, Chromium", "browser"),
)


def cache() -> Path:
    """The folder of the environments: GATELIGHT_RUNTIMES, or one below the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("GATELIGHT_RUNTIMES") or Path(home) / "gatelight-runtimes")


def environment(runtime: Runtime) -> Path:
    """A runtime's environment, which may not exist yet. Its name has the versions: a new pin gets a new one."""
    packages = "-".join((WEB,) if runtime.kind in ("node", "browser") else runtime.packages + runtime.alone)
    return cache() / "".join(letter if letter.isalnum() or letter in ".-" else "_" for letter in packages)


def is_installed(runtime: Runtime) -> bool:
    return runtime.kind == "own" or (environment(runtime) / "complete").exists()


def command(runtime: Runtime) -> list[str]:
    """The command line of a runtime's worker; a browser's worker is no program."""
    if runtime.kind == "node":
        return ["node", str(WEB_WORKER), str(environment(runtime))]
    own = runtime.kind == "own"
    python = sys.executable if own else str(environment(runtime) / "bin" / "python")
    return [python, str(WORKER), runtime.loader]


def install(runtime: Runtime) -> None:
    """Set up a runtime's environment, once. Raises `NotInstalled`."""
    if runtime.kind == "browser" and not chromium():
        raise NotInstalled("there is no chromium on the path")
    if is_installed(runtime):
        return
    folder = environment(runtime)
    if runtime.kind in ("node", "browser"):
        _need("node", "npm")
        folder.mkdir(parents=True, exist_ok=True)
        _run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder), WEB])
    else:
        _run([_python(runtime.pythons), "-m", "venv", "--clear", str(folder)])
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([*pip, "--only-binary", ":all:", *runtime.packages])
        if runtime.alone:
            _run([*pip, "--only-binary", ":all:", "--no-deps", *runtime.alone])
    (folder / "complete").touch()


def chromium() -> str | None:
    return next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )


def _python(wanted: Sequence[str]) -> str:
    """The first of the interpreters that starts, on the path or among pyenv's; our own where none is wanted."""
    if not wanted:
        return sys.executable
    versions = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    for name in wanted:
        others = sorted(map(str, versions.glob(f"{name.removeprefix('python')}.*/bin/{name}")), reverse=True)
        for path in (shutil.which(name), *others):
            if path and not subprocess.run([path, "--version"], capture_output=True, check=False).returncode:  # noqa: S603  # programs of this table, no shell
                return path
    raise NotInstalled(f"its wheels are for {' or '.join(wanted)}, which is not here")


def _need(*programs: str) -> None:
    if missing := [each for each in programs if not shutil.which(each)]:
        raise NotInstalled(f"{' and '.join(missing)} is not here")


def _run(arguments: Sequence[str]) -> None:
    try:
        done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=INSTALL_SECONDS)  # noqa: S603  # programs of this table, no shell
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstalled(f"{arguments[0]} failed: {error}") from error
    if done.returncode:
        lines = [line for line in f"{done.stdout}\n{done.stderr}".splitlines() if line.strip()]
        raise NotInstalled(f"{Path(arguments[0]).name} failed: {lines[-1] if lines else done.returncode}")
