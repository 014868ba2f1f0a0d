"""The figures that the reading guides quote, computed from the model that they speak of.

In a guide a figure stands between two comments, `<!--=name-->0.98<!--/-->`, which nobody sees who reads the page.
`python -m docs.pictures` puts today's figures there; tests/test_reading.py says when they are no longer those of the
model that ships. The guides' conclusions from figures are asserted here, as claims: a model for which one does not
hold needs other words, not other figures.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import httpx

FOLDER = Path(__file__).parent / "reading"
MODEL = "sentiment-bilstm"
TWO_LEADS = "The plot is thin and the jokes are not funny, but the two leads are wonderful."
REVIEW = (
    "I had heard good things about this film. The first hour is slow, the middle is slower, and by the end I did not "
    "care who lived. The actors try. The music tries too. Nothing helps: it is a dull, long, empty film."
)
PRAISE = [
    ("You will not waste your money.", "You will waste your money.", "waste"),
    ("The battery does not die.", "The battery does die.", "die"),
    ("The food will not make you sick.", "The food will make you sick.", "sick"),
    ("It does not fall apart.", "It does fall apart.", "fall"),
    ("You will not be disappointed.", "You will be disappointed.", "disappointed"),
    ("I was not bored.", "I was bored.", "bored"),
    ("You will not regret it.", "You will regret it.", "regret"),
    ("The jokes do not disappoint.", "The jokes disappoint.", "disappoint"),
    ("It is not a bad film.", "It is a bad film.", "bad"),
    ("The film is not boring.", "The film is boring.", "boring"),
    ("The ending is not stupid.", "The ending is stupid.", "stupid"),
    ("It does not waste a minute.", "It does waste a minute.", "waste"),
    ("This is not a failure.", "This is a failure.", "failure"),
]
"""Praise with a negation, the same without, and the word that is negated: the guide takes the first that goes wrong."""

Ask = Callable[..., dict[str, Any]]
"""`ask(text, **more)` is the trace that `/gates` answers for a text, read by `MODEL`; `ask()` is the model."""

_FIGURE = re.compile(r"(<!--=([\w.-]+)-->)(.*?)(<!--/-->)", re.DOTALL)


def asking(url: str) -> Ask:
    """Asks the service at an address."""

    def ask(text: str | None = None, **more: Any) -> dict[str, Any]:
        if text is None:
            answer = httpx.get(f"{url}/models/{MODEL}", timeout=60)
            return dict(answer.raise_for_status().json())
        body = {"model": MODEL, "inputs": text, "decimals": None, **more}
        answer = httpx.post(f"{url}/gates", json=body, timeout=60)
        return dict(answer.raise_for_status().json()["traces"][0])

    return ask


def figures(ask: Ask) -> dict[str, str]:
    """Every figure by its name. Raises `ValueError` where a guide's claim does not hold for the model."""
    return {"model": MODEL, "version": str(ask()["version"]), **_units(ask), **_wrong(ask)}


def fill(text: str, found: dict[str, str]) -> str:
    """A guide with these figures in it. Raises `KeyError` for a figure that is not among them."""
    return _FIGURE.sub(lambda match: match[1] + found[match[2]] + match[4], text)


def _units(ask: Ask) -> dict[str, str]:
    """The behaviour of the forward direction's units over the review."""
    trace = ask(REVIEW, reduce="summary", statistics=True, contributions=False)
    of = next(each["statistics"] for each in trace["layers"] if each["layer"] == 0 and each["direction"] == "forward")
    forget, entry, horizon = of["gates"]["forget"], of["gates"]["input"], of["horizon"]
    keeping = _most(forget["mean"], 4)
    opened = _most(forget["above"], 3)
    shut = _most(entry["below"], 3)
    longest = _most(horizon, 1)[0]
    _claim(min(forget["mean"][unit] for unit in keeping) > 0.9, "four forget gates stay near 1")
    _claim(forget["above"][opened[-1]] > 0.8, "three forget gates are open most of the time")
    _claim(entry["below"][shut[-1]] > 0.5, "three input gates are shut most of the time")
    return {
        "tokens": str(len(trace["tokens"])),
        "keeping.units": _listed(keeping),
        "keeping.least": f"{forget['mean'][keeping[-1]]:.2f}",
        "keeping.most": f"{forget['mean'][keeping[0]]:.2f}",
        "horizon.unit": str(longest),
        "horizon.longest": f"{horizon[longest]:.0f}",
        "horizon.median": f"{median(horizon):.1f}",
        "horizon.over-8": str(sum(each > 8 for each in horizon)),
        "open.units": _listed(opened),
        "open.share": f"{100 * forget['above'][opened[-1]]:.0f} %",
        "shut.units": _listed(shut),
        "shut.share": f"{100 * entry['below'][shut[-1]]:.0f} %",
    }


def _wrong(ask: Ask) -> dict[str, str]:
    """Praise that the model takes for the contrary, although it weighs the negated word less."""
    for praise, plain, word in PRAISE:
        with_not, without = (_shares(ask(text)) for text in (praise, plain))
        wrong = with_not["logit"] < 0 and without["logit"] < with_not["logit"]
        if wrong and with_not["not"] < 0 and without[word] < with_not[word] < 0:
            return {
                "wrong.text": praise,
                "wrong.plain": plain,
                "wrong.word": word,
                "wrong.label": "negative",
                "wrong.score": f"{with_not['score']:.1f} %",
                "wrong.logit": _signed(with_not["logit"]),
                "wrong.plain-logit": _signed(without["logit"]),
                "wrong.share": _signed(with_not[word]),
                "wrong.plain-share": _signed(without[word]),
                "wrong.not-share": _signed(with_not["not"]),
            }
    raise ValueError("docs/figures.py: the model gets none of PRAISE wrong in the way that wrong-answer.md describes")


def _shares(trace: dict[str, Any]) -> dict[str, float]:
    """Each token's share in the logit of "positive", that logit, and the score (in %) of "negative"."""
    given = trace["contributions"]
    at = given["labels"].index("positive")
    shares = {token["text"].lower(): row[at] for token, row in zip(trace["tokens"], given["tokens"], strict=True)}
    return {**shares, "logit": given["logits"][at], "score": 100 * trace["prediction"]["scores"]["negative"]}


def _most(values: list[float], count: int) -> list[int]:
    return sorted(range(len(values)), key=lambda unit: (-values[unit], unit))[:count]


def _listed(units: list[int]) -> str:
    return f"{', '.join(map(str, units[:-1]))} and {units[-1]}"


def _signed(value: float) -> str:
    return f"{value:.2f}"


def _claim(holds: bool, words: str) -> None:
    if not holds:
        raise ValueError(f"docs/figures.py: the guides say that {words}; for {MODEL} that is not so")
