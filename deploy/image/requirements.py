"""Writes what pyproject.toml asks for as NAME.txt, one file for each image: its layer of packages is made again when
its own list changes, and not for any other line of pyproject.toml."""

from __future__ import annotations

import tomllib
from pathlib import Path

IMAGES = {"cpu": ("cpu",), "cuda": ("cuda",), "train": ("cpu", "training")}
"""Image → extras."""

project = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))["project"]
for image, extras in IMAGES.items():
    lines = list(project["dependencies"])
    for extra in extras:
        lines += project["optional-dependencies"][extra]
    Path(f"{image}.txt").write_text("\n".join(lines) + "\n", "utf-8")
