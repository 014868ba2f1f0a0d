"""What streams cost, in CPU time of one process: `python -m benchmarks.streams`; `--scripts 10000 URL` plays scripts.

Ratios, each the median of several rounds: a token late in a text and early, many streams together and one by one, a
stream and `/predict` of the growing text, gates in every event and none. And the bytes of an idle stream.
"""

from __future__ import annotations

import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from statistics import median

from benchmarks.stream_scripts import play
from service.http.render import dumps
from service.model import bundle as bundles
from service.model.loading import Model, loader
from service.model.streams.stepping import Job, Stepper
from service.model.streams.stream import Stream, Wanted, wanted

MODEL = Path(__file__).resolve().parents[1] / "models" / "sentiment-lstm"
WORDS = ["a", "slow", "start", "but", "the", "ending", "is", "wonderful", "and", "I", "was", "moved"]
ROUNDS, STREAMS = 7, 64


def seconds(act: Callable[[], object]) -> float:
    """CPU seconds of one call."""
    started = time.process_time()
    act()
    return time.process_time() - started


def read(stream: Stream, stepper: Stepper, words: int, first: int = 0) -> None:
    """Read so many words, each a piece of its own, and write their events."""
    for number in range(first, first + words):
        stream.feed(f"{WORDS[number % len(WORDS)]} ")
        while (job := stream.job()) is not None:
            for event in stream.took(stepper.run([job])[0]):
                dumps(event)


def late(model: Model, stepper: Stepper) -> float:
    """A token at position 10,000 beside one at position 100."""
    early, old = (Stream(model, stepper, Wanted()) for _ in range(2))
    read(early, stepper, 100)
    read(old, stepper, 10_000)
    pairs = [
        (seconds(lambda: read(old, stepper, 200)), seconds(lambda: read(early, stepper, 200))) for _ in range(ROUNDS)
    ]
    return median(after / before for after, before in pairs)


def together(model: Model, stepper: Stepper) -> float:
    """Tokens a second of the step, 64 streams together beside one after the other."""
    rows = stepper.rows([model.tokenizer.row("film")])
    jobs = [Job(rows, stepper.start()) for _ in range(STREAMS)]
    pairs = []
    for _ in range(ROUNDS):
        apart = seconds(lambda: [stepper.run([job]) for job in jobs * 10])
        pairs.append(apart / seconds(lambda: [stepper.run(jobs) for _ in range(10)]))
    return median(pairs)


def naive(model: Model, stepper: Stepper) -> float:
    """`/predict`'s work for each of 100 growing texts beside a stream of 100 words."""

    def again() -> None:
        for count in range(1, 101):
            encoded = model.encode(" ".join(WORDS[n % len(WORDS)] for n in range(count)), truncate=False)
            dumps(model.decoder.decode(model.engine.predict([encoded.rows]), [encoded]))

    return median(
        seconds(again) / seconds(lambda: read(Stream(model, stepper, Wanted()), stepper, 100)) for _ in range(ROUNDS)
    )


def gates(model: Model, stepper: Stepper) -> float:
    """A stream with one gate of one layer in each event beside one without."""
    asked = wanted(model.bundle.manifest, ["forget"], [0], None, 1, 4)
    return median(
        seconds(lambda: read(Stream(model, stepper, asked), stepper, 300))
        / seconds(lambda: read(Stream(model, stepper, Wanted()), stepper, 300))
        for _ in range(ROUNDS)
    )


def idle(model: Model, stepper: Stepper) -> float:
    """Bytes of a stream that has read 20 words."""
    tracemalloc.start()
    held = [Stream(model, stepper, Wanted()) for _ in range(200)]
    for stream in held:
        read(stream, stepper, 20)
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return used / len(held)


def main() -> None:
    """Measure, and print a line for each figure; or play scripts against a service."""
    if sys.argv[1:2] == ["--scripts"]:
        count, url = int(sys.argv[2]), sys.argv[3]
        print(f"{sum(play(url, seed) for seed in range(count))} of {count} scripts came to an answer, and none hung")
        return
    model = loader("cpu", 1, 4096)(bundles.load(MODEL / str(bundles.versions(MODEL)[-1])))
    stepper = Stepper(model.engine.network)
    for what, found, target in (
        ("a token at position 10,000 ÷ at 100", late(model, stepper), "at most 1.1"),
        ("64 streams together ÷ one by one", together(model, stepper), "at least 4"),
        ("growing text again and again ÷ stream", naive(model, stepper), "at least 6"),
        ("one gate in each event ÷ none", gates(model, stepper), "at most 1.5"),
        ("KiB of an idle stream", idle(model, stepper) / 1024, "at most 16"),
    ):
        print(f"{what}: {found:.2f} ({target})")


if __name__ == "__main__":
    main()
