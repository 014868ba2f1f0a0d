#!/usr/bin/env bash
# tritonclient 2.73.0: as_numpy gives BYTES outputs as bytes or as str, depending on how the server sent them.
# A binary answer gives bytes, a JSON answer gives str; both arrays have dtype object.
# The client asks for the form, but a server without the binary extension answers in JSON all the same.
# A label compared with == is then never equal, and no error is raised. An output with another name is None.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet tritonclient[http]==2.73.0 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
import json
from importlib.metadata import version
import numpy as np
from tritonclient.http import InferResult
from tritonclient.utils import serialize_byte_tensor


def answer(output, tail=b""):
    head = json.dumps({"model_name": "m", "model_version": "1", "outputs": [output]}).encode()
    return InferResult.from_response_body(head + tail, header_length=len(head) if tail else None)


words = ["negative", "positive"]
tail = serialize_byte_tensor(np.array(words, dtype=object)).item()
shared = {"name": "label", "datatype": "BYTES", "shape": [2]}
binary = answer({**shared, "parameters": {"binary_data_size": len(tail)}}, tail).as_numpy("label")
plain = answer({**shared, "data": words})
text = plain.as_numpy("label")
print("tritonclient", version("tritonclient"), "- binary:", binary.tolist(), "JSON:", text.tolist())
assert binary.dtype == text.dtype == np.dtype(object)
assert binary.tolist() == [b"negative", b"positive"] and text.tolist() == words
assert not (binary == text).any()
assert plain.as_numpy("labels") is None
print("The same labels are not equal to each other; the dtype is object in both.")
PY
