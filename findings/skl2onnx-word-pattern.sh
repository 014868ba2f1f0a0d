#!/usr/bin/env bash
# skl2onnx 1.20.0 replaces the token pattern of scikit-learn's text vectorisers by [a-zA-Z0-9_]+, without a warning.
# scikit-learn's default takes words of two letters and more, in any alphabet. In the graph a word of one letter is a token,
# so "not a good film" has no pair "not good"; and "naïve" is "na" and "ve". Probabilities of a classifier behind it move.
# Single words in ASCII agree. A pattern of one's own is kept: token_pattern="[a-zA-Z0-9_]+" makes both agree.
# The script uses lowercase=False: with True the session also needs the locale en_US.UTF-8 and fails where it is not installed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet skl2onnx==1.20.0 scikit-learn==1.9.1 onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
venv/bin/python - <<'PY'
import warnings
from importlib.metadata import version
import numpy as np
import onnxruntime as ort
from skl2onnx import to_onnx
from skl2onnx.common.data_types import StringTensorType
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

texts = ["not a good film", "not a bad film", "a good film", "bad film", "naïve film", "café naïve good", "not good", "not bad"]
labels = [0, 1, 1, 0, 1, 1, 0, 1]
own = {"token_pattern": "[a-zA-Z0-9_]+"}
CASES = [  # options of the vectoriser, text, whether both agree
    ({}, "good film", True),
    ({}, "not a good film", True),
    ({}, "naïve film", False),
    ({"ngram_range": (1, 2)}, "good film", True),
    ({"ngram_range": (1, 2)}, "not a good film", False),
    ({"ngram_range": (1, 2)} | own, "not a good film", True),
    (own, "naïve film", True),
]
for chosen, text, alike in CASES:
    model = make_pipeline(TfidfVectorizer(lowercase=False, **chosen), LogisticRegression(C=100)).fit(texts, labels)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        graph = to_onnx(model, initial_types=[("x", StringTensorType([None, 1]))], options={"zipmap": False}, target_opset=17)
    told = [str(one.message) for one in caught if "pattern" in str(one.message) or "token" in str(one.message)]
    session = ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    theirs = float(session.run(None, {"x": np.array([[text]], dtype=object)})[1][0, 1])
    ours = float(model.predict_proba([text])[0, 1])
    print(
        f"{chosen or 'defaults'}, {text}: scikit-learn {version('scikit-learn')}: {ours:.3f}; "
        f"skl2onnx {version('skl2onnx')}: {theirs:.3f}; warnings about it: {told}"
    )
    assert (abs(ours - theirs) < 1e-4) == alike and not told, (chosen, text, ours, theirs, told)
print("Give the vectoriser a pattern that both sides read alike before it is fitted.")
PY
