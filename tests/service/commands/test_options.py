"""Options of the command line that are made from the fields of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

import click
import pytest
from click.testing import CliRunner
from pydantic import BaseModel, ConfigDict, Field, model_validator

from service.commands.options import option
from training.commands.options import takes


class Oven(BaseModel):
    model_config = ConfigDict(frozen=True)

    degrees: int = Field(180, ge=0, le=300, description="Degrees Celsius.")
    share: float | None = Field(None, gt=0, lt=1, description="Share of the power.")
    trays: tuple[Path, ...] = Field((), description="Trays.")
    level: Literal[1, 2, 3] = Field(2, description="Where the tray goes.")
    fan: bool = Field(True, description="Move the air.")
    light: bool = Field(False, description="Light it up.")
    name: str | None = Field(None, description="What to call it.")
    serial: str = "none"
    dish: str = Field(description="What to bake.")

    @model_validator(mode="after")
    def _not_both(self) -> Self:
        if self.light and self.level == 1:
            raise ValueError("--light: there is no light at the bottom; use --level 2 or 3")
        return self


def baked(*arguments: str, **environment: str) -> tuple[Oven | None, int, str]:
    """What a command with these options gets, its exit status and its output."""
    found: list[Oven] = []

    @click.command()
    @takes(Oven)
    @click.option("--loud", is_flag=True)
    def bake(oven: Oven, loud: bool) -> None:
        found.append(oven)

    result = CliRunner().invoke(bake, arguments, env=environment, auto_envvar_prefix="OVEN")
    return (found[0] if found else None), result.exit_code, result.output


@pytest.mark.parametrize(
    ("arguments", "changed"),
    [
        ([], {}),
        (["--degrees", "220", "--share", "0.5"], {"degrees": 220, "share": 0.5}),
        (["--trays", "a", "--trays", "b"], {"trays": (Path("a"), Path("b"))}),
        (["--level", "3", "--light", "--no-fan"], {"level": 3, "light": True, "fan": False}),
        (["--name", "old", "--loud"], {"name": "old"}),
    ],
)
def test_options_become_the_model(arguments: list[str], changed: dict[str, Any]) -> None:
    assert baked("--dish", "bread", *arguments)[:2] == (Oven(dish="bread", **changed), 0)


def test_options_are_read_from_the_environment_and_flags_win() -> None:
    oven, status, _ = baked("--degrees", "200", OVEN_DISH="cake", OVEN_DEGREES="100", OVEN_LEVEL="1", OVEN_FAN="0")
    assert (oven, status) == (Oven(dish="cake", degrees=200, level=1, fan=False), 0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Missing option '--dish'"),
        (["--dish", "x", "--degrees", "301"], "0<=x<=300"),
        (["--dish", "x", "--share", "1"], "0<x<1"),
        (["--dish", "x", "--share", "nan"], "Invalid value for '--share'"),
        (["--dish", "x", "--level", "4"], "'1', '2', '3'"),
        (["--dish", "x", "--serial", "7"], "No such option"),
        (["--dish", "x", "--light", "--level", "1"], "--light: there is no light at the bottom; use --level 2 or 3"),
    ],
)
def test_what_the_model_refuses_is_a_wrong_command_line(arguments: list[str], words: str) -> None:
    oven, status, output = baked(*arguments)
    assert (oven, status) == (None, 2)
    assert words in output.replace("\n", " ")


def test_help_shows_required_options_first_then_the_order_of_the_fields() -> None:
    _, status, output = baked("--help")
    assert status == 0
    shown = ["--dish", "--degrees", "--share", "--trays", "--level", "--fan / --no-fan", "--light", "--name", "--loud"]
    assert [output.index(each) for each in shown] == sorted(output.index(each) for each in shown)
    assert "env var: OVEN_DEGREES; default: 180; 0<=x<=300" in " ".join(output.split())
    assert "--serial" not in output


def test_a_flag_can_be_made_negatable() -> None:
    @click.command()
    @option("light", Oven.model_fields["light"], negatable=True, default=None)
    def bake(light: bool | None) -> None:
        click.echo(repr(light))

    shown = [CliRunner().invoke(bake, arguments).output.strip() for arguments in ([], ["--light"], ["--no-light"])]
    assert shown == ["None", "True", "False"]
