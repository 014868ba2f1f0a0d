"""One loaded model: a bundle with its tokenizer, its engine and its decoder; and how it is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from mmap import mmap
from typing import TYPE_CHECKING, Literal
from weakref import WeakValueDictionary

import structlog

from service.errors import BundleError, StartupError
from service.model import unit_cards, weights
from service.model.bundle import MODEL_GRAPH, TOKENIZER, UNITS, WEIGHTS, Bundle, Manifest, Task
from service.model.decoding import Classifier, Tagger, decoder
from service.model.equations import Direction, gate_names
from service.model.sentences import may_divide, sentences
from service.model.tokenizer import Encoded, Tokenizer

if TYPE_CHECKING:  # the import of the engine needs ONNX Runtime; if that is missing, `choose_provider` reports it
    from service.model.engine import Engine, Provider

ProviderSetting = Literal["auto", "cpu", "cuda"]

RUNTIMES_PAGE = "docs/reference/runtimes.md"
"""The runtimes that read the graphs correctly, and the export of the portable graph."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Model:
    """One loaded model: everything that turns an input into a prediction."""

    bundle: Bundle
    tokenizer: Tokenizer
    engine: Engine
    decoder: Classifier | Tagger
    seconds_per_token: float
    """Duration of a prediction, measured during the warm-up."""
    token_limit: int
    """The smaller of the manifest's limit and the service's."""
    parameters: int | None = None
    name: str = field(init=False)
    version: str = field(init=False)
    task: Task = field(init=False)

    def __post_init__(self) -> None:
        manifest = self.bundle.manifest
        for name, value in (("name", self.bundle.name), ("version", str(self.bundle.version)), ("task", manifest.task)):
            object.__setattr__(self, name, value)

    def encode(self, value: str | Sequence[str], *, truncate: bool, split: bool = True) -> Encoded:
        """Encode one input. With `split`, raw text for a tagger gets its sentences.

        Raises `InvalidField`, its pointer relative to the input.
        """
        encoded = self.tokenizer.encode(value, self.token_limit, truncate=truncate)
        if split and isinstance(value, str) and self.bundle.manifest.head == "tagger":
            one = [(0, len(encoded))]
            encoded.sentences = sentences(value, encoded.spans) if may_divide(value) else one
        return encoded

    def card(self, layer: int, direction: Direction, unit: int) -> dict[str, object]:
        """The card of a unit that the model has, in plain values for JSON."""
        manifest = self.bundle.manifest
        cards = unit_cards.read(self.bundle.content(UNITS), manifest) if UNITS in manifest.files else None
        return unit_cards.card(manifest, self.engine.head_weight, cards, layer, direction, unit)

    def describe(self) -> dict[str, object]:
        """The model as in `GET /models`, in plain values for JSON."""
        manifest, placement = self.bundle.manifest, self.engine.placement
        return {
            "name": self.name,
            "version": self.version,
            **manifest.model_dump(mode="json", include=_TOLD),
            "peepholes": manifest.form if manifest.cell == "peephole" else None,
            "gates": list(gate_names(manifest.cell)),
            "equations": manifest.equations,
            "provider": self.engine.provider,
            "placement": {"recurrent": dict(placement.recurrent), "other": dict(placement.other)},
            "relies_on": list(self.engine.relies_on),
            "runtimes": RUNTIMES_PAGE,
            "token_limit": self.token_limit,
            "parameters": self.parameters,
            "cards": UNITS in manifest.files,
            "seed": manifest.origin.seed,
            "epochs": manifest.origin.epochs,
        }


_TOLD = {
    *("task", "cell", "gru_reset", "directions", "window_words", "layers", "hidden", "head", "precision", "labels"),
    *("features", "quality", "raw_text", "faithfulness", "quality_before", "parity", "licence"),
}
"""Fields of a manifest in `Model.describe`."""
_HEADROOM: Mapping[Provider, int] = {"cpu": 512 << 20, "cuda": 8 << 30}
_COPIES = 8
"""Memory that loading a bundle may take: this many bytes plus a multiple of its size. Loading takes only a small part
of it, but other threads need memory at the same time."""

Load = Callable[[Bundle], Model]
"""Makes a warmed-up model from a verified bundle. Raises `BundleError`."""


def loader(provider: Provider, threads: int, token_limit: int, *, strict: bool = False) -> Load:
    """A loader: ONNX Runtime on `provider`, `threads` for one run, at most `token_limit` tokens.

    If a recurrent layer does not run on the provider, the model is refused with `strict`; otherwise the log warns.
    Bundles with the same weights share them in memory; versions with the same files share everything.
    """
    from service.model import network_check
    from service.model.engine import Engine
    from service.model.untrusted import memory_limit

    alike: WeakValueDictionary[str, Model] = WeakValueDictionary()  # by the bundle's digest
    in_memory: WeakValueDictionary[str, mmap] = WeakValueDictionary()  # weights by SHA-256

    def load(bundle: Bundle) -> Model:
        same = alike.get(bundle.digest)
        if same is not None:
            return replace(same, bundle=bundle.without_contents())
        bundle = bundle.sharing(in_memory)
        size = sum(len(bundle.content(name)) for name in bundle.manifest.file_names)
        with memory_limit.memory(_HEADROOM[provider] + size * _COPIES):
            model = alike[bundle.digest] = loaded(bundle)
        bundle.rest()
        return model

    def loaded(bundle: Bundle) -> Model:
        manifest = bundle.manifest
        if UNITS in manifest.files:
            unit_cards.read(bundle.content(UNITS), manifest)
        engine = Engine(bundle, provider=provider, threads=threads)
        if engine.provider != provider:
            where, why = dict(engine.placement.recurrent), fallback_reason(manifest)
            if strict:
                counts = ", ".join(f"{count} on {name}" for name, count in sorted(where.items()))
                raise BundleError(f"not all recurrent layers run on {provider} ({counts}), and strict is set: {why}")
            _log.warning("model does not run on the provider chosen", model=bundle.name, recurrent=where, why=why)
        seconds_per_token = engine.warm_up()
        network_check.check(engine)
        return Model(
            bundle.without_contents(),
            Tokenizer.read(bundle.content(TOKENIZER), manifest.features),
            engine,
            decoder(manifest.task, manifest.labels, manifest.crf),
            seconds_per_token=seconds_per_token,
            token_limit=min(manifest.token_limit, token_limit),
            parameters=sum(each.array.size for each in weights.read(bundle.content(WEIGHTS)).values()),
        )

    return load


def fallback_reason(manifest: Manifest) -> str:
    """The reason why a model's recurrent layers run on the CPU despite CUDA."""
    if manifest.cell == "gru" and manifest.gru_reset == "before":
        return "the CUDA provider has no GRU whose reset comes before the product"
    if manifest.precision == "int8":
        return "the CUDA provider has no LSTM of integers"
    if manifest.gates_graph == MODEL_GRAPH:
        return f"there is no operator for the {manifest.cell}: it goes step by step, which the CPU does faster"
    if manifest.cell == "peephole":
        return "the CUDA provider has no LSTM with peepholes"
    return "there is no GPU or no driver, or CUDA or cuDNN cannot be loaded"


def choose_provider(wanted: ProviderSetting) -> Provider:
    """The execution provider to use. Raises `StartupError` if ONNX Runtime or its CUDA provider is missing."""
    try:
        from service.model.engine import available_providers
    except ImportError as error:
        raise StartupError(
            "ONNX Runtime is not installed, or broken. Install the extra 'cpu' (the package onnxruntime) or, for "
            "NVIDIA GPUs, the extra 'cuda' (the package onnxruntime-gpu), and never both."
        ) from error
    available = "CUDAExecutionProvider" in available_providers()
    if wanted == "cuda" and not available:
        raise StartupError(
            "The provider is set to cuda, but the ONNX Runtime that is installed cannot use CUDA. Install the extra "
            "'cuda' (the package onnxruntime-gpu) in place of the extra 'cpu' (onnxruntime), or set the provider to "
            "auto or cpu."
        )
    if wanted == "auto":
        why = "ONNX Runtime has CUDAExecutionProvider" if available else "ONNX Runtime has no CUDAExecutionProvider"
        _log.info("provider chosen", provider="cuda" if available else "cpu", setting=wanted, why=why)
    return "cuda" if wanted == "cuda" or (wanted == "auto" and available) else "cpu"
