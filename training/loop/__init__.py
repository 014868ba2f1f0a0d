"""The training loop and its parts: schedules, checkpoints, processes, logs."""
