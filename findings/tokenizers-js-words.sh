#!/usr/bin/env bash
# @huggingface/tokenizers 0.2.0 (npm, used by Transformers.js) reads a tokenizer.json otherwise than tokenizers 0.23.3 (Python).
# Whitespace takes letters outside of ASCII for punctuation: "naïve café" has 5 pieces there and 2 in Python, and a Greek word
# and the full stop after it are one piece. Punctuation keeps "..." in one piece, where Python makes three of it. Lowercase
# makes a final sigma of a Σ at the end of a word, Python's library never does. No error: the model gets other words.
# BertPreTokenizer and a Split with a pattern of one's own agree. It needs node and npm.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet tokenizers==0.23.3
npm install --silent --no-audit --no-fund --ignore-scripts --cache "$work/npm" @huggingface/tokenizers@0.2.0
cat > read.mjs <<'JS'
import fs from "node:fs";
import { Tokenizer } from "@huggingface/tokenizers";
const asked = JSON.parse(fs.readFileSync(0));
const answer = asked.map(([file, text]) => new Tokenizer(JSON.parse(fs.readFileSync(file)), { unk_token: "[UNK]" }).encode(text).ids);
console.log(JSON.stringify(answer));
JS
venv/bin/python - <<'PY'
import json
import subprocess
from importlib.metadata import version
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

CASES = [  # pre-tokenizer, normaliser, text, whether both libraries agree
    ("Whitespace", pre_tokenizers.Whitespace(), None, "a good film, wait...", True),
    ("Whitespace", pre_tokenizers.Whitespace(), None, "naïve café", False),
    ("Whitespace", pre_tokenizers.Whitespace(), None, "οδος.", False),
    ("BertPreTokenizer", pre_tokenizers.BertPreTokenizer(), None, "naïve café, wait... οδος", True),
    ("Split", pre_tokenizers.Split(Regex(r"[\p{L}\p{N}_]+|[^\s]"), "removed", invert=True), None, "naïve café ... οδος", True),
    ("Punctuation", pre_tokenizers.Punctuation(), None, "wait.", True),
    ("Punctuation", pre_tokenizers.Punctuation(), None, "wait...", False),
    ("Punctuation", pre_tokenizers.Punctuation(), None, "so?!", False),
    ("Lowercase", pre_tokenizers.BertPreTokenizer(), normalizers.Lowercase(), "CAFÉ", True),
    ("Lowercase", pre_tokenizers.BertPreTokenizer(), normalizers.Lowercase(), "ΟΔΟΣ", False),
]
words = "[UNK] a good film , wait . ... so ? ! ?! naïve café na ï ve caf é οδος οδοσ".split()
names = {number: word for number, word in enumerate(words)}
ids, asked = [], []
for place, (_, pre, normalizer, text, _) in enumerate(CASES):
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in names.items()}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.save(f"{place}.json")
    ids.append(tokenizer.encode(text).ids)
    asked.append([f"{place}.json", text])
done = subprocess.run(["node", "read.mjs"], input=json.dumps(asked), capture_output=True, text=True, check=True)
with open("node_modules/@huggingface/tokenizers/package.json") as file:
    other = json.load(file)["version"]
for (name, _, _, text, alike), ours, theirs in zip(CASES, ids, json.loads(done.stdout), strict=True):
    shown = [" | ".join(names[number] for number in found) for found in (ours, theirs)]
    print(f"{name}, {text}: tokenizers {version('tokenizers')}: {shown[0]}; @huggingface/tokenizers {other}: {shown[1]}")
    assert (ours == theirs) == alike, (name, text, shown)
    assert "[UNK]" not in shown[0] or name == "Punctuation"
print("Compare the ids of both before a tokenizer.json is used in a browser.")
PY
