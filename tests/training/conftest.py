"""Training sets torch's random numbers and its determinism for the whole process: no test leaves them to the next."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def _nothing_global_is_left() -> Iterator[None]:
    before, threads = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        yield
    torch.use_deterministic_algorithms(before)
    torch.set_num_threads(threads)
