"""Checks of a bundle from anywhere, before ONNX Runtime sees it."""
