"""Other servers of the same model, each by its own documentation and with its best settings."""
