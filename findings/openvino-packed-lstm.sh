#!/usr/bin/env bash
# openvino 2026.4.1 converts a torch module with pack_padded_sequence and an LSTM, and then ignores the lengths.
# Last states, and the backward direction at real steps, are those of the padded batch, for the example inputs too. A batch of
# one length is right. No warning. With the shapes of both inputs fixed at conversion all is right.
# A GRU or RNN behind the same call is refused at conversion. No ONNX file is involved.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export OPENVINO_TELEMETRY=0
python3 -m venv venv
venv/bin/pip install --quiet openvino==2026.4.1 torch==2.13.0 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
import numpy as np
import openvino as ov
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class Packed(nn.Module):
    def __init__(self, kind, both):
        super().__init__()
        self.layer = kind(4, 5, batch_first=True, bidirectional=both)

    def forward(self, x, lengths):
        packed = pack_padded_sequence(x, lengths, batch_first=True)
        out, state = self.layer(packed)
        last = state[0] if isinstance(state, tuple) else state
        return pad_packed_sequence(out, batch_first=True)[0], last


def off(layer, compiled, x, lengths):
    """How far the outputs at real steps, forward and backward, and the last states are from torch's."""
    with torch.no_grad():
        y, last = layer(x, lengths)
    answer = compiled([x.numpy(), lengths.numpy()])
    real = (torch.arange(x.shape[1]) < lengths[:, None]).numpy()
    gap, at_end = np.abs(answer[0] - y.numpy())[real], float(np.abs(answer[1] - last.numpy()).max())
    return float(gap[:, :5].max()), float(gap[:, 5:].max()) if gap.shape[1] > 5 else 0.0, at_end


torch.manual_seed(0)
core = ov.Core()
ragged = torch.randn(3, 6, 4), torch.tensor([6, 4, 2])
whole = torch.randn(3, 6, 4), torch.tensor([6, 6, 6])
precise = {"INFERENCE_PRECISION_HINT": "f32"}
for both in (False, True):
    for shapes in (None, [[3, 6, 4], [3]]):
        layer = Packed(nn.LSTM, both).eval()
        model = ov.convert_model(layer, example_input=ragged, **({"input": shapes} if shapes else {}))
        compiled = core.compile_model(model, "CPU", precise)
        forward, backward, last = off(layer, compiled, *ragged)
        print(
            f"openvino {ov.__version__[:8]}, LSTM, {1 + both} directions, {'fixed' if shapes else 'free'} shapes, lengths "
            f"6, 4, 2: off at real steps by {forward:.1e} forward and {backward:.1e} backward, last states by {last:.1e}"
        )
        free = shapes is None
        assert forward < 1e-5 and (backward > 1e-2) == (both and free) and (last > 1e-2) == free, (forward, backward, last)
        assert max(off(layer, compiled, *whole)) < 1e-5
for kind in (nn.GRU, nn.RNN):
    try:
        ov.convert_model(Packed(kind, False).eval(), example_input=ragged)
    except Exception as error:
        print(f"{kind.__name__}: refused with {type(error).__name__}")
    else:
        raise AssertionError(f"{kind.__name__} is converted")
print("Fix the shapes of batches with padding, or run one length at a time.")
PY
