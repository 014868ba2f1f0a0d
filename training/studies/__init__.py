"""What is measured about cells and models: gradients, long memory, robustness."""
