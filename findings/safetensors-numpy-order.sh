#!/usr/bin/env bash
# safetensors 0.8.0: safetensors.numpy writes the values of a transposed or strided array in the wrong order.
# The header has the array's shape, the data have the order of its memory. Loading gives other values, without an error.
# The states of a recurrent layer are such arrays after the axes of time and batch have been swapped.
# safetensors 0.7.0 wrote these arrays right, so an update damages what a program saves. The docstring of both versions
# asks for contiguous tensors; a Fortran array is contiguous too. safetensors.torch raises an error for the same arrays.
# The issue tracker of safetensors knows it since August 2026 (number 825, open). Cure: numpy.ascontiguousarray.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv seven
seven/bin/pip install --quiet safetensors==0.7.0 numpy==2.4.6
python3 -m venv eight
eight/bin/pip install --quiet safetensors==0.8.0 numpy==2.4.6
cat > program.py <<'PY'
import warnings
import numpy as np
import safetensors
from safetensors.numpy import load, load_file, save, save_file

STEPS, BATCH, HIDDEN = 5, 3, 4
states = np.arange(STEPS * BATCH * HIDDEN, dtype=np.float32).reshape(STEPS, BATCH, HIDDEN)
arrays = {
    "plain": states,
    "batch first": states.swapaxes(0, 1),
    "reversed in time": states[::-1],
    "every second step": states[::2],
    "Fortran": np.asfortranarray(states),
}
with warnings.catch_warnings():
    warnings.simplefilter("error")
    found = load(save(arrays))
    save_file(arrays, "states.safetensors")
    again = load_file("states.safetensors")
right = [name for name, array in arrays.items() if np.array_equal(found[name], array) and np.array_equal(again[name], array)]
print("safetensors", safetensors.__version__, "- saved and loaded right:", right)
assert all(found[name].shape == array.shape for name, array in arrays.items())
assert right == {"0.7.0": list(arrays), "0.8.0": ["plain"]}[safetensors.__version__], right
PY
seven/bin/python program.py
eight/bin/python program.py
echo "safetensors 0.8.0 wrote four of five arrays with their values in another order, and reported nothing."
