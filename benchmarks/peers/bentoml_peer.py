"""BentoML with its adaptive batching, in two workers."""

from __future__ import annotations

import argparse
from typing import Any

import bentoml

from benchmarks.peers.common import MAX_BATCH, WORKERS, Predictor, bundle_folder


@bentoml.service(workers=WORKERS, traffic={"timeout": 60, "max_concurrency": 1000})
class Sentiment:
    def __init__(self) -> None:
        self.predictor = Predictor(bundle_folder(), threads=1)

    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH, max_latency_ms=1000)
    def predict(self, inputs: list[str]) -> list[dict[str, Any]]:
        return self.predictor(inputs)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--port", type=int, required=True)
    bentoml.serve(
        "benchmarks.peers.bentoml_peer:Sentiment", host="127.0.0.1", port=arguments.parse_args().port, blocking=True
    )
