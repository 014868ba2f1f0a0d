"""``training distil``: mixtures drawn as tables; what needs a teacher says what is missing."""

from __future__ import annotations

import gzip
import importlib.util
import json
from pathlib import Path

import click
import pytest

from tests.bundles import tiny_bundle
from training.cli import app
from training.commands.distil import distil
from training.data.corpora import CorpusError, read
from training.errors import TrainingError


@pytest.fixture
def mixture(tmp_path: Path) -> Path:
    rows = [("fine", "positive"), ("drab", "negative"), ("so so", "neutral"), ("held out", "positive")]
    table = "text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in rows)
    (tmp_path / "train.tsv").write_text(table, "utf-8")
    (tmp_path / "dev.tsv").write_text("text\tlabel\nHeld out!\tpositive\n", "utf-8")
    path = tmp_path / "mixture.toml"
    path.write_text(
        f'held_out = ["{tmp_path}/dev.tsv"]\n[[source]]\nfile = "{tmp_path}/train.tsv"\nrows = 3\n', "utf-8"
    )
    return path


@pytest.mark.parametrize(("options", "kept"), [([], {"fine", "drab"}), (["--neutral"], {"fine", "drab", "so so"})])
def test_a_mixture_is_drawn_as_a_table(
    tmp_path: Path, mixture: Path, options: list[str], kept: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "drawn" / "train.tsv.gz"
    arguments = ["draw", "--mixture", str(mixture), "--out", str(out), *options]
    distil.main(arguments, standalone_mode=False)
    assert {example.value for example in read(out, "sentiment")} == kept
    dropped = "note: 1 of 3 rows are set aside: they are neutral (--neutral keeps them)"
    assert (dropped in " ".join(capsys.readouterr().err.split())) == (not options)
    first = out.read_bytes()
    distil.main(arguments, standalone_mode=False)
    assert gzip.decompress(out.read_bytes()) == gzip.decompress(first)


def test_rows_without_a_label_are_counted(tmp_path: Path, mixture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plain.txt").write_text("one\n\u200b\nand more\n", "utf-8")
    mixture.write_text(f'{mixture.read_text("utf-8")}[[source]]\nfile = "{tmp_path}/plain.txt"\nrows = 2\n', "utf-8")
    distil.main(["draw", "--mixture", str(mixture), "--out", str(tmp_path / "t.tsv.gz")], standalone_mode=False)
    told = " ".join(capsys.readouterr().err.split())
    assert f"note: {tmp_path}/plain.txt: 1 of 3 rows (line 2) are set aside: their text holds no token" in told
    assert "note: 2 of 5 rows are set aside: they have no label" in told


@pytest.mark.skipif(importlib.util.find_spec("transformers") is not None, reason="the extra distil is installed")
@pytest.mark.parametrize("command", ["teacher", "label"])
def test_without_the_extra_it_says_what_to_install(tmp_path: Path, mixture: Path, command: str) -> None:
    start = "--base" if command == "teacher" else "--teacher"
    arguments = [command, start, str(tmp_path), "--mixture", str(mixture), "--out", str(tmp_path / "out.jsonl.gz")]
    with pytest.raises(TrainingError, match="extra distil"):
        distil.main(arguments, standalone_mode=False)


@pytest.fixture
def names(tmp_path: Path) -> Path:
    """A mixture of unlabelled text, with a held-out sentence among it."""
    (tmp_path / "held.iob2").write_text("Held\tO\nout\tO\n.\tO\n", "utf-8")
    texts = [
        "Ada lived in London. It was very good!",
        "Held out. The film is n't bad , not bad .",
        "Ada Lovelace , Ada !",
    ]
    (tmp_path / "texts.txt").write_text("\n".join(texts), "utf-8")
    source = f'[[source]]\nfile = "{tmp_path}/texts.txt"\nrows = 3\njoined = true\n'
    path = tmp_path / "names.toml"
    path.write_text(f'held_out = ["{tmp_path}/held.iob2"]\n{source}', "utf-8")
    return path


def _tag(tmp_path: Path, mixture: Path, *options: str, models: tuple[str, ...] = ("one", "two")) -> Path:
    out = tmp_path / "labelled" / "train.jsonl.gz"
    given = [part for model in models for part in ("--model", str(tmp_path / model))]
    arguments = ["tag", *given, "--mixture", str(mixture), "--out", str(out), "--confidence", "0", "--without", "1"]
    distil.main([*arguments, *options], standalone_mode=False)
    return out


def test_taggers_label_what_fit_reads(
    tmp_path: Path, names: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed, name in enumerate(("one", "two")):
        tiny_bundle(tmp_path / name, task="ner", crf=True, seed=seed)
    out = _tag(tmp_path, names)
    values = {example.value for example in read(out, "ner")}
    assert values == {
        ("Ada", "lived", "in", "London", "."),
        ("It", "was", "very", "good", "!"),
        ("The", "film", "is", "n't", "bad", ",", "not", "bad", "."),
        ("Ada", "Lovelace", ",", "Ada", "!"),
    }
    lines = capsys.readouterr().err.splitlines()
    assert any("1 texts and sentences are held out" in line for line in lines)
    assert lines[-1].endswith("4 of 4 sentences, labelled by one version 1, two version 1")
    assert max(map(len, lines)) < 300, "a file has no width to fill"
    whole = gzip.decompress(out.read_bytes())
    _tag(tmp_path, names)
    assert gzip.decompress(out.read_bytes()) == whole


def test_a_file_begun_otherwise_is_not_continued(tmp_path: Path, names: Path) -> None:
    for seed, name in enumerate(("one", "two")):
        tiny_bundle(tmp_path / name, task="ner", crf=True, seed=seed)
    out = _tag(tmp_path, names)
    before = out.read_bytes()
    for options, models, said in (
        (("--confidence", "0.9"), ("one", "two"), "confidence was 0.0 and is 0.9"),
        (("--without", "0.5"), ("one", "two"), "without was 1.0 and is 0.5"),
        (("--lower", "1"), ("one", "two"), "lower was 0.0 and is 1.0"),
        (("--seed", "3"), ("one", "two"), "seed was 1 and is 3"),
        ((), ("one",), "models was one version 1 "),
        ((), ("two", "one"), "and is two version 1 "),
    ):
        with pytest.raises(CorpusError, match="begun with other settings") as raised:
            _tag(tmp_path, names, *options, models=models)
        assert said in str(raised.value)
        assert "remove it, or give another --out" in str(raised.value)
    tiny_bundle(tmp_path / "one", task="ner", crf=True, seed=5)
    with pytest.raises(CorpusError, match=r"is one version 2 \("):
        _tag(tmp_path, names)
    (tmp_path / "one" / "2").rename(tmp_path / "two" / "2")
    names.write_text(names.read_text("utf-8") + "\n# changed\n", "utf-8")
    with pytest.raises(CorpusError, match="begun with other settings"):
        _tag(tmp_path, names)
    assert out.read_bytes() == before


@pytest.mark.parametrize("ending", [".tsv", ".csv", ".jsonl", ".ndjson", ".csv.gz", ".jsonl.gz"])
def test_a_mixture_is_drawn_in_the_format_of_the_ending(tmp_path: Path, ending: str) -> None:
    text = 'fine, "so"\tit\nsaid  nothing'
    (tmp_path / "train.jsonl").write_text(json.dumps({"text": f" {text} ", "label": "positive"}), "utf-8")
    mixture = tmp_path / "mixture.toml"
    mixture.write_text(f'[[source]]\nfile = "{tmp_path}/train.jsonl"\nrows = 1\n', "utf-8")
    out = tmp_path / f"drawn{ending}"
    distil.main(["draw", "--mixture", str(mixture), "--out", str(out)], standalone_mode=False)
    assert out.read_bytes().startswith(b"\x1f\x8b") == ending.endswith(".gz")
    (drawn,) = read(out, "sentiment")
    assert drawn.value == (" ".join(text.split()) if ending == ".tsv" else text)


@pytest.mark.parametrize("command", ["label", "tag", "draw"])
def test_an_output_that_fit_would_not_read_is_refused(tmp_path: Path, mixture: Path, command: str) -> None:
    start = {"label": ["--teacher", "t"], "tag": ["--model", "m"], "draw": []}[command]
    arguments = [command, *start, "--mixture", str(mixture), "--out", str(tmp_path / "out.txt")]
    with pytest.raises(click.BadParameter, match=r"does not end in \.jsonl\.gz|a file for sentiment ends in \.tsv"):
        distil.main(arguments, standalone_mode=False)


def test_it_is_among_the_commands() -> None:
    assert set(distil.commands) == {"teacher", "label", "tag", "draw"}
    assert app.commands["distil"] is distil
