"""A trained network to a bundle, with its card and its parity certificate."""
