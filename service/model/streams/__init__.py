"""A text read as it comes: tokens, one step of a network at a time, and the state between two pieces."""
