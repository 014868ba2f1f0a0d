"""ONNX graphs, written from the weights."""
