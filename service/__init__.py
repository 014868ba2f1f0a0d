"""A microservice for recurrent text models: predictions, and the gates behind them."""

import os

# ONNX Runtime writes an id into the home folder and may send a word home as soon as it is imported: this variable
# alone, set before that, keeps it from both.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
