"""How many threads torch computes with in a training, and how they treat the smallest numbers."""

from __future__ import annotations

import os

import torch

from service.cpus import usable_cpus

_SMALL = 256
_MOST = 4


def choose(wanted: int, hidden: int) -> str:
    """Set torch's threads and return a sentence that says how many and why. `wanted` is 0 for a choice by size.

    A recurrent step of up to 256 units is too little work to share. Beside busy processes a second thread made such a
    step 27 times slower (`python -m benchmarks.threads`), since each thread waits for the other at every step. The
    choice depends on the machine and the network alone, never on the load: the number of threads changes the rounding,
    and a resumed training must give the same numbers.
    """
    cpus = usable_cpus()
    if wanted:
        number, reason = wanted, "as --threads says"
    elif "OMP_NUM_THREADS" in os.environ:
        number, reason = torch.get_num_threads(), "as OMP_NUM_THREADS says"
    elif hidden <= _SMALL:
        number, reason = 1, f"enough for {hidden} units, and the fastest beside other programs; --threads sets another"
    else:
        number, reason = min(_MOST, cpus), f"for {hidden} units; --threads 1 is faster beside other programs"
    torch.set_num_threads(number)
    flush_denormals()
    return f"torch computes with {number} {'thread' if number == 1 else 'threads'} of {cpus} CPUs: {reason}"


def flush_denormals() -> None:
    """Take numbers under 1e-38 as 0 from now on. Threads that are started later do the same.

    A gradient that fades over hundreds of steps passes through these numbers, and a CPU computes with them many times
    more slowly: a pass of a minimal cell over 2,000 steps took three to five times as long.
    """
    torch.set_flush_denormal(True)
