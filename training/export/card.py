"""The model card: a bundle's README, written from its manifest."""

from __future__ import annotations

from collections import Counter

from service.model import windows
from service.model.bundle import Interval, Manifest, RawText, Score
from service.model.deletion import has_closed_form
from service.model.equations import MINIMAL

_WAYS = {1: "one direction", 2: "two directions"}
_TITLES = {
    "lstm": "LSTM",
    "gru": "GRU",
    "rnn": "Elman network",
    "peephole": "peephole LSTM",
    "mingru": "Minimal GRU",
    "minlstm": "Minimal LSTM",
}
_USE = {
    "sentiment": "Says whether a text is {labels}, with a probability for each.",
    "ner": "Marks the names in a text: {labels}.",
}
_LIMITS = {
    "sentiment": (
        "It knows the language and the kinds of text that it learned from, named above; irony and mixed opinions are "
        "where it errs first. A text of unknown words alone gets an answer too, which means nothing. A score is the "
        "softmax's probability of the label; how far it can be taken at its word is the calibration error above."
    ),
    "ner": (
        "It knows the language and the kinds of text that it learned from, named above. Names that occur neither in "
        "its training data nor among its word vectors are recognised by their shape and context alone; text all in "
        "lower or upper case is harder. {score}"
    ),
}

_CRF = (
    "An entity's score is its marginal probability under the conditional random field: what all label sequences that "
    "hold this very entity come to together."
)
_SOFTMAX = "An entity's score is the product of its tokens' probabilities."


_FULL = "Its gates and its candidate see the whole cell through matrices."
_EXACT = (
    "No gate sees the state, so a token's share of each logit and the effect of its deletion are exact, from one pass."
)
_WINDOW = "Each step of its first layer reads {words} words: {window}, e_t being the vector of word t."
_WINDOW_EXACT = "No gate sees the state, so the effect of each token's deletion is exact, from one pass."
_MOST = 100
"""Labels in the table of counts."""
_HEADINGS = ("| data | inputs | cut | metric | value |", "| --- | --- | --- | --- | --- |")
_INT8 = "| precision | int8: weights of 7 bits, inputs and states rounded to 8; gates are traced in float32 |"


def render(name: str, manifest: Manifest) -> str:
    """The card in Markdown: description, data, licence, command, figures and limits."""
    types = sorted({label.partition("-")[2] for label in manifest.labels if "-" in label})
    labels = ", ".join(types if manifest.task == "ner" else manifest.labels)
    parity = manifest.parity
    shape = f"{manifest.layers} layer{'s' if manifest.layers > 1 else ''}, {_WAYS[len(manifest.directions)]}"
    wide = manifest.window_words > 1
    lines = [
        f"# {name}",
        "",
        f"{_USE[manifest.task].format(labels=labels)} {_TITLES[manifest.cell]}, {shape}, {manifest.hidden} units each.",
        *([_FULL] if manifest.form == "full" else []),
        *([_WINDOW.format(words=manifest.window_words, window=windows.definition(*manifest.window))] * wide),
        *([_WINDOW_EXACT if wide else _EXACT] if has_closed_form(manifest) else []),
        "",
        "| | |",
        "| --- | --- |",
        f"| task | {manifest.task} |",
        f"| labels | {labels} |",
        f"| head | {manifest.head} |",
        f"| inputs | {', '.join(f'{feature.name} ({feature.size:,} rows)' for feature in manifest.features)} |",
        *([f"| raw text | cut in the style `{manifest.style}` |"] if manifest.style else []),
        f"| longest input | {manifest.token_limit:,} tokens |",
        *([_INT8] if manifest.precision == "int8" else []),
        f"| licence | {manifest.licence} |",
        "",
        *_warning(manifest),
        "## Data and training",
        "",
        *(f"- {data}" for data in manifest.origin.data),
        "",
        *_counts(manifest),
        f"Seed {manifest.origin.seed}, {manifest.origin.epochs} epochs, with "
        + ", ".join(f"{package} {version}" for package, version in sorted(manifest.origin.versions.items()))
        + (". `$DATA` is the folder that holds the corpora." if "$DATA" in manifest.origin.command else "."),
        "",
        "```sh",
        manifest.origin.command,
        "```",
        "",
        "## Figures",
        "",
        "Measured through the exported bundle and the serving runtime "
        f"(`python -m training evaluate models/{name} --data FILE`); one seed." + _warmth(manifest),
        "",
        *_HEADINGS,
        *(_row(score) for score in manifest.quality),
        "",
        *_raw_text(manifest),
        *_loss(manifest),
        *_faithfulness(name, manifest),
        f"The exported graphs agree with torch to {_agreement(manifest)} in the logits, and the traced "
        f"gates with the equations in float64 to {parity.gates:.0e}, over {parity.batches} random batches of 1 to 64 "
        "inputs and 1 to 400 tokens.",
        "",
        f"`model.onnx` is for ONNX Runtime{_relies_on(manifest)}. For another runtime, "
        f"`python -m training export models/{name} --portable FILE.onnx` writes one file; `docs/reference/runtimes.md` "
        "shows which runtimes give the same logits.",
        "",
        "## Limits",
        "",
        _LIMITS[manifest.task].format(score=_CRF if manifest.crf else _SOFTMAX),
        "",
        "## Equations",
        "",
        "```",
        *(f"{gate:<10} {equation}" for gate, equation in manifest.equations.items()),
        "```",
    ]
    return "\n".join(lines) + "\n"


def _counts(manifest: Manifest) -> list[str]:
    """How often each label occurs, with a column for each file. Only the most frequent of many labels are listed."""
    files = manifest.origin.counts
    totals = Counter[str]()
    for file in files:
        totals.update(file.labels)
    if not totals:
        return []
    unit = "entities" if manifest.task == "ner" else "rows"
    rows = [
        f"| {label.replace('|', chr(92) + '|')} | "
        + " | ".join(f"{file.labels.get(label, 0):,}" for file in files)
        + " |"
        for label, _ in totals.most_common(_MOST)
    ]
    return [
        f"| {unit} with the label | " + " | ".join(file.data for file in files) + " |",
        "| --- |" + " ---: |" * len(files),
        *rows,
        *([f"| {len(totals) - _MOST:,} more labels |" + " |" * len(files)] if len(totals) > _MOST else []),
        "",
    ]


def no_better_than_guessing(manifest: Manifest) -> list[str]:
    """A sentence for each data set on which the model does no better than an answer that looks at no input."""
    reached = {(score.data, score.metric): score.value for score in manifest.quality}
    always = "no entity at all" if manifest.task == "ner" else "the commonest label"
    return [
        f"On {guess.data} the model is no better than guessing: {guess.metric} {value:.4f}, and always answering "
        f"{always} gets {guess.value:.4f}."
        for guess in manifest.guess
        if (value := reached.get((guess.data, guess.metric), 1.0)) <= guess.value
    ]


def _warning(manifest: Manifest) -> list[str]:
    found = no_better_than_guessing(manifest)
    return [*(f"**{sentence}**" for sentence in found), ""] if found else []


def _raw_text(manifest: Manifest) -> list[str]:
    """The figures of a tagger on raw text, and the entities that no answer on raw text can give."""
    if not manifest.raw_text:
        return []
    return [
        "On raw text, joined as people write it and cut by the model's own tokenizer (`evaluate --raw`):",
        "",
        "| data | sentences | cut into the same tokens | f1 on tokens | f1 on raw text |",
        "| --- | --- | --- | --- | --- |",
        *(
            f"| {each.data} | {each.sentences:,} | {each.same_tokens:.1%} | {each.f1_tokens:.4f} | {each.f1:.4f} |"
            for each in manifest.raw_text
        ),
        "",
        *(f"{sentence}\n" for each in manifest.raw_text if (sentence := labels_across(each))),
    ]


def labels_across(found: RawText) -> str | None:
    """A sentence on the entities that raw text cuts otherwise than their corpus; None if there are none."""
    if not found.recut:
        return None
    return (
        f"The tokenizer cuts {found.recut:,} of {found.entities:,} entities in {found.data} otherwise than the corpus "
        f"does; {found.across:,} of them begin or end inside a token of the raw text, and no answer can give those. "
        "Send tokens cut as the corpus's are, to have the figures on tokens."
    )


def _faithfulness(name: str, manifest: Manifest) -> list[str]:
    """How faithful the split into tokens is, or the other ways to explain the answers of a model without a split."""
    if not manifest.faithfulness:
        return []
    split = any(one.method == "split" for each in manifest.faithfulness for one in each.methods)
    subject = "the split into tokens is, beside other ways" if split else "ways"
    return [
        f"How faithful {subject} to explain the same answers{'' if split else ' are'} "
        f"(`python -m training faithfulness models/{name} --data FILE`): the area under the label's probability while "
        "the tokens that come first are deleted (lower is better) and while they are inserted (higher is better), the "
        "probability lost without them (comprehensiveness: higher is better) and with them alone (sufficiency: lower "
        "is better), and the change of its logarithm without the first 20 % (log-odds: lower is better). In brackets "
        "are bootstrap intervals of 95 %; the cost is in predictions of the same input.",
        "",
        "| data | inputs | method | deletion | insertion | comprehensiveness | sufficiency | log-odds | cost |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        *(
            f"| {each.data} | {each.inputs:,} | {one.method} | {_interval(one.deletion)} | "
            f"{_interval(one.insertion)} | {_interval(one.comprehensiveness)} | {_interval(one.sufficiency)} | "
            f"{_interval(one.log_odds)} | {one.cost:g} |"
            for each in manifest.faithfulness
            for one in each.methods
        ),
        "",
    ]


def _interval(found: Interval | None) -> str:
    return "–" if found is None else f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _loss(manifest: Manifest) -> list[str]:
    """The figures from before a model became int8."""
    if not manifest.quality_before:
        return []
    return ["Before it was made int8:", "", *_HEADINGS, *(_row(score) for score in manifest.quality_before), ""]


def _relies_on(manifest: Manifest) -> str:
    """The features that other runtimes may ignore. Minimal cells are plain operators."""
    plain = manifest.cell in MINIMAL and manifest.characters != "lstm"
    return "" if plain else ": it relies on `sequence_lens`"


def _agreement(manifest: Manifest) -> str:
    parity = manifest.parity
    if manifest.precision == "float32":
        return f"{max(parity.model, parity.trace):.0e}"
    batch = parity.batch or 0.0
    depends = f"depend on the batch by {batch:.0e} at most" if batch else "do not depend on the batch"
    return f"{parity.model:.0e} (integers; its answers {depends}) and {parity.trace:.0e} (gates)"


def _warmth(manifest: Manifest) -> str:
    if manifest.temperature == 1:
        return ""
    return f" Scores are calibrated on dev: what they are made of is divided by {manifest.temperature:.3g}."


def _row(score: Score) -> str:
    metric = score.metric.replace("_", " ")
    return f"| {score.data} | {score.examples:,} | {score.truncated} | {metric} | {score.value:.4f} |"
