"""The logistic function and the softmax beside their definitions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from service.model.activations import sigmoid, softmax


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_sigmoid(kind: type[np.float32 | np.float64]) -> None:
    x: Any = np.array([[-30, -2, 0, 0.5, 30]], kind)
    found = sigmoid(x)
    assert found.dtype == kind
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-x.astype(np.float64))), atol=1e-6)
    wide: Any = np.array([-1e30, 1e30], kind)
    assert sigmoid(wide).tolist() == [0, 1]


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_softmax(kind: type[np.float32 | np.float64]) -> None:
    x: Any = np.array([[1, 2, 3], [1000, 1000, -1000]], kind)
    found = softmax(x)
    assert found.dtype == kind
    np.testing.assert_allclose(found.sum(axis=-1), 1, rtol=1e-6)
    np.testing.assert_allclose(found[0], np.exp([1, 2, 3]) / np.exp([1, 2, 3]).sum(), rtol=1e-6)
    np.testing.assert_allclose(found[1], [0.5, 0.5, 0])
