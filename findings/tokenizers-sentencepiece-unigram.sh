#!/usr/bin/env bash
# tokenizers 0.23.3: SentencePieceUnigramTokenizer.from_spm reads a model of sentencepiece 0.2.3 and leaves out how it
# treats spaces. A text that ends in a space gets one piece more, "▁", in every model. A model made with
# add_dummy_prefix=False gets the prefix all the same, so most first words have other ids; with
# remove_extra_whitespaces=False several spaces become one; with treat_whitespace_as_suffix=True hardly a word is found.
# All three settings stand in the file. No error and no warning. Texts of a default model that do not end in a space agree.
# No issue of its tracker is known that names it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet tokenizers==0.23.3 sentencepiece==0.2.3 protobuf==7.36.1
venv/bin/python -W ignore - <<'PY'
import random
import shutil
from importlib.metadata import version
from pathlib import Path
import sentencepiece
from tokenizers import SentencePieceUnigramTokenizer

# from_spm imports the protocol buffer of sentencepiece from the current folder; the package brings it.
shutil.copy(Path(sentencepiece.__file__).parent / "sentencepiece_model_pb2.py", ".")
WORDS = "the food was cold and the waiter rude but our room had a fine view of the old harbour in may".split()
random.seed(0)
TEXTS = [" ".join(random.choices(WORDS, k=10)) for _ in range(500)]


def both(text, **settings):
    """The pieces of a model trained with these settings: sentencepiece's and those after from_spm."""
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS),
        model_prefix="model",
        vocab_size=200,
        hard_vocab_limit=False,
        minloglevel=2,
        **settings,
    )
    model = sentencepiece.SentencePieceProcessor(model_file="model.model")
    tokenizer = SentencePieceUnigramTokenizer.from_spm("model.model")
    encoded = tokenizer.encode(text)
    assert (model.encode(text) == encoded.ids) == (model.encode(text, out_type=str) == encoded.tokens)
    return model.encode(text, out_type=str), encoded.tokens


for text, settings, alike in (
    ("the food was cold", {}, True),
    ("  the food  was cold", {}, True),
    ("the food was cold ", {}, False),
    ("the food was cold", {"add_dummy_prefix": False}, False),
    ("the food  was cold", {"remove_extra_whitespaces": False}, False),
    ("the food was cold", {"treat_whitespace_as_suffix": True}, False),
):
    ours, theirs = both(text, **settings)
    shown = [" ".join(found) for found in (ours, theirs)]
    print(f"{text!r} {settings or ''}: sentencepiece {shown[0]}; tokenizers {version('tokenizers')} {shown[1]}")
    assert (ours == theirs) == alike, (text, settings)
assert both("the food was cold ")[1] == [*both("the food was cold")[0], "▁"]
print("Compare the ids of both on texts with spaces at the end before a model is moved.")
PY
