"""Weights in a file of their own: the file holds each array's values in the order of its axes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from onnx import numpy_helper
from safetensors.numpy import load_file

from training.export.onnx.builder import Weights

ARRAY = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
FORMS = {
    "plain": ARRAY,
    "transposed": ARRAY.swapaxes(1, 2),
    "reversed": ARRAY[:, ::-1],
    "every second": ARRAY[:, :, ::2],
    "Fortran": np.asfortranarray(ARRAY),
    "no axis": np.array(3, np.float32),
}


@pytest.mark.parametrize("array", FORMS.values(), ids=FORMS)
def test_the_file_keeps_values_whatever_their_order_in_memory(array: NDArray[np.float32], tmp_path: Path) -> None:
    weights = Weights(tmp_path / "weights.safetensors", {"first": ARRAY, "W": array})
    assert_array_equal(load_file(weights_file := tmp_path / weights.file)["W"], array)
    tensor = weights.tensor("W", "W", None, slice(None))
    onnx.external_data_helper.load_external_data_for_tensor(tensor, str(weights_file.parent))
    assert_array_equal(numpy_helper.to_array(tensor), array)


@pytest.mark.parametrize("name", ["transposed", "reversed", "Fortran"])
def test_rows_of_one_direction_are_found_in_the_file(name: str, tmp_path: Path) -> None:
    weights = Weights(tmp_path / "weights.safetensors", {"W": FORMS[name]})
    tensor = weights.tensor("rows", "W", 1, slice(1, 3))
    onnx.external_data_helper.load_external_data_for_tensor(tensor, str(tmp_path))
    assert_array_equal(numpy_helper.to_array(tensor), FORMS[name][1, 1:3])
