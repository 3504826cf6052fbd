"""The command line. Every module in `tidegate.commands` is a command and adds itself by `register(app)`."""

from __future__ import annotations

import importlib
import pkgutil
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from tidegate import commands

_ORDER = (
    "up",
    "down",
    "status",
    "apply",
    "kill",
    "restore",
    "switches",
    "dead-letters",
    "demo",
    "bench",
    "backfill",
    "migrate",
    "adopt-log",
    "replay",
)


class LazyCommands(TyperGroup):
    """Imports a command's module only when it is called, so that `status` does not pay for what `up` needs."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Known ones first, in the order in which one meets them."""
        names = (module.name.replace("_", "-") for module in pkgutil.iter_modules(commands.__path__))
        return sorted(names, key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.list_commands(ctx):
            return None
        alone = typer.Typer(rich_markup_mode="markdown", pretty_exceptions_show_locals=False, add_completion=False)
        importlib.import_module(f"tidegate.commands.{cmd_name.replace('-', '_')}").register(alone)
        command = get_command(alone)
        command.name = cmd_name  # a command that has commands of its own has no function to be named after
        return command


app = typer.Typer(
    name="tidegate",
    cls=LazyCommands,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_show_locals=False,
    add_completion=False,
)


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"tidegate {version('tidegate')}")
        raise typer.Exit


@app.callback()
def root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Experiments and guardrails on Kafka: every event once, results in seconds."""


def main() -> None:
    app()
