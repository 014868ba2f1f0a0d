#!/usr/bin/env bash
# torch 2.13.0: torch.onnx.export(dynamo=True) with a named dynamic time axis writes a file with a fixed time axis
# for an LSTM or GRU of two layers. It reports success, and no warning names the axis.
# torch.export.export refuses the same module and the same dynamic_shapes: T was specialised to 6.
# One layer keeps the input's axis dynamic. The file of two layers rejects every other length in onnxruntime 1.32.0.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet torch==2.13.0 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
import contextlib, io, logging, warnings
import onnxruntime as ort
import torch

records: list[logging.LogRecord] = []
make = logging.getLogRecordFactory()


def record(*words, **named):
    records.append(make(*words, **named))
    return records[-1]


logging.setLogRecordFactory(record)  # hears every logger, whatever its handlers
T = torch.export.Dim("T", min=1, max=512)
x = torch.zeros(2, 6, 4)
for kind in (torch.nn.LSTM, torch.nn.GRU):
    for layers, kept in ((1, True), (2, False)):
        layer = kind(4, 8, layers, batch_first=True).eval()
        heard = io.StringIO()
        with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stdout(heard):
            warnings.simplefilter("always")
            program = torch.onnx.export(layer, (x,), dynamo=True, dynamic_shapes=({1: T},))
        said = heard.getvalue() + " ".join(str(one.message) for one in caught)
        said += " ".join(one.getMessage() for one in records)
        axis = program.model_proto.graph.input[0].type.tensor_type.shape.dim[1]
        assert "pecializ" not in said and "onstant" not in said, said
        print(f"torch {torch.__version__}, {kind.__name__}, {layers} layer(s): time axis in the file:", axis.dim_param or axis.dim_value)
        session = ort.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
        try:
            session.run(None, {session.get_inputs()[0].name: torch.zeros(2, 9, 4).numpy()})
            ran = True
        except ort.capi.onnxruntime_pybind11_state.InvalidArgument:
            ran = False
        assert (bool(axis.dim_param), ran) == (kept, kept), (axis, ran)
try:
    torch.export.export(torch.nn.LSTM(4, 8, 2, batch_first=True).eval(), (x,), dynamic_shapes=({1: T},))
except Exception as error:
    assert "specialized it to be a constant (6)" in str(error), error
    print("torch.export.export refuses two layers with this axis; torch.onnx.export freezes it and reports success.")
else:
    raise AssertionError("torch.export.export accepts two layers now")
PY
