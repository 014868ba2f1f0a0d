#!/usr/bin/env bash
# transformers 5.24.0: AutoTokenizer reads the words of a tokenizer.json, and drops its normaliser and pre-tokenizer, where
# tokenizer_config.json names BertTokenizerFast (or DistilBert's or Electra's). BERT's own take their places, without a warning:
# digits that the file turns into 0 stay, "don't" that it keeps whole is three words, and accents go.
# transformers 4.57.6 reads the same folder as the file says. So does 5.24.0 with PreTrainedTokenizerFast, or no class named.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export HF_HOME="$work" HF_HUB_OFFLINE=1
cat > read.py <<'PY'
import contextlib
import io
import json
import os
import sys
from importlib.metadata import version
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

said = io.StringIO()
with contextlib.redirect_stderr(said):
    from transformers import AutoTokenizer

    said.truncate(0)
    text = "don't see 5 naïve films"
    words = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]", "don't", "don", "'", "t", "see", "0", "5", "naïve", "naive", "films"]
    tokenizer = Tokenizer(models.WordPiece({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Replace(Regex(r"\d"), "0"), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    found = {}
    for name in ("", "PreTrainedTokenizerFast", "BertTokenizerFast"):
        os.makedirs(f"folder-{name}", exist_ok=True)
        tokenizer.save(f"folder-{name}/tokenizer.json")
        told = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
        if name:
            told["tokenizer_class"] = name
        elif version("transformers") < "5":
            continue  # version 4 needs a class
        with open(f"folder-{name}/tokenizer_config.json", "w") as file:
            json.dump(told, file)
        found[name] = AutoTokenizer.from_pretrained(f"folder-{name}").tokenize(text)
right = tokenizer.encode(text).tokens
for name, tokens in found.items():
    print(f"transformers {version('transformers')}, {name or 'no class named'}: {' | '.join(tokens)} (the file: {' | '.join(right)})")
    changed = name == "BertTokenizerFast" and sys.argv[1] == "changed"
    assert (tokens != right) == changed, (name, tokens)
assert not said.getvalue().strip(), said.getvalue()
if sys.argv[1] == "changed":
    assert found["BertTokenizerFast"] == ["don", "'", "t", "see", "5", "naive", "films"], found
PY
python3 -m venv new
new/bin/pip install --quiet transformers==5.24.0 tokenizers==0.23.3 numpy==2.4.6
python3 -m venv old
old/bin/pip install --quiet transformers==4.57.6 tokenizers==0.22.2 numpy==2.4.6
export TRANSFORMERS_VERBOSITY=warning TRANSFORMERS_NO_ADVISORY_WARNINGS=1
old/bin/python -W ignore read.py kept
new/bin/python -W ignore read.py changed
echo "Name PreTrainedTokenizerFast in tokenizer_config.json."
