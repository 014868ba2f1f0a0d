"""The options of ``training fit`` and ``training pretrain``: names, defaults, bounds and help, each once.

The command line and recipe files (TOML) are read into these models, and a Python program makes them in the same way.
A field that has a description is an option: ``weight_decay`` is ``--weight-decay``, ``TRAINING_FIT_WEIGHT_DECAY``, and
``weight-decay`` in a recipe.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from service.model.bundle import Head, Task
from service.model.equations import MINIMAL, CellName, Direction, GruReset, Peepholes, gate_names
from service.model.rules import Style
from service.model.windows import MAX_WORDS
from training.data.outputs import clash
from training.data.sources import Layout
from training.loop import checkpoints
from training.loop.fit import Precision, Recipe
from training.loop.pretrain import PretrainRecipe
from training.loop.schedules import OptimiserName, ScheduleName
from training.loop.truncated import DocumentLoss
from training.nets.initial import Initial, InputStart, RecurrentStart
from training.nets.networks import Design, Dropouts, WordBits

Device = Literal["auto", "cpu", "cuda"]
Pooling = Literal["last", "mean", "max", "attention"]
CharacterReader = Literal["none", "cnn", "lstm"]

MAX_SEED = (1 << 63) - 1
"""Torch takes seeds below twice this, and some are counted on from the one that was given; NumPy takes none below 0."""
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]

_RECIPE, _INITIAL, _DROPOUTS, _PRETRAINING = Recipe(), Initial(), Dropouts(), PretrainRecipe()
NOT_STATED = "not stated"
_GENTLE = 1e-3
"""The learning rate by default for a network that has learned already: higher rates undo what it knows."""
FEW = 5000
"""Examples below which training overfits soonest."""
NO_VECTORS = Path("none")
"""The value of --vectors for a word table that begins with random numbers."""


class _Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def but(self, **changed: Any) -> Self:
        """The same options with some values changed, and checked anew. `model_fields_set` has all that were given."""
        return type(self)(**{name: getattr(self, name) for name in self.model_fields_set - changed.keys()}, **changed)


class TextColumns(_Options):
    """The columns of a table of texts."""

    text_column: str | None = Field(
        None,
        description="Column of the texts in a table, by name or number (1: first, -1: last); default: the column text.",
    )
    label_column: str | None = Field(
        None, description="Column of the labels in a table, by name or number; default: the column label."
    )

    @field_validator("*")
    @classmethod
    def _counted_from_one(cls, value: Any, info: Any) -> Any:
        if info.field_name.endswith("_column") and value == "0":
            raise ValueError("columns are counted from 1, or from the end: -1")
        return value

    @property
    def layout(self) -> Layout:
        return Layout(self.text_column, self.label_column)


class Columns(TextColumns):
    """The columns of labelled data: a table of texts, or tagged tokens."""

    token_column: str | None = Field(
        None,
        description="Column of the tokens in tagged data, by name or number; default: the first column with words.",
    )
    tag_column: str | None = Field(
        None, description="Column of the tags in tagged data, by name or number; default: the last column."
    )

    @property
    def layout(self) -> Layout:
        return Layout(self.text_column, self.label_column, self.token_column, self.tag_column)


class NetworkOptions(_Options):
    """Options of the network that `fit` and `pretrain` share."""

    cell: CellName = Field("lstm", description="Recurrent cell.")
    gru_reset: GruReset | None = Field(
        None,
        description="A GRU's reset gate: after the recurrent product (torch, cuDNN) or before it (Cho 2014).",
    )
    peepholes: Peepholes | None = Field(
        None,
        description="What a peephole LSTM's gates see of the cell state. diagonal: each unit its own. full: all units, "
        "and the candidate sees it too. Default: diagonal.",
    )
    bidirectional: bool = Field(False, description="Read the text in both directions.")
    layers: int = Field(1, ge=1, le=16, description="Number of recurrent layers.")
    hidden: int = Field(128, ge=1, le=8192, description="Units of each direction in each layer.")
    vectors: Path | None = Field(
        None, description="Word vectors to start from: GloVe text, .gz of it, or .npz of `words` and `vectors`."
    )
    words: int = Field(
        20_000,
        ge=2,
        description="Largest number of rows of the word table. With --start the default "
        "is room for all words; a lower number keeps the training data's words and drops the last of the model's.",
    )

    @model_validator(mode="after")
    def _forms_are_those_of_the_cell(self) -> Self:
        if "cell" not in self.model_fields_set and getattr(self, "start", None):
            return self  # the cell is that of the model to start from
        if self.gru_reset is not None and self.cell != "gru":
            raise ValueError(f"--gru-reset: {self.cell} has no reset gate; it goes with --cell gru")
        if self.peepholes is not None and self.cell != "peephole":
            raise ValueError(f"--peepholes: {self.cell} has no peepholes; they go with --cell peephole")
        return self

    @property
    def directions(self) -> tuple[Direction, ...]:
        return ("forward", "backward") if self.bidirectional else ("forward",)


class FitOptions(Columns, NetworkOptions):
    """Every option of ``training fit``. `suited` fixes those that depend on how many examples there are."""

    task: Task = Field(description="Task: a label for each text (sentiment), or the entities in it (ner).")
    train: tuple[Path, ...] = Field(
        min_length=1, description="File of labelled training data. Give the option again for more files."
    )
    dev: tuple[Path, ...] = Field(
        min_length=1,
        description="File of labelled data that picks the best epoch. Each of several files has the same weight.",
    )
    out: Path = Field(description="Folder of the bundle, models/NAME. The next version is written into it.")
    window_words: int = Field(
        1,
        ge=1,
        le=MAX_WORDS,
        description="Words that the first layer of a minGRU or minLSTM reads at each step: 3 are the word and the two "
        "before it, with --bidirectional the word and both neighbours.",
    )
    pooling: Pooling = Field("max", description="How the states of a text become one vector (sentiment).")
    test: tuple[Path, ...] = Field(
        (), description="File of labelled data, scored once at the end. The scores go into the model card, README.md."
    )
    soft: tuple[Path, ...] = Field(
        (),
        description="Texts with a teacher's logits, from `training distil label` (sentiment). Give it again for more.",
    )
    soft_share: float = Field(
        _RECIPE.soft_share,
        ge=0,
        le=1,
        description="The teacher's share of the loss of such a text; its label has the rest.",
    )
    temperature: float = Field(
        _RECIPE.temperature,
        ge=0.1,
        le=100,
        description="Divisor of the logits of teacher and student when they are compared.",
    )
    start: Path | None = Field(
        None,
        description="Model to go on from: a bundle, models/NAME or models/NAME/VERSION, whose words, weights and rules "
        "for raw text are taken; or an encoder from `training pretrain` (sentiment).",
    )
    tokenizer: Style | None = Field(
        None,
        description="Rules that cut raw text into tokens. Default: the rules that return most tokens of the first "
        "training file. reviews cuts as web does and keeps the digits of small numbers; a --start of the style web "
        "takes it too.",
    )
    word_bits: WordBits = Field(
        16,
        description="Bits of each number of the word table in the bundle. With 4, words of the training data keep 8.",
    )
    vectors: Path | None = Field(
        None,
        description="Word vectors to start from: GloVe text, .gz, .npz, or a bundle, models/NAME; none for none. "
        "Default: none, and below 5,000 examples those of the model that ships for the task, if they fit the language.",
    )
    characters: CharacterReader = Field("cnn", description="Network that reads the characters of each token (ner).")
    crf: bool = Field(
        True,
        description="Score whole label sequences with a CRF, not each token alone (ner). Default: yes, but not with "
        "--bptt.",
    )
    epochs: int | None = Field(
        None,
        ge=1,
        description="Largest number of passes over the training data. Default: 10 to 60, more for fewer examples.",
    )
    patience: int | None = Field(
        None,
        ge=1,
        description="Stop after this many epochs in a row without a better dev score. Counting begins when a score is "
        "better than that of the most frequent label. Default: a third of the epochs, at least 3.",
    )
    optimiser: OptimiserName = Field(_RECIPE.optimiser, description="Optimiser.")
    learning_rate: float | None = Field(
        None,
        ge=1e-9,
        description="Highest learning rate. Default: 0.001 (many examples) to 0.005 (few); 0.001 with --start.",
    )
    schedule: ScheduleName = Field(_RECIPE.schedule, description="How the learning rate changes over all epochs.")
    warm_up: float = Field(
        _RECIPE.warm_up,
        ge=0,
        le=0.9,
        description="Share of all steps, at the start, over which the learning rate rises in a straight line.",
    )
    word_rate: float = Field(
        _RECIPE.word_rate,
        ge=0,
        le=1,
        description="Learning rate of the word vectors, as a share of the learning rate; 0 leaves them as they are.",
    )
    weight_decay: float = Field(_RECIPE.weight_decay, ge=0, description="Weight decay.")
    init_input: InputStart = Field(_INITIAL.input, description="Distribution of the first input weights.")
    init_recurrent: RecurrentStart = Field(
        _INITIAL.recurrent, description="Distribution of the first recurrent weights."
    )
    forget_bias: float = Field(_INITIAL.forget_bias, description="First bias of the forget gate.")
    clip_value: float = Field(
        _RECIPE.clip_value,
        ge=0,
        description="Largest absolute value in the gradient, applied before --clip; 0 is no limit.",
    )
    accumulate: int = Field(_RECIPE.accumulate, ge=1, description="Batches for the gradients of one step.")
    precision: Precision = Field(
        _RECIPE.precision,
        description="mixed computes in bfloat16 where torch lists that as safe. Faster on CUDA, and on CPUs with "
        "avx512_bf16 or AMX.",
    )
    clip: float = Field(_RECIPE.clip, ge=1e-9, description="Scale the gradient down if its norm is larger.")
    batch_rows: int | None = Field(
        None, ge=1, description="Largest number of texts in a batch. Default: 8 to 32, more for more examples."
    )
    batch_tokens: int = Field(
        _RECIPE.batch_tokens, ge=1, description="Largest number of tokens in a batch, with padding."
    )
    bptt: int = Field(
        _RECIPE.bptt,
        ge=0,
        description="Truncated BPTT: learn in windows of this many tokens. The state is carried over, the graph is "
        "cut. For one direction without CRF; 0 learns from whole texts.",
    )
    bptt_loss: DocumentLoss = Field(
        _RECIPE.bptt_loss,
        description="With --bptt, the loss of a text (sentiment): windows has one for each window, on the text so "
        "far; end has one at the end, whose gradient reaches the last window only.",
    )
    window: int = Field(
        _RECIPE.window,
        ge=0,
        description="Learn from random stretches of this many consecutive tokens (sentiment only); 0: whole texts.",
    )
    dropout: float | None = Field(
        None,
        ge=0,
        le=0.95,
        description="Share of the units that are dropped, also between layers. Default: 0.5 below 5,000 examples, "
        "else 0.3.",
    )
    embedding_dropout: float | None = Field(
        None,
        ge=0,
        le=0.95,
        description="Share of an embedding's numbers that are dropped. Default: the value of --dropout.",
    )
    locked: bool = Field(_DROPOUTS.locked, description="Use one dropout mask for a whole text (variational dropout).")
    weight_drop: float = Field(
        _DROPOUTS.weights, ge=0, le=0.95, description="Share of the recurrent weights that are dropped."
    )
    word_dropout: float | None = Field(
        None,
        ge=0,
        le=0.95,
        description="Share of the words that become the unknown word. Default: 0.2 below 5,000 examples, else 0.02.",
    )
    label_smoothing: float = Field(
        _RECIPE.label_smoothing, ge=0, le=0.95, description="Share of the target that is spread over all labels."
    )
    average: float = Field(
        _RECIPE.average,
        ge=0,
        le=0.9999,
        description="Share that a running mean of the weights keeps at each step; 0 keeps no mean.",
    )
    seed: Seed = Field(_RECIPE.seed, description="Seed. The same seed gives the same model on one machine.")
    device: Device = Field("auto", validate_default=True, description="Device to train on.")
    threads: int | None = Field(
        None,
        ge=1,
        le=256,
        description="CPU threads. Default: OMP_NUM_THREADS if set; else 1 up to 256 units, and up to 4 above.",
    )
    checkpoint_every: int = Field(
        500, ge=0, description="Steps from one checkpoint in --out to the next; 0 writes none."
    )
    resume: bool = Field(False, description="Continue from the checkpoint in --out, if there is one.")
    log: Path | None = Field(None, description="File for a line of JSON at every step.")
    tensorboard: Path | None = Field(
        None, description="Folder for TensorBoard's log of every step. Needs the extra: pip install '.[tensorboard]'."
    )
    licence: str = Field(NOT_STATED, description="Licence for the card. That of the model to start from is added.")
    command: str = ""
    """The command that repeats the training, for the manifest and the card."""

    @field_validator("device")
    @classmethod
    def _that_is_there(cls, value: Device) -> Device:
        return chosen_device(value)

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        if self.start and self.vectors and self.vectors != NO_VECTORS:
            raise ValueError("--start: a model brings its own words and their vectors: no --vectors with it")
        if self.start and self.task != "sentiment" and not self.starts_from_a_bundle:
            raise ValueError("--start: an encoder is for sentiment; a tagger starts from a bundle, models/NAME")
        if self.start and self.initial != _INITIAL:
            raise ValueError("--init-input, --init-recurrent, --forget-bias: the first weights are those of --start")
        asked = self.model_fields_set
        if self.task == "sentiment" and (
            ("crf" in asked and self.crf) or ("characters" in asked and self.characters != "none")
        ):
            raise ValueError("--characters, --crf: characters and a CRF are for --task ner")
        if self.soft and self.task != "sentiment":
            raise ValueError("--soft: a teacher's logits are for --task sentiment")
        if self.weight_drop and self.cell in MINIMAL:
            raise ValueError(f"--weight-drop: {self.cell} has no recurrent weights that could be dropped")
        return self

    @model_validator(mode="after")
    def _what_is_asked_can_act(self) -> Self:
        asked = self.model_fields_set
        if self.task == "ner" and ("pooling" in asked or self.window):
            raise ValueError("--pooling, --window: one vector of a text, and stretches of it, are for --task sentiment")
        if "bptt_loss" in asked and (self.task == "ner" or not self.bptt):
            raise ValueError("--bptt-loss: it is the loss of a text (--task sentiment) with --bptt")
        if asked & {"soft_share", "temperature"} and not self.soft:
            raise ValueError("--soft-share, --temperature: they are for a teacher's logits, --soft")
        if "forget_bias" in asked and not self.start and "forget" not in gate_names(self.cell):
            raise ValueError(f"--forget-bias: {self.cell} has no forget gate")
        return self

    @model_validator(mode="after")
    def _a_window_fits_the_cell(self) -> Self:
        if self.window_words == 1:
            return self
        if self.start and not self.starts_from_a_bundle:
            raise ValueError("--window-words: an encoder has learned to read one word at each step")
        if self.cell not in MINIMAL and not (self.start and "cell" not in self.model_fields_set):
            raise ValueError(
                f"--window-words: the gates of {self.cell} see other words through the state; a window goes with "
                f"--cell {' or '.join(sorted(MINIMAL))}"
            )
        return self

    @model_validator(mode="after")
    def _no_input_is_written_over(self) -> Self:
        read = {"--train": self.train, "--dev": self.dev, "--test": self.test, "--soft": self.soft}
        begun = {"--start": self.start, "--vectors": None if self.vectors == NO_VECTORS else self.vectors}
        if reason := clash({"--out": self.out / checkpoints.FILE, "--log": self.log}, {**read, **begun}):
            raise ValueError(reason)
        return self

    @property
    def starts_from_a_bundle(self) -> bool:
        """True if `start` is the folder of a bundle; an encoder is a file."""
        return self.start is not None and not self.start.is_file() and self.start.suffix != ".safetensors"

    @property
    def design(self) -> Design:
        tagger = self.task == "ner"
        head: Head = "tagger" if tagger else self.pooling
        crf = self.crf and ("crf" in self.model_fields_set or not self.bptt)  # a CRF's loss cannot be cut
        return Design(
            self.task,
            self.cell,
            self.directions,
            self.layers,
            self.hidden,
            head,
            reset=self.gru_reset or "after",
            peephole=self.peepholes or "diagonal",
            window_words=self.window_words,
            characters=None if self.characters == "none" or not tagger else self.characters,
            crf=crf and tagger,
            word_bits=self.word_bits,
        )

    @property
    def recipe(self) -> Recipe:
        return Recipe(**_given(self, Recipe))

    @property
    def initial(self) -> Initial:
        return Initial(self.init_input, self.init_recurrent, self.forget_bias)

    @property
    def dropouts(self) -> Dropouts:
        units = self.dropout or 0.0
        embeddings = units if self.embedding_dropout is None else self.embedding_dropout
        return Dropouts(embeddings, units, self.weight_drop, self.locked, self.word_dropout or 0.0)

    def suited(self, examples: int) -> FitOptions:
        """The same with every setting fixed, for training data of `examples` examples: few need more dropout."""
        few, recipe = examples < FEW, self.recipe.suited(examples)
        begun = self.starts_from_a_bundle and self.learning_rate is None
        return self.but(
            epochs=recipe.epochs,
            patience=recipe.patience,
            learning_rate=_GENTLE if begun else recipe.learning_rate,
            batch_rows=recipe.batch_rows,
            dropout=(0.5 if few else 0.3) if self.dropout is None else self.dropout,
            word_dropout=(0.2 if few else 0.02) if self.word_dropout is None else self.word_dropout,
        )


class PretrainOptions(TextColumns, NetworkOptions):
    """Every option of ``training pretrain``."""

    texts: tuple[Path, ...] = Field(
        min_length=1,
        description="File of texts: a labelled table, or .txt with one text on each line. Give the option again for "
        "more.",
    )
    out: Path = Field(description="File of the encoder, such as encoder.safetensors.")
    dev: tuple[Path, ...] = Field((), description="File of held-out texts, for the perplexity after each epoch.")
    layers: int = Field(1, ge=1, le=16, description="Number of recurrent layers; 1 with --bidirectional.")
    epochs: int = Field(_PRETRAINING.epochs, ge=1, description="Passes over the texts.")
    learning_rate: float = Field(_PRETRAINING.learning_rate, ge=1e-9, description="Adam's learning rate at the start.")
    clip: float = Field(_PRETRAINING.clip, ge=1e-9, description="Scale the gradient down if its norm is larger.")
    window: int = Field(_PRETRAINING.window, ge=2, description="Tokens of the stretches that texts are cut into.")
    batch_rows: int = Field(_PRETRAINING.batch_rows, ge=1, description="Stretches in a batch.")
    dropout: float = Field(_PRETRAINING.dropout, ge=0, le=0.95, description="Share of the units that are dropped.")
    seed: Seed = Field(_PRETRAINING.seed, description="Seed. The same seed gives the same encoder on one machine.")

    @model_validator(mode="after")
    def _no_input_is_written_over(self) -> Self:
        read = {"--texts": self.texts, "--dev": self.dev, "--vectors": self.vectors}
        if reason := clash({"--out": self.out}, read):
            raise ValueError(reason)
        return self

    @property
    def design(self) -> Design:
        reset: GruReset = self.gru_reset or "after"
        peephole: Peepholes = self.peepholes or "diagonal"
        ways = self.directions
        return Design("sentiment", self.cell, ways, self.layers, self.hidden, "max", reset=reset, peephole=peephole)

    @property
    def recipe(self) -> PretrainRecipe:
        return PretrainRecipe(**_given(self, PretrainRecipe))


def chosen_device(wanted: Device) -> Device:
    """The device to train on. Raises `ValueError` for CUDA if torch sees no CUDA device."""
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ValueError("this torch sees no CUDA device; use --device cpu")
    return wanted


def _given(options: _Options, kind: type[Any]) -> dict[str, Any]:
    """The values of the options that are fields of `kind`, but for those that are left to depend on the data."""
    values = {each.name: getattr(options, each.name) for each in fields(kind)}
    return {name: value for name, value in values.items() if value is not None}
