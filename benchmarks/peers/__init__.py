"""What users would serve the same model with instead: each peer by its own documentation, with its best settings."""
