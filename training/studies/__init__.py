"""Studies of cells and models: gradients, long memory, robustness."""
