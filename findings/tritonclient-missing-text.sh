#!/usr/bin/env bash
# tritonclient 2.73.0: a missing value in a BYTES tensor is sent as the text "None", in binary and in JSON.
# A column of texts with gaps, as pandas gives it, reaches the classifier as if somebody had written None.
# Numbers in the column become text in the same way. numpy's own array of strings is refused:
# the message names the datatype None, not the cure (dtype=object).
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
from tritonclient.http import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException


def body(values, binary):
    tensor = InferInput("text", list(values.shape), "BYTES")
    tensor.set_data_from_numpy(values, binary_data=binary)
    return InferenceServerClient.generate_request_body([tensor])


column = np.array(["a good film", None, 3.5], dtype=object)
text, _ = body(column, binary=False)
packed, header = body(column, binary=True)
sent = json.loads(text)["inputs"][0]["data"]
print("tritonclient", version("tritonclient"), "sends", sent, "for", column.tolist())
assert sent == ["a good film", "None", "3.5"], sent
assert packed[header:] == b"\x0b\0\0\0a good film\x04\0\0\0None\x03\0\0\x003.5", packed[header:]
try:
    body(np.array(["a good film"]), binary=True)
except InferenceServerException as error:
    print("It refuses a plain numpy array of strings:", error)
    assert "datatype None" in str(error), error
else:
    raise AssertionError("an array of dtype U is accepted now")
PY
