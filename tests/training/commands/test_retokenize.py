"""A bundle with other rules for raw text; and what style a corpus has, by command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from service.errors import BundleError
from service.model import bundle
from service.model.rules import Style
from service.model.tokenizer import Tokenizer
from tests.bundles import tiny_bundle
from tests.service.model.test_unit_cards import with_cards
from training.cli import app
from training.export import writing

RUN = CliRunner()


@pytest.mark.parametrize("style", ["conll", "ewt"])
def test_a_bundle_gets_the_rules_of_a_style_and_keeps_its_weights(tmp_path: Path, style: Style) -> None:
    old = tiny_bundle(tmp_path / "models" / "tagger", task="ner")
    rules = json.loads(old.file(bundle.TOKENIZER).read_text("utf-8"))
    rules["pre_tokenizer"]["pattern"]["Regex"] = r"\S+"
    old.file(bundle.TOKENIZER).write_text(json.dumps(rules), "utf-8")
    digests = {**old.manifest.files, bundle.TOKENIZER: writing.digest(old.file(bundle.TOKENIZER))}
    earlier = writing.replace_manifest(old, old.manifest.model_copy(update={"files": digests}))
    earlier = with_cards(earlier, metric="f1")
    with pytest.raises(BundleError, match="retokenize"):
        Tokenizer.load(earlier.file(bundle.TOKENIZER), earlier.manifest.features)
    data = tmp_path / "mine" / "dev.conll"
    data.parent.mkdir()
    label = earlier.manifest.labels[1]
    data.write_text(f"Ada\t{label}\nspoke\tO\n\n", "utf-8")
    done = RUN.invoke(app, ["retokenize", str(earlier.path), "--tokenizer", style, "--test", str(data)])
    assert done.exit_code == 0, done.output
    made = bundle.load(earlier.path.with_name(str(earlier.version + 1)))
    assert made.manifest.style == style
    assert Tokenizer.load(made.file(bundle.TOKENIZER), made.manifest.features).style == style
    for name in ("model.onnx", "trace.onnx", "weights.safetensors"):
        assert made.file(name).read_bytes() == earlier.file(name).read_bytes()
    assert bundle.UNITS not in made.manifest.files  # the cards are of the tokens that the old rules made
    assert f"cut in the style `{style}`" in made.file(bundle.CARD).read_text("utf-8")
    assert "mine dev" in {score.data for score in made.manifest.quality}
    assert made.manifest.quality[: len(earlier.manifest.quality)] == earlier.manifest.quality


def test_the_style_of_a_corpus(tmp_path: Path) -> None:
    tagged, table = tmp_path / "news.conll", tmp_path / "texts.tsv"
    tagged.write_text("an\tO\nall-rounder\tO\n,\tO\n6-3\tO\n\n", "utf-8")
    table.write_text("text\tlabel\nIt 's well-acted .\tgood\n", "utf-8")
    done = RUN.invoke(app, ["tokens", "--data", str(tagged), "--data", str(table), "--json"])
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == 8
    assert [row["come_back"] for row in rows if row["style"] == "conll"] == [1.0, 1.0]
    assert [row["come_back"] for row in rows if row["style"] == "web"] == [0.0, 0.0]
    assert RUN.invoke(app, ["tokens", "--data", str(tagged)]).exit_code == 0
