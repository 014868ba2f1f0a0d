"""The command ``gatelight``: the same program as ``python -m service``, prepared alike."""

from __future__ import annotations

from importlib import import_module

from service import interpreter


def gatelight() -> None:
    """Run the command line."""
    interpreter.begin()
    import_module("service.__main__").main(prog_name="gatelight")
