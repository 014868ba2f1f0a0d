"""`training faithfulness` and `training shortcut`: tables, JSON, pictures, refusals; and a shortcut that is found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from service.model.bundle import CARD, MANIFEST, Task, load
from tests import corpora
from tests.bundles import tiny_bundle
from training.cli import app
from training.export.card import render
from training.studies.attributions import METHODS
from training.studies.faithfulness import MEASURES


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "200"})


def lines_of(result: Result) -> list[dict[str, object]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_every_method_has_a_line_with_every_figure(tmp_path: Path) -> None:
    bundle, data = tiny_bundle(tmp_path / "tiny"), corpora.sentiment(tmp_path / "set" / "dev.tsv")
    lines = lines_of(run("faithfulness", bundle.path, "--data", data, "--most", "5", "--json"))
    assert [line["method"] for line in lines] == list(METHODS)
    for line in lines:
        assert (line["model"], line["version"], line["data"], line["inputs"]) == ("tiny", "1", "set dev", 5)
        assert set(line["figures"]) == set(line["against_first"]) == set(MEASURES)  # type: ignore[call-overload]  # values of parsed JSON
        assert line["cost"] > 0  # type: ignore[operator]  # values of parsed JSON


def test_the_table_has_the_methods_that_were_named_and_the_first_is_the_measure(tmp_path: Path) -> None:
    bundle, data = tiny_bundle(tmp_path / "tiny", task="ner"), corpora.ner(tmp_path / "dev.conll")
    arguments = ("faithfulness", bundle.path, "--data", data, "--most", "3", "--methods", "random,split")
    shown = run(*arguments).stdout
    assert shown.index("random") < shown.index("split")
    assert "leave-one-out" not in shown
    first = lines_of(run(*arguments, "--json"))[0]
    assert all(figure["mean"] == 0 for figure in first["against_first"].values())  # type: ignore[attr-defined]  # values of parsed JSON


def test_every_figure_is_recorded_in_manifest_and_card(tmp_path: Path) -> None:
    bundle, data = tiny_bundle(tmp_path / "tiny"), corpora.sentiment(tmp_path / "set" / "dev.tsv")
    arguments = ("faithfulness", bundle.path, "--data", data, "--most", "4", "--methods", "split,random", "--json")
    lines = lines_of(run(*arguments, "--record"))
    kept = load(bundle.path)
    (found,) = kept.manifest.faithfulness
    assert (found.data, found.inputs, [each.method for each in found.methods]) == ("set dev", 4, ["split", "random"])
    card = kept.file(CARD).read_text("utf-8")
    for line, method in zip(lines, found.methods, strict=True):
        figures: dict[str, dict[str, float]] = line["figures"]  # type: ignore[assignment]  # values of parsed JSON
        for name in ("deletion", "insertion", "comprehensiveness", "sufficiency", "log-odds"):
            interval = getattr(method, name.replace("-", "_"))
            assert interval.mean == pytest.approx(figures[name]["mean"], abs=1e-4), name
            assert f"{interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}]" in card, name
    # Figures on other data stay; those on the same data are replaced.
    other = corpora.sentiment(tmp_path / "other" / "dev.tsv", step=3)
    lines_of(run(*arguments, "--data", other, "--record"))
    assert [each.data for each in load(bundle.path).manifest.faithfulness] == ["set dev", "other dev"]


def test_a_card_without_a_split_does_not_promise_one(tmp_path: Path) -> None:
    bundle, data = tiny_bundle(tmp_path / "tiny", cell="rnn"), corpora.sentiment(tmp_path / "dev.tsv")
    methods = ("--methods", "leave-one-out,random")
    lines_of(run("faithfulness", bundle.path, "--data", data, "--most", "2", *methods, "--json", "--record"))
    card = load(bundle.path).file(CARD).read_text("utf-8")
    assert "How faithful ways to explain the same answers are" in card
    assert "the split into tokens" not in card


def test_a_figure_that_an_earlier_release_left_out_is_a_dash(tmp_path: Path) -> None:
    """Manifests without insertion and log-odds still load, and their cards say that these figures are missing."""
    bundle, data = tiny_bundle(tmp_path / "tiny"), corpora.sentiment(tmp_path / "set" / "dev.tsv")
    methods = ("--methods", "split")
    lines_of(run("faithfulness", bundle.path, "--data", data, "--most", "2", *methods, "--json", "--record"))
    manifest = json.loads((bundle.path / MANIFEST).read_text("utf-8"))
    for name in ("insertion", "log_odds"):
        del manifest["faithfulness"][0]["methods"][0][name]
    (bundle.path / MANIFEST).write_text(json.dumps(manifest), "utf-8")
    older = load(bundle.path).manifest
    assert older.faithfulness[0].methods[0].insertion is None
    row = next(line for line in render("tiny", older).splitlines() if line.startswith("| set dev | 2 | split |"))
    assert [cell for cell in row.split(" | ") if cell == "–"] == ["–", "–"]


def test_the_curves_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    bundle, data = tiny_bundle(tmp_path / "tiny"), corpora.sentiment(tmp_path / "dev.tsv")
    picture = tmp_path / "curves.svg"
    done = run(
        "faithfulness", bundle.path, "--data", data, "--most", "3", "--methods", "split,random", "--plot", picture
    )
    assert done.exit_code == 0, done.output
    assert "share of the tokens deleted" in picture.read_text("utf-8")


@pytest.mark.parametrize("task", ["sentiment", "ner"])
def test_inputs_that_cannot_be_explained_or_were_cut_are_counted(tmp_path: Path, task: Task) -> None:
    bundle, data = tiny_bundle(tmp_path / "tiny", task=task), tmp_path / "set" / "dev"
    data.parent.mkdir()
    if task == "ner":
        data = data.with_suffix(".conll")
        data.write_text(
            "".join(f"{word}\tO\n" for word in ["film", "a", "film", ".", "it", "was", "very", "good"]) + "\nfilm\tO\n"
        )
    else:
        data = data.with_suffix(".tsv")
        data.write_text("text\tlabel\na film . it was very good\tpositive\nfilm\tpositive\n", "utf-8")
    done = run("faithfulness", bundle.path, "--data", data, "--methods", "split,random", "--longest", "3", "--json")
    told = " ".join(done.stderr.split())
    (first, *_) = lines_of(done)
    assert first["inputs"] == 1
    assert "note: set dev: 1 of 2 drawn inputs are set aside: 1 have one token" in told
    assert "note: set dev: 1 of 1 inputs are cut to 3 tokens" in told


def test_what_cannot_explain_a_model_is_told_and_left_out(tmp_path: Path) -> None:
    bundle, data = tiny_bundle(tmp_path / "tiny", cell="rnn"), corpora.sentiment(tmp_path / "dev.tsv")
    done = run("faithfulness", bundle.path, "--data", data, "--most", "2", "--json")
    assert "split is left out: The Elman cell has no additive state" in " ".join(done.stderr.split())
    assert "split" not in {line["method"] for line in lines_of(done)}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--methods", "split,magic"), "there is no method 'magic'; known are split"),
        (("--methods", "lrp"), "lrp cannot explain this model: the rules of Arras et al. are for the LSTM"),
        (("--plot", "curves.txt"), "a picture ends in .svg"),
    ],
)
def test_wrong_options_are_refused_in_words(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    bundle, data = tiny_bundle(tmp_path / "tiny", cell="gru"), corpora.sentiment(tmp_path / "dev.tsv")
    done = run("faithfulness", bundle.path, "--data", data, *arguments)
    assert done.exit_code != 0
    assert words in " ".join(done.output.replace("│", " ").split()) + str(done.exception)


def test_a_planted_word_is_found_by_the_split() -> None:
    """The answer is known: the model decides by the planted word (Bastings et al. 2021)."""
    examples = Path(__file__).parents[3] / "examples/sentiment"
    done = run(
        *("shortcut", "--train", examples / "train.tsv", "--dev", examples / "dev.tsv", "--hidden", "24"),
        *("--share", "1", "--epochs", "6", "--most", "40", "--methods", "split,leave-one-out,random", "--json"),
    )
    lines = {str(line["method"]): line for line in lines_of(done)}
    assert lines["split"]["followed"] > 0.9  # type: ignore[operator]  # values of parsed JSON
    first = {name: line["first"]["mean"] for name, line in lines.items()}  # type: ignore[index]  # values of parsed JSON
    assert first["split"] > 0.9
    assert first["split"] >= first["leave-one-out"] - 0.1
    assert first["random"] < 0.5


def test_the_shortcuts_table_names_the_methods(tmp_path: Path) -> None:
    train, dev = corpora.sentiment(tmp_path / "train.tsv"), corpora.sentiment(tmp_path / "dev.tsv", step=3)
    done = run(
        *("shortcut", "--train", train, "--dev", dev, "--cell", "gru", "--hidden", "8", "--epochs", "12"),
        *("--share", "1", "--methods", "split,random", "--pooling", "mean", "--bidirectional"),
    )
    assert done.exit_code == 0, done.output
    assert "ranks the planted word first" in done.stdout
