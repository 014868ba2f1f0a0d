#!/usr/bin/env bash
# openvino-tokenizers 2026.4.1.0 converts a tokenizer of tokenizers 0.23.3 to one that cuts and writes words otherwise.
# WhitespaceSplit is converted as Whitespace: "don't", "co-op" and "10/10" are three pieces each, where they were one.
# BertNormalizer(strip_accents=False) strips the accents all the same: "naïve" becomes "naive".
# Neither gives an error or a warning. Other pre-tokenizers (Whitespace, BertPreTokenizer, a Split by a pattern) agree, and so
# does BertNormalizer with its defaults. Punctuation is refused when the tokenizer is compiled.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export OPENVINO_TELEMETRY=0 HF_HOME="$work" HF_HUB_OFFLINE=1
python3 -m venv venv
venv/bin/pip install --quiet openvino-tokenizers==2026.4.1.0 openvino==2026.4.1 transformers==5.24.0 tokenizers==0.23.3 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
import logging
import warnings
from importlib.metadata import version
import openvino as ov
from openvino_tokenizers import convert_tokenizer
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

logging.disable(logging.WARNING)
text = "don't see a co-op film, naïve café, 10/10"
keeps = normalizers.BertNormalizer(strip_accents=False)
CASES = [  # what is converted, normaliser, pre-tokenizer, whether the pieces agree
    ("Whitespace", None, pre_tokenizers.Whitespace(), True),
    ("WhitespaceSplit", None, pre_tokenizers.WhitespaceSplit(), False),
    ("BertPreTokenizer", None, pre_tokenizers.BertPreTokenizer(), True),
    ("Split by a pattern", None, pre_tokenizers.Split(Regex(r"\w+|[^\w\s]"), "removed", invert=True), True),
    ("BertNormalizer()", normalizers.BertNormalizer(), pre_tokenizers.Whitespace(), True),
    ("BertNormalizer(strip_accents=False)", keeps, pre_tokenizers.Whitespace(), False),
]
pieces = {"naive", "cafe"}
for _, normalizer, pre, _ in CASES:
    written = normalizer.normalize_str(text) if normalizer else text
    pieces.update(piece for piece, _ in pre.pre_tokenize_str(written))
pieces.update(piece for piece, _ in pre_tokenizers.Whitespace().pre_tokenize_str(text))
names = dict(enumerate(["[UNK]", *sorted(pieces)]))
for name, normalizer, pre, alike in CASES:
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in names.items()}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre
    if normalizer:
        tokenizer.normalizer = normalizer
    known = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[UNK]")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        compiled = ov.compile_model(convert_tokenizer(known), "CPU")
    told = [str(one.message) for one in caught if not issubclass(one.category, DeprecationWarning)]
    ours, theirs = known(text)["input_ids"], compiled([text])["input_ids"][0].tolist()
    shown = [" | ".join(names[number] for number in found) for found in (ours, theirs)]
    print(f"{name}: transformers {version('transformers')}: {shown[0]}")
    print(f"    openvino-tokenizers {version('openvino-tokenizers')}: {'the same' if alike else shown[1]}; warnings: {told}")
    assert (ours == theirs) == alike and "[UNK]" not in shown[0] and not told, (name, shown, told)
print("Compare the ids of both after the conversion, on text with apostrophes, hyphens and accents.")
PY
