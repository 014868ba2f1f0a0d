"""The options of `fit` and `pretrain`: one object, however it is made."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pydantic import ValidationError

from tests.training.test_run import options as small
from training import material
from training.cli import PREFIX, app
from training.commands import fit as fitting
from training.data.corpora import CorpusError, Example, read
from training.data.sources import Layout
from training.loop.fit import Recipe
from training.loop.pretrain import PretrainRecipe
from training.nets.initial import Initial
from training.nets.networks import Design, Dropouts
from training.options import FitOptions, PretrainOptions

NEEDED: dict[str, Any] = {"task": "sentiment", "train": ("t.tsv",), "dev": ("d.tsv",), "out": "models/tiny"}


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[FitOptions]:
    """The options that `fit` was called with."""
    found: list[FitOptions] = []

    def run(options: FitOptions, *_: object) -> None:
        found.append(options.but(command=""))
        raise CorpusError("here", "far enough")

    monkeypatch.setattr(fitting, "run", run)
    return found


def test_flags_variables_recipe_and_python_make_the_same_options(tmp_path: Path, made: list[FitOptions]) -> None:
    flags = ["--task", "ner", "--train", "a", "--train", "b", "--dev", "c", "--out", "models/x", "--crf", "--no-locked"]
    flags += ["--word-bits", "4", "--dropout", "0", "--text-column", "2"]
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        'task = "ner"\ntrain = ["a", "b"]\ndev = "c"\nout = "models/x"\ncrf = true\nlocked = false\nword-bits = 4\n'
        'dropout = 0\ntext_column = "2"\n'
    )
    variables = {"TASK": "ner", "TRAIN": "a:b", "DEV": "c", "OUT": "models/x", "CRF": "1", "LOCKED": "no"}
    variables |= {"WORD_BITS": "4", "DROPOUT": "0", "TEXT_COLUMN": "2"}
    environment = {f"TRAINING_FIT_{name}": value for name, value in variables.items()}
    CliRunner().invoke(app, ["fit", *flags])
    CliRunner().invoke(app, ["fit", "--recipe", str(recipe)])
    CliRunner().invoke(app, ["fit"], env=environment, auto_envvar_prefix=PREFIX)
    by_hand = FitOptions(
        task="ner",
        train=(Path("a"), Path("b")),
        dev=(Path("c"),),
        out=Path("models/x"),
        crf=True,
        locked=False,
        word_bits=4,
        dropout=0,
        text_column="2",
    )
    assert made == [by_hand] * 3


def test_defaults_are_those_of_the_parts() -> None:
    options = FitOptions(**NEEDED)
    assert options.recipe == Recipe()
    assert options.initial == Initial()
    assert options.dropouts == Dropouts()
    assert options.layout == Layout()
    assert options.design == Design("sentiment", "lstm", ("forward",), 1, 128, "max")
    assert PretrainOptions(texts=("t.txt",), out="e").recipe == PretrainRecipe()


def test_every_setting_of_the_loop_is_an_option() -> None:
    described = {name for name, field in FitOptions.model_fields.items() if field.description}
    assert {each.name for each in fields(Recipe)} <= described
    assert {each.name for each in fields(PretrainRecipe)} <= set(PretrainOptions.model_fields)


def test_options_reach_the_parts() -> None:
    options = FitOptions(**NEEDED | {"task": "ner"}, characters="cnn", crf=True, word_bits=8, layers=2, cell="gru")
    options = options.but(gru_reset="before", bidirectional=True, hidden=7, optimiser="sgd", epochs=3)
    assert options.design == Design(
        "ner", "gru", ("forward", "backward"), 2, 7, "tagger", reset="before", characters="cnn", crf=True, word_bits=8
    )
    assert options.recipe == Recipe(epochs=3, optimiser="sgd")
    dropped = options.but(dropout=0.4, weight_drop=0.1, locked=False, word_dropout=0.2)
    assert dropped.dropouts == Dropouts(0.4, 0.4, 0.1, False, 0.2)
    assert dropped.but(embedding_dropout=0.0).dropouts == Dropouts(0.0, 0.4, 0.1, False, 0.2)
    started = options.but(cell="lstm", gru_reset=None, init_input="he", init_recurrent="xavier", forget_bias=2.0)
    assert started.initial == Initial("he", "xavier", 2.0)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"hidden": 0}, "greater than or equal to 1"),
        ({"dropout": 0.96}, "less than or equal to 0.95"),
        ({"learning_rate": 0}, "greater than or equal to 0.000000001"),
        ({"forget_bias": float("nan")}, "a finite number"),
        ({"weight_decay": float("inf")}, "a finite number"),
        ({"train": ()}, "at least 1 item"),
        ({"cell": "transformer"}, "'rnn', 'lstm'"),
        ({"hiden": 3}, "Extra inputs are not permitted"),
        ({"gru_reset": "before"}, "--gru-reset: lstm has no reset gate; it goes with --cell gru"),
        ({"peepholes": "full"}, "--peepholes: lstm has no peepholes; they go with --cell peephole"),
        (
            {"cell": "minlstm", "weight_drop": 0.1},
            "--weight-drop: minlstm has no recurrent weights that could be dropped",
        ),
        ({"window_words": 3}, "--window-words: the gates of lstm see other words through the state; a window goes"),
        ({"cell": "mingru", "window_words": 0}, "greater than or equal to 1"),
        ({"cell": "mingru", "window_words": 10}, "less than or equal to 9"),
        ({"cell": "mingru", "window_words": 3, "start": "e.safetensors"}, "--window-words: an encoder has learned to"),
        ({"crf": True}, "--characters, --crf: characters and a CRF are for --task ner"),
        ({"start": "e", "vectors": "v"}, "--start: a model brings its own words and their vectors: no --vectors"),
        ({"start": "e.safetensors", "task": "ner"}, "--start: an encoder is for sentiment; a tagger starts from a"),
        (
            {"start": "e", "init_recurrent": "he"},
            "--init-input, --init-recurrent, --forget-bias: the first weights are",
        ),
        ({"start": "e", "cell": "lstm", "gru_reset": "before"}, "--gru-reset: lstm has no reset gate"),
        ({"task": "ner", "pooling": "mean"}, "--pooling, --window: one vector of a text, and stretches of it, are for"),
        ({"task": "ner", "window": 5}, "--pooling, --window: one vector of a text, and stretches of it, are for"),
        ({"bptt_loss": "end"}, "--bptt-loss: it is the loss of a text"),
        ({"bptt_loss": "end", "bptt": 5, "task": "ner"}, "--bptt-loss: it is the loss of a text"),
        ({"soft_share": 0.5}, "--soft-share, --temperature: they are for a teacher's logits, --soft"),
        ({"temperature": 3.0}, "--soft-share, --temperature: they are for a teacher's logits, --soft"),
        ({"forget_bias": 2.0, "cell": "rnn"}, "--forget-bias: rnn has no forget gate"),
        ({"forget_bias": 1.0, "cell": "gru"}, "--forget-bias: gru has no forget gate"),
        ({"forget_bias": 2.0, "cell": "mingru"}, "--forget-bias: mingru has no forget gate"),
        ({"label_column": "0"}, "columns are counted from 1, or from the end: -1"),
        ({"tag_column": "0"}, "columns are counted from 1, or from the end: -1"),
    ],
)
def test_options_that_cannot_be_are_refused(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words.replace("(", r"\(")):
        FitOptions(**NEEDED | changed)
    with pytest.raises(ValidationError):
        FitOptions(**NEEDED).but(**changed)


@pytest.mark.parametrize(
    "changed",
    [
        {"task": "ner", "window": 0},
        {"bptt": 5, "bptt_loss": "end"},
        {"soft": ("s.jsonl.gz",), "soft_share": 0.5, "temperature": 3.0},
        *({"forget_bias": 2.0, "cell": cell} for cell in ("lstm", "peephole", "minlstm")),
        {"start": "models/x", "forget_bias": 1.0},
    ],
)
def test_options_that_go_together_are_taken(changed: dict[str, Any]) -> None:
    assert FitOptions(**NEEDED | changed).model_fields_set == NEEDED.keys() | changed.keys()


def test_changed_options_know_what_was_given() -> None:
    given = set(NEEDED)
    assert FitOptions(**NEEDED).model_fields_set == given
    changed = FitOptions(**NEEDED).but(hidden=128)
    assert changed.model_fields_set == given | {"hidden"}
    assert changed.but(hidden=7) == FitOptions(**NEEDED, hidden=7)


def test_a_default_that_is_given_counts_as_given(tmp_path: Path, made: list[FitOptions]) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("layers = 1\n")
    needed = [
        part
        for name, value in NEEDED.items()
        for each in ([value] if isinstance(value, str) else value)
        for part in (f"--{name}", str(each))
    ]
    CliRunner().invoke(app, ["fit", *needed, "--hidden", "128", "--recipe", str(recipe)])
    environment = {"TRAINING_FIT_CELL": "lstm"}
    CliRunner().invoke(app, ["fit", *needed], env=environment, auto_envvar_prefix=PREFIX)
    assert [each.model_fields_set - set(NEEDED) - {"command"} for each in made] == [{"hidden", "layers"}, {"cell"}]


def test_options_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        FitOptions(**NEEDED).hidden = 3  # type: ignore[misc]  # frozen: that is what is tried


@pytest.mark.parametrize("task", ["sentiment", "ner"])
def test_each_file_is_parsed_once(tmp_path: Path, task: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: Counter[Path] = Counter()

    def counted(path: Path, *arguments: Any) -> list[Example]:
        parsed[path] += 1
        return read(path, *arguments)

    monkeypatch.setattr(material, "read", counted)
    options = small(tmp_path, task)
    material.gather(options.but(test=options.dev), lambda _: None)
    assert parsed == {options.train[0]: 1, options.dev[0]: 1}
