"""Streams of text: tokens as they arrive, one network step at a time, and the state between two pieces."""
