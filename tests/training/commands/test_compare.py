"""`training compare`: taggers without entities, models that cannot be scored, and errors that name the bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from service.model.bundle import CARD, Bundle
from tests import corpora
from tests.bundles import tiny_bundle
from training.cli import app
from training.commands import compare as command
from training.scoring.evaluate import Report, of_bundle


def compared(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["compare", *map(str, arguments)])


def models_of(output: str) -> list[str]:
    return [json.loads(line)["model"] for line in output.splitlines()]


def test_a_tagger_without_entities_has_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundles = [tiny_bundle(tmp_path / name, task="ner", seed=seed) for seed, name in enumerate(("one", "none", "two"))]
    data = corpora.ner(tmp_path / "set" / "dev.conll")

    def scored(bundle: Bundle, *rest: Any) -> Report:
        report = of_bundle(bundle, *rest)
        if bundle == bundles[1]:
            report.metrics.clear()
            report.metrics.update(precision=0.0, recall=0.0, f1=0.0)
        return report

    monkeypatch.setattr(command, "of_bundle", scored)
    for order in ((0, 1, 2), (1, 0, 2), (2, 1, 0), (1,)):
        result = compared(*(bundles[number].path for number in order), "--data", data)
        assert result.exit_code == 0, result.output
        (row,) = [line for line in result.stdout.splitlines() if "none/1" in line]
        assert row.count("0.0000") == 3
        assert ("–" in row) == (len(order) > 1), "no calibration error beside those that have one"


def test_a_model_that_cannot_be_scored_is_named_and_left_out(tmp_path: Path) -> None:
    data = corpora.sentiment(tmp_path / "set" / "dev.tsv")
    good, damaged = tiny_bundle(tmp_path / "good"), tiny_bundle(tmp_path / "damaged")
    damaged.file(CARD).write_text("altered", "utf-8")
    other = tiny_bundle(tmp_path / "other")
    text = (other.path / "model.json").read_text("utf-8")
    (other.path / "model.json").write_text(text.replace('"positive"', '"fine"'), "utf-8")
    result = compared(damaged.path, other.path, good.path, tmp_path / "nowhere", "--data", data, "--json")
    assert result.exit_code == 0, result.output
    assert models_of(result.stdout) == ["good"]
    told = [line for line in result.stderr.splitlines() if line.startswith("left out: ")]
    assert len(told) == 3
    for name in ("damaged", "other", "nowhere"):
        assert [line for line in told if name in line], name
    assert "which has negative, fine" in next(line for line in told if "other" in line)


def test_when_no_model_is_left_it_fails(tmp_path: Path) -> None:
    data = corpora.sentiment(tmp_path / "set" / "dev.tsv")
    result = compared(tmp_path / "nowhere", tmp_path / "neither", "--data", data)
    assert result.exit_code == 1
    assert "none of the 2 models can be scored" in str(result.exception)


def test_data_that_cannot_be_read_end_it(tmp_path: Path) -> None:
    bundles = [tiny_bundle(tmp_path / name).path for name in ("one", "two")]
    result = compared(*bundles, "--data", tmp_path / "none.tsv")
    assert result.exit_code == 1
    assert "none.tsv: it cannot be read" in str(result.exception)


@pytest.mark.parametrize("name", ["evaluate", "predict", "robustness", "gate-statistics"])
def test_an_error_names_the_bundle(tmp_path: Path, name: str) -> None:
    data = corpora.sentiment(tmp_path / "set" / "dev.tsv")
    bundle = tiny_bundle(tmp_path / "damaged")
    bundle.file(CARD).write_text("altered", "utf-8")
    result = CliRunner().invoke(app, [name, str(bundle.path.parent), "--data", str(data)])
    assert result.exit_code == 1
    assert "damaged/1: README.md does not match" in str(result.exception)


@pytest.mark.parametrize("name", ["evaluate", "predict", "robustness"])
def test_a_label_that_a_bundle_has_not_names_the_bundle(tmp_path: Path, name: str) -> None:
    (tmp_path / "dev.tsv").write_text("text\tlabel\na film\tneutral\n", "utf-8")
    bundle = tiny_bundle(tmp_path / "binary")
    result = CliRunner().invoke(app, [name, str(bundle.path), "--data", str(tmp_path / "dev.tsv")])
    assert result.exit_code == 1
    assert "the label 'neutral' is not in binary version 1, which has negative, positive" in str(result.exception)
