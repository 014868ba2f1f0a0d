#!/usr/bin/env bash
# onnxruntime-extensions 0.15.2 makes an ONNX graph of a BertTokenizer whose ids are not those of the tokenizer.
# An uncased tokenizer of transformers 5.24.0 strips accents unless it is told not to; the graph keeps them: "naïve" is not
# "naive". Most capitals of Czech, Polish and Greek stay capitals: "ŁAN" and "ΟΔΟΣ" are [UNK]; French and Russian ones do not.
# A word of which only the beginning is known gives that piece and [UNK], where WordPiece gives [UNK] alone.
# English of known words agrees. No error or warning.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export HF_HOME="$work" HF_HUB_OFFLINE=1
python3 -m venv venv
venv/bin/pip install --quiet onnxruntime-extensions==0.15.2 onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
venv/bin/pip install --quiet transformers==5.24.0 tokenizers==0.23.3
venv/bin/python -W ignore - <<'PY'
import logging
from importlib.metadata import version
import numpy as np
import onnxruntime as ort
from onnxruntime_extensions import gen_processing_models, get_library_path
from transformers import BertTokenizer

logging.disable(logging.WARNING)
words = "[PAD] [UNK] [CLS] [SEP] [MASK] the film is good naive naïve cafe café ca ##fe οδοσ łan кино ski ##ing . , '".split()
CASES = [  # text, whether both agree
    ("The film is good, the CAFE naive.", True),
    ("skiing", True),
    ("naïve", False),
    ("café", False),
    ("CAFÉ", False),
    ("ΟΔΟΣ", False),
    ("οδοσ", True),
    ("ŁAN", False),
    ("łan", True),
    ("КИНО", True),
    ("skied", False),
]
tokenizer = BertTokenizer(vocab={word: number for number, word in enumerate(words)}, do_lower_case=True)
graph = gen_processing_models(tokenizer, pre_kwargs={})[0]
options = ort.SessionOptions()
options.register_custom_ops_library(get_library_path())
session = ort.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
name = session.get_inputs()[0].name
for text, alike in CASES:
    ours = tokenizer(text)["input_ids"]
    theirs = session.run(None, {name: np.array([text])})[0].ravel().tolist()
    shown = [" ".join(words[number] for number in found[1:-1]) for found in (ours, theirs)]
    print(
        f"{text}: transformers {version('transformers')}: {shown[0]}; "
        f"onnxruntime-extensions {version('onnxruntime-extensions')}: {shown[1]}"
    )
    assert (ours == theirs) == alike, (text, shown)
print("Lowercase and strip accents before the graph, and compare ids.")
PY
