#!/usr/bin/env bash
# MNN 3.6.1: each run of mnnconvert starts pip, to fetch or update a package that sends logs (aliyun-log-python-sdk).
# It takes the first pip on PATH. If the converter is called by its path, that is another Python's than its own:
# the packages land there, and versions there change. The converter itself does not find them afterwards, and asks again.
# Nothing asks the user; the conversion needs none of it. Here a stand-in for pip notes its arguments and does nothing.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet mnn==3.6.1 onnx==1.23.2 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
import os
import subprocess
from importlib.metadata import version
from pathlib import Path
import onnx
from onnx import TensorProto, helper

shape = [3, 4]
value = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "XY"}
graph = helper.make_graph([helper.make_node("Tanh", ["X"], ["Y"])], "tanh", [value["X"]], [value["Y"]])
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), "tanh.onnx")

notes, stand_in = Path("notes.txt").resolve(), Path("first/pip").resolve()
stand_in.parent.mkdir()
stand_in.write_text(f'#!/bin/sh\necho "$@" >> "{notes}"\nexit 1\n')
stand_in.chmod(0o755)
path = {**os.environ, "PATH": f"{stand_in.parent}:{os.environ['PATH']}"}
command = ["venv/bin/mnnconvert", "-f", "ONNX", "--modelFile", "tanh.onnx", "--MNNModel", "tanh.mnn", "--bizCode", "x"]
for time in (1, 2):
    done = subprocess.run(command, capture_output=True, text=True, env=path)
    assert "Converted Success" in done.stdout and Path("tanh.mnn").stat().st_size, done.stdout
    calls = notes.read_text().splitlines()
    print(f"mnn {version('mnn')}, run {time}: converted; the first pip on PATH was called with", sorted(set(calls)))
    assert len(calls) >= time and set(calls) == {"install -U aliyun-log-python-sdk"}, calls
print("Put a pip that does nothing first on PATH before you run mnnconvert outside an environment of its own.")
PY
