"""Draw the README's picture, docs/answer.svg, from a running service: `python docs/answer.py http://127.0.0.1:8000`.

Above, each token with its share in the winning label's logit over the other's; below, the forget gate of every unit at
every token, units from the one that forgets most to the one that keeps most.
"""

from __future__ import annotations

import sys
from html import escape
from pathlib import Path

import httpx
import numpy as np

TEXT = "The plot is thin and the jokes are not funny, but the two leads are wonderful."
LEFT, TOP, ROW, GAP = 20, 64, 1.5, 4
# Orange to blue through white, and dark to light: both can be told apart without seeing red or green.
_FOR, _AGAINST = np.array([33, 102, 172]), np.array([230, 97, 1])
_SEQUENCE = np.array([[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]])


def rgb(colour: np.ndarray) -> str:
    return "#" + "".join(f"{round(channel):02x}" for channel in colour)


def diverging(share: float) -> str:
    """-1 to 1 as orange, white, blue."""
    end = _FOR if share > 0 else _AGAINST
    return rgb(255 + (end - 255) * min(1.0, abs(share)))


def sequential(value: float) -> str:
    """0 to 1 as dark to light."""
    place = min(max(value, 0.0), 1.0) * (len(_SEQUENCE) - 1)
    low = min(int(place), len(_SEQUENCE) - 2)
    return rgb(_SEQUENCE[low] + (_SEQUENCE[low + 1] - _SEQUENCE[low]) * (place - low))


def draw(answer: dict, trace: dict) -> str:
    prediction, given = trace["prediction"], trace["contributions"]
    label = given["labels"].index(prediction["label"])
    shares = np.array(given["tokens"])[:, label] - np.array(given["tokens"])[:, 1 - label]
    forget = np.array(trace["layers"][0]["gates"]["forget"])
    forget = forget[:, np.argsort(forget.mean(0))]
    widths = [max(34, 9 * len(token["text"]) + 12) for token in trace["tokens"]]
    width, height = 2 * LEFT + sum(widths) + GAP * len(widths), TOP + 96 + ROW * forget.shape[1] + 44
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:g}" font-family="sans-serif">',
        f"<title>{escape(TEXT)}: {prediction['label']}</title>",
        f'<rect width="{width}" height="{height:g}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="30" font-size="18" fill="#222222">{answer["model"]}: {prediction["label"]}, '
        f"{prediction['score']:.2f}</text>",
        f'<text x="{LEFT}" y="52" font-size="13" fill="#555555">each token&#8217;s share in it: '
        "blue for, orange against</text>",
    ]
    x = LEFT
    for token, size, share, gates in zip(trace["tokens"], widths, shares, forget, strict=True):
        middle = x + size / 2
        dark = abs(share) > 0.7 * np.abs(shares).max()
        out += [
            f'<rect x="{x}" y="{TOP}" width="{size}" height="30" rx="4" stroke="#cccccc" '
            f'fill="{diverging(share / np.abs(shares).max())}"/>',
            f'<text x="{middle}" y="{TOP + 20}" font-size="15" text-anchor="middle" '
            f'fill="{"#ffffff" if dark else "#222222"}">{escape(token["text"])}</text>',
            f'<text x="{middle}" y="{TOP + 46}" font-size="11" text-anchor="middle" fill="#555555">{share:+.2f}</text>',
        ]
        for unit, value in enumerate(gates):
            y = TOP + 84 + unit * ROW
            out.append(f'<rect x="{x}" y="{y:g}" width="{size}" height="{ROW + 0.1:g}" fill="{sequential(value)}"/>')
        x += size + GAP
    caption = "the forget gate of each unit, reading left to right"
    out.append(f'<text x="{LEFT}" y="{TOP + 74}" font-size="13" fill="#555555">{caption}</text>')
    bottom = TOP + 84 + ROW * forget.shape[1] + 14
    for step in range(101):
        out.append(
            f'<rect x="{LEFT + 60 + step}" y="{bottom:g}" width="1.2" height="10" fill="{sequential(step / 100)}"/>'
        )
    out += [
        f'<text x="{LEFT}" y="{bottom + 9:g}" font-size="11" fill="#555555">0 forgets</text>',
        f'<text x="{LEFT + 168}" y="{bottom + 9:g}" font-size="11" fill="#555555">1 keeps</text>',
        "</svg>",
    ]
    return "\n".join(out) + "\n"


if __name__ == "__main__":
    request = {"inputs": TEXT, "gates": ["forget"], "directions": ["forward"]}
    answer = httpx.post(f"{sys.argv[1]}/gates", json=request, timeout=60).raise_for_status().json()
    Path(__file__).with_name("answer.svg").write_text(draw(answer, answer["traces"][0]), encoding="utf-8")
