"""NVIDIA Triton by PyTriton: its HTTP server and its dynamic batcher before the model in Python, on two threads.

There is one instance. Two would start together, and the second waits one second for the first; on a busy machine that
is too short.
"""

from __future__ import annotations

import argparse
import os
import sysconfig
from typing import Any

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from benchmarks.peers.common import MAX_BATCH, WORKERS, Predictor, bundle_folder

MODEL = "sentiment"


def _serve(config: TritonConfig) -> None:
    predictor = Predictor(bundle_folder(), threads=WORKERS)

    @batch
    def infer(text: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
        found = predictor([each.decode() for each in text[:, 0]])
        labels = np.array([[each["label"]] for each in found], np.bytes_)
        scores = np.array([[each["score"]] for each in found], np.float32)
        return {"label": labels, "score": scores}

    with Triton(config=config) as triton:
        triton.bind(
            model_name=MODEL,
            infer_func=infer,
            inputs=[Tensor(name="text", dtype=np.bytes_, shape=(1,))],
            outputs=[
                Tensor(name="label", dtype=np.bytes_, shape=(1,)),
                Tensor(name="score", dtype=np.float32, shape=(1,)),
            ],
            config=ModelConfig(max_batch_size=MAX_BATCH, batcher=DynamicBatcher(max_queue_delay_microseconds=5000)),
            strict=True,
        )
        triton.serve()


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--port", type=int, required=True)
    # Triton's stub has to load this interpreter's own library, not the system's, which may be another release.
    libraries = [str(sysconfig.get_config_var("LIBDIR")), os.environ.get("LD_LIBRARY_PATH", "")]
    os.environ["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, libraries))
    _serve(
        TritonConfig(
            http_address="127.0.0.1",
            http_port=arguments.parse_args().port,
            allow_grpc=False,
            allow_metrics=False,
        )
    )
