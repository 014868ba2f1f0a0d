"""The name and the version of the software, for `--version`, the API document and the distribution."""

from __future__ import annotations

VERSION = "0.1.0"

TITLE = "Gatelight"
DESCRIPTION = (
    "Sentiment and named entities from recurrent networks (LSTM and GRU, one direction or two), "
    "and every gate activation behind each answer."
)
