"""Writing bundles: what the service would refuse replaces nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.errors import BundleError
from service.model.bundle import CARD, MANIFEST, Score, load, versions
from tests.bundles import tiny_bundle
from training.export import writing
from training.export.writing import replace_manifest, save


def test_a_manifest_that_the_service_refuses_leaves_the_bundle_as_it_was(tmp_path: Path) -> None:
    made = tiny_bundle(tmp_path / "tiny")
    before = {each.name: each.read_bytes() for each in made.path.iterdir()}
    scores = tuple(Score(data=f"set {number}", metric="accuracy", value=0.5, examples=1) for number in range(257))
    with pytest.raises(BundleError, match=f"{MANIFEST}: quality: .* at most 256"):
        replace_manifest(made, made.manifest.model_copy(update={"quality": scores}), {CARD: b"Another card.\n"})
    assert {each.name: each.read_bytes() for each in made.path.iterdir()} == before
    assert [each.name for each in made.path.parent.iterdir()] == [made.path.name]
    assert len(replace_manifest(made, made.manifest.model_copy(update={"quality": scores[1:]})).manifest.quality) == 256
    assert load(made.path).file(CARD).read_bytes() == before[CARD]


def test_a_version_that_another_process_has_written_meanwhile_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tiny_bundle(tmp_path / "tiny")
    folder, there = made.path.parent, versions(made.path.parent)
    highest = iter([[], there])  # before and after the other process has written
    monkeypatch.setattr(writing, "versions", lambda _: next(highest))
    assert save(folder, made.manifest, made.path).version == made.version + 1
    assert load(made.path).digest == made.digest


def test_a_version_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    made = tiny_bundle(tmp_path / "tiny")
    (made.path.parent / "2").write_text("a file")
    with pytest.raises(OSError, match="2"):
        save(made.path.parent, made.manifest, made.path)
    assert sorted(each.name for each in made.path.parent.iterdir()) == ["1", "2"]
