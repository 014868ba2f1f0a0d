#!/usr/bin/env bash
# mlserver 1.7.1: both codecs damage BYTES data that is nested by its shape.
# The Open Inference Protocol allows tensor data nested by its shape, or flat in row-major order.
# StringCodec itself writes the shape [N, 1] for N texts. With that shape and nested data it returns N empty strings.
# NumpyCodec cuts each text to its first byte. Flat data is read right by both. No error, no warning.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet mlserver==1.7.1 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
from importlib.metadata import version
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import RequestInput

texts = ["a good film", "a dull film"]
shape = StringCodec.encode_input("text", texts).shape
assert shape == [2, 1], shape
flat = RequestInput(name="text", shape=shape, datatype="BYTES", data=texts)
nested = RequestInput(name="text", shape=shape, datatype="BYTES", data=[[text] for text in texts])
found = StringCodec.decode_input(flat), StringCodec.decode_input(nested)
print("mlserver", version("mlserver"), "StringCodec, flat:", found[0], "nested:", found[1])
assert found == (texts, ["", ""]), found
arrays = NumpyCodec.decode_input(flat).tolist(), NumpyCodec.decode_input(nested).tolist()
print("NumpyCodec, flat:", arrays[0], "nested:", arrays[1])
assert arrays == ([[text] for text in texts], [[b"a"], [b"a"]]), arrays
print("The texts of the nested tensor came out empty (StringCodec) or as one byte each (NumpyCodec).")
PY
