"""Recipes that make training data: names, vectors, negation, and the figures over domains."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import numpy as np
import pytest

from recipes import domains, names, negation, vectors
from service.model.bundle import versions
from tests.bundles import tiny_bundle
from tests.integration.conftest import ROOT
from training.data.corpora import Example, read
from training.data.corpora import tagged as corpora_of_tags
from training.data.vectors import Vectors
from training.data.vectors import load as load_vectors
from training.distil import mixture


def _conll(folder: Path, name: str, text: str, split: str = "train") -> None:
    (folder / name).mkdir(exist_ok=True)
    (folder / name / f"{split}.conll").write_text(text, "utf-8")


@pytest.fixture
def corpora(tmp_path: Path) -> Path:
    american = "An\tO\nAmerican\tB-MISC\nsang\tO\n\n" * 3
    _conll(tmp_path, "uner-ewt", "Ada\tB-PER\nleft\tO\n\nHeld\tO\nout\tO\n.\tO\n")
    _conll(tmp_path, "worldwide-news", american + "In\tO\nLagos\tB-LOC\n")
    _conll(tmp_path, "fewnerd-wiki", "American\tB-LOC\nSamoa\tI-LOC\n\nAmerican\tB-LOC\nmusic\tO\n\nRome\tB-LOC\n")
    _conll(tmp_path, "crossner", "Emacs\tB-MISC\nby\tO\nGNU\tB-ORG\n")
    _conll(tmp_path, "btc", "@\tO\nada\tB-PER\n\nParis\tB-LOC\n")
    _conll(tmp_path, "wnut17", "Acme\tB-corporation\nphone\tB-product\n")
    _conll(tmp_path, "tweebank", "in\tO\nOslo\tB-LOC\n")
    for name in names.MEASURED:
        _conll(tmp_path, name, f"dev\tO\nof\tO\n{name.title()}\tB-MISC\n\nheld\tO\nout\tO\n", "dev")
    return tmp_path


@pytest.fixture(autouse=True)
def no_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """No copies in lower or upper case, but where a test makes them itself."""
    monkeypatch.setattr(names, "cased", lambda examples, generator: [])


_cased = names.cased


def _by_source(folder: Path) -> dict[str, tuple[list[Example], int]]:
    return {name: (sentences, aside) for name, sentences, aside in names.mixture(folder)}


def test_names_keep_three_types_and_no_sentence_of_a_dev_file(corpora: Path) -> None:
    made = _by_source(corpora)
    assert set(made) == set(names.SOURCES)
    kinds = {tag[2:] for sentences, _ in made.values() for each in sentences for tag in each.label}
    assert kinds == {"", "LOC", "ORG", "PER"}
    assert made["uner-ewt"] == ([Example(("Ada", "left"), ("B-PER", "O"))], 1)
    assert [each.label for each in made["btc"][0]] == [("B-LOC",)]
    assert made["wnut17"][0][0].label == ("B-ORG", "O")
    assert len(made["tweebank"][0]) == 3
    assert names.held_out(corpora) >= {"heldout"}


def test_a_nationality_is_no_place_in_few_nerd_and_a_longer_name_stays(corpora: Path) -> None:
    labels = [each.label for each in _by_source(corpora)["fewnerd-wiki"][0]]
    assert labels == [("B-LOC", "I-LOC"), ("O", "O"), ("B-LOC",)]


def test_copies_in_lower_and_upper_case_keep_their_tags() -> None:
    example = Example(("Ada", "Lovelace"), ("B-PER", "I-PER"))
    copies = _cased([example] * 2000, random.Random(1))
    forms = [each.value for each in copies]
    assert {each.label for each in copies} == {example.label}
    assert forms.count(("ada", "lovelace")) / 2000 == pytest.approx(names.LOWER, abs=0.03)
    assert forms.count(("ADA", "LOVELACE")) / 2000 == pytest.approx(names.UPPER, abs=0.02)


def test_words_that_one_source_lacks_are_guessed_from_the_other() -> None:
    generator = np.random.default_rng(3)
    first = generator.normal(size=(300, 6)).astype(np.float32)
    second = (first @ generator.normal(size=(6, 8))).astype(np.float32)
    names_ = [f"w{number}" for number in range(300)]
    words, left, right = vectors.merged(
        Vectors(names_[:280], first[:280]),
        Vectors([*names_[:200], *names_[280:]], second[[*range(200), *range(280, 300)]]),
    )
    assert words == names_
    assert np.allclose(right[200:280], second[200:280], atol=0.3)
    assert np.allclose(left[280:], first[280:], atol=0.3)


def test_vectors_are_written_as_training_reads_them(tmp_path: Path) -> None:
    matrix = np.random.default_rng(1).normal(size=(50, 7)).astype(np.float32)
    both = vectors.side_by_side(matrix, matrix[:, :3], 4, common=40)
    vectors.write(tmp_path / "x.npz", [f"w{number}" for number in range(50)], both)
    found = load_vectors(tmp_path / "x.npz")
    assert found.words[49] == "w49"
    assert np.allclose(found.matrix, both, atol=2e-3)
    assert both.shape == (50, 4)


def test_negated_sentences_are_written_without_those_of_dev_files(tmp_path: Path) -> None:
    (tmp_path / "some").mkdir()
    rows = negation.write(tmp_path, 40, 50)
    assert 40 < rows < 90
    examples = read(tmp_path / "negation" / "train.tsv.gz", "sentiment")
    assert len(examples) == rows
    for number, text in enumerate((examples[0].value, examples[-1].value), 1):  # of a pattern, and a rating
        with (tmp_path / "some" / "dev.tsv").open("a", encoding="utf-8") as file:
            file.write("text\tlabel\n" * (number == 1) + f"{str(text).upper()}\tpositive\n")
        assert negation.write(tmp_path, 40, 50) == rows - number
        with gzip.open(tmp_path / "negation" / "train.tsv.gz", "rt", encoding="utf-8") as file:
            assert str(text) not in file.read()


def test_a_taggers_figures_have_the_calibration_of_common_types(tmp_path: Path) -> None:
    tiny_bundle(tmp_path / "models" / "m", task="ner")
    folder = tmp_path / "ner" / "tweebank"
    folder.mkdir(parents=True)
    (folder / "dev.conll").write_text("Ada\tB-PER\nran\tO\n\nIn\tO\nLatin\tB-MISC\n\n" * 9, "utf-8")
    everything: domains.Figures = {}
    domains.add(tmp_path / "models" / "m", tmp_path, everything)
    (figures,) = next(iter(everything["m"].values())).values()
    assert {"calibration_error", "calibration_by_chance", "raw_calibration_error"} <= set(figures)
    lines = list(domains.calibration(everything))
    assert len(lines) == 6
    assert lines[-1].startswith(f"| `m` 1 | tweebank dev | 18 | {100 * figures['calibration_error']:.1f} |")


def test_entities_of_types_that_the_corpora_do_not_share_are_not_counted(tmp_path: Path) -> None:
    """Random weights that know no other type: every entity that they find is left out, as is the data's own."""
    bundle = tiny_bundle(tmp_path / "m", task="ner", labels=("O", "B-MISC"))
    for name, tag in (("uner-ewt", "B-PER"), ("tweebank", "B-MISC")):
        (tmp_path / "ner" / name).mkdir(parents=True)
        (tmp_path / "ner" / name / "dev.conll").write_text(f"Ada\t{tag}\nran\tO\n\nLatin\t{tag}\n", "utf-8")
    found = dict(domains.figures(bundle, tmp_path))
    assert set(found) == {"uner-ewt dev", "tweebank dev"}
    for figures in found.values():
        assert not {"calibration_error", "raw_calibration_error"} & set(figures)
        assert figures["f1"] == figures["raw_f1"] == 0.0


def test_the_last_version_stands_in_the_table_of_calibration() -> None:
    old = {"a dev": {"inputs": 5.0, "accuracy": 0.5, "calibration_error": 0.1, "calibration_by_chance": 0.05}}
    new = {"a dev": {"inputs": 5, "accuracy": 0.5, "calibration_error": 0.022, "calibration_by_chance": 0.031}}
    lines = list(domains.calibration({"m": {"9": old, "10": new, "2": old}, "n": {"1": {"b dev": {"inputs": 1}}}}))
    assert lines[5:] == ["| `m` 10 | a dev | 5 | 2.2 | 3.1 |  |  |"]


def test_figures_of_each_version_are_kept_by_domain(tmp_path: Path) -> None:
    tiny_bundle(tmp_path / "models" / "m", task="sentiment")
    folder = tmp_path / "sentiment" / "toys"
    folder.mkdir(parents=True)
    (folder / "dev.tsv").write_text("text\tlabel\na b\tnegative\nc d\tpositive\n", "utf-8")
    (tmp_path / "sentiment" / "three").mkdir()
    (tmp_path / "sentiment" / "three" / "dev.tsv").write_text("text\tlabel\na\tneutral\nb\tpositive\n", "utf-8")
    everything: domains.Figures = {"m": {"0": {"old dev": {"accuracy": 0.5}}}}
    line = domains.add(tmp_path / "models" / "m", tmp_path, everything)
    version = str(versions(tmp_path / "models" / "m")[-1])
    assert set(everything["m"]) == {"0", version}
    assert set(everything["m"][version]) == {"toys dev"}
    assert everything["m"][version]["toys dev"]["inputs"] == 2
    assert "of 1" in line
    assert json.loads(json.dumps(everything)) == everything


@pytest.mark.parametrize("name", ["names", "news", "student", "teacher", "transfer", "tweets"])
def test_every_mixture_names_data_below_the_folder(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("DATA", "/data")
    loaded = mixture.load(ROOT / "recipes" / f"{name}.toml")
    files = [source.file for source in loaded.source]
    assert all(file.is_relative_to("/data") for file in (*files, *loaded.held_out))
    assert not set(files) & set(loaded.held_out), "what is held out teaches nothing"
    if name in ("names", "news"):
        assert loaded.source[1].joined
        assert all(corpora_of_tags(file) for file in loaded.held_out)
        measured = {f"/data/ner/{corpus}/dev.conll" for corpus in domains.TAGGED}
        assert measured <= {str(file) for file in loaded.held_out}, "no figure may be of texts that taggers labelled"
