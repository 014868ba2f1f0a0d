"""Distillation for sentiment: a teacher is fine-tuned, its logits are cached, and a recurrent student learns from them.

The teacher is used in training only. Nothing of it is exported or served.
"""
