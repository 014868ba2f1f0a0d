"""Bundles with the same weights hold them once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from service.model import bundle as bundles
from service.model.bundle import MANIFEST, Bundle
from service.model.loading import loader
from tests.bundles import tiny_bundle


def address(model: Any) -> int:
    """Where the first of the weights lies that the model's sessions use."""
    return next(int(value.data_ptr()) for value in model.engine._lent if value.data_ptr())


def copy(bundle: Bundle, version: int, **changes: object) -> Bundle:
    """The same files as another version, with another manifest."""
    folder = bundle.path.parent / str(version)
    shutil.copytree(bundle.path, folder)
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, **changes}))
    return bundles.load(folder)


def test_versions_with_the_same_weights_share_them(tmp_path: Path) -> None:
    load = loader("cpu", 1, 100)
    first = tiny_bundle(tmp_path / "one")
    one, two = load(first), load(copy(first, 2, temperature=2.0))
    other = load(tiny_bundle(tmp_path / "other", seed=8))
    assert one.engine is not two.engine
    assert address(one) == address(two) != address(other)
    rows = [np.zeros((3, 1), np.int32)]
    np.testing.assert_array_equal(one.engine.predict(rows), two.engine.predict(rows))


def test_versions_with_the_same_files_share_everything_but_their_names(tmp_path: Path) -> None:
    load = loader("cpu", 1, 100)
    first = tiny_bundle(tmp_path / "one")
    one, two = load(first), load(copy(first, 2))
    assert load(bundles.load(first.path)).engine is one.engine
    # json.dumps writes another manifest, so the digest differs; the very same bytes under another number do not.
    shutil.copytree(first.path, first.path.parent / "3")
    three = load(bundles.load(first.path.parent / "3"))
    assert three.engine is one.engine
    assert three.engine is not two.engine
    assert (one.version, three.version) == ("1", "3")
