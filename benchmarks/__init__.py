"""Measurements of this project beside named baselines."""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as in the service; NumPy reads it when it is imported
