#!/usr/bin/env bash
# kserve 0.21.0, its Open Inference Protocol over gRPC: data may be a list or an array, but not one of each in a message.
# to_grpc writes arrays to raw contents and lists to typed contents, tensor by tensor, where the protocol has raw contents
# for all tensors or none; raw contents have no names, so a list before an array is read from the array's bytes. Labels 1 and
# 0 beside scores .5 and .25 arrive as 1056964608 and 1048576000, in kserve and in tritonclient 2.73.0; token ids beside a
# mask arrive as the mask. Nothing fails until the array itself is asked for. All lists or all arrays are right, and so is
# REST. A request of arrays with content_type "pd", read on the server by as_dataframe, is a table without rows, no error:
# raw contents are not looked at; lists arrive whole. tritonclient and kserve's own client send arrays as raw contents.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
python3 -m venv triton
venv/bin/pip install --quiet kserve==0.21.0 grpcio==1.85.3 protobuf==6.33.6 pandas==2.3.3 numpy==2.4.6
triton/bin/pip install --quiet tritonclient[grpc]==2.73.0 numpy==2.4.6
cat > other.py <<'PY'
import sys
from importlib.metadata import version

from tritonclient.grpc import InferResult
from tritonclient.grpc.service_pb2 import ModelInferResponse

for path in sys.argv[1:]:
    with open(path, "rb") as file:
        label = InferResult(ModelInferResponse.FromString(file.read())).as_numpy("label").tolist()
    print(f"tritonclient {version('tritonclient')}, {path}: label {label}")
    assert label == ([1056964608, 1048576000] if path == "list-array" else [1, 0]), label
PY
cat > program.py <<'PY'
from importlib.metadata import version
from pathlib import Path

import numpy as np
from kserve import InferInput, InferOutput, InferRequest, InferResponse
from kserve.protocol.grpc.grpc_predict_v2_pb2 import ModelInferRequest, ModelInferResponse
from kserve.utils.utils import get_predict_input

TYPES = {"INT64": np.int64, "INT32": np.int32, "FP32": np.float32}


def sent(tensors, kind, parameters=None):
    """The message as it is sent: `tensors` is name, datatype, values and whether they are sent as an array."""
    made = []
    for name, datatype, values, array in tensors:
        data = np.array(values, TYPES[datatype])
        made.append(kind(name, list(data.shape), datatype, data=data if array else data.ravel().tolist()))
    if kind is InferInput:
        return InferRequest("sentiment", made, parameters=parameters).to_grpc().SerializeToString()
    return InferResponse("1", "sentiment", made).to_grpc().SerializeToString()


def value(tensor):
    try:
        return tensor.as_numpy().tolist()
    except ValueError as error:
        return str(error)


print(f"kserve {version('kserve')}")
for first, second in [(False, False), (True, True), (True, False), (False, True)]:
    form = f"{'array' if first else 'list'}-{'array' if second else 'list'}"
    message = sent([("label", "INT32", [1, 0], first), ("score", "FP32", [0.5, 0.25], second)], InferOutput)
    Path(form).write_bytes(message)
    label, score = map(value, InferResponse.from_grpc(ModelInferResponse.FromString(message)).outputs)
    print(f"{form}: label {label}, score {score}")
    if form == "list-array":
        assert label == np.array([0.5, 0.25], np.float32).view(np.int32).tolist() and "reshape" in score
    else:
        assert label == [1, 0] and score == [0.5, 0.25]

ids, mask = [[3, 7, 1], [4, 0, 0]], [[1, 1, 1], [1, 0, 0]]
message = sent([("ids", "INT64", ids, False), ("mask", "INT64", mask, True)], InferInput)
read = value(InferRequest.from_grpc(ModelInferRequest.FromString(message)).inputs[0])
print(f"a request, list, array: ids {ids} are read as {read}")
assert read == mask

for array in (False, True):
    message = sent([("length", "INT64", [3, 1], array)], InferInput, {"content_type": "pd"})
    request = InferRequest.from_grpc(ModelInferRequest.FromString(message))
    table = get_predict_input(request)
    print(f"a table of {'an array' if array else 'a list'} of 2: {len(table)} rows; as_numpy: {value(request.inputs[0])}")
    assert len(table) == (0 if array else 2) and value(request.inputs[0]) == [3, 1]
print("Make all data of a message arrays, or all lists; for tables, lists.")
PY
venv/bin/python -W ignore program.py
triton/bin/python -W ignore other.py array-array array-list list-array
