"""Writing bundles: what the service would refuse replaces nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from service.errors import BundleError
from service.model.bundle import CARD, MANIFEST, Score, load, versions
from service.model.engine import Engine
from tests.bundles import tiny_bundle
from training.cli import app
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


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("my model", "'my model' is no model name"),
        ("models/3", "models/3 has the name of a version, which is added by itself: name models/NAME"),
        ("file", "file is a file: name a folder, models/NAME"),
    ],
)
@pytest.mark.parametrize("line", ["export ours", "retokenize ours --tokenizer web", "fit --task sentiment"])
def test_a_folder_that_can_hold_no_version_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, name: str, reason: str
) -> None:
    def predict(*_: object) -> None:
        pytest.fail("it has begun its work")

    monkeypatch.chdir(tmp_path)
    tiny_bundle(Path("ours"))
    Path("file").touch()
    monkeypatch.setattr(Engine, "predict", predict)
    more = ["--train", "none.tsv", "--dev", "none.tsv"] if line.startswith("fit") else []
    done = CliRunner().invoke(app, [*line.split(), *more, "--out", name])
    assert isinstance(done.exception, BundleError)
    assert str(done.exception).startswith(reason)
    assert {each.name for each in tmp_path.iterdir()} == {"ours", "file"}


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
