"""The commands, put together: those of the product, and those of the lab where it is installed.

A command is a file with one function. It parses, calls the library, and prints; nothing heavy is imported before the
command runs, so that ``selfreward --help`` answers at once.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from selfreward.cli.audit import audit
from selfreward.cli.compare import compare
from selfreward.cli.doctor import doctor
from selfreward.cli.eval import evaluate
from selfreward.cli.recipes import recipes
from selfreward.cli.report import report
from selfreward.cli.rewrite import rewrite
from selfreward.cli.sample import sample
from selfreward.cli.select import select
from selfreward.cli.serve import serve
from selfreward.cli.steer import steer
from selfreward.cli.train import train

TRAIN = "Train, and know whether to believe it"
USE = "Use a model without training it"
PREPARE = "Prepare"
LAB = "The lab: published systems, their proofs on small models, and what tests this package"


class Panels(TyperGroup):
    """A group whose plain help lists its commands under the headings that they were registered with."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        listed = [(name, self.commands[name]) for name in self.list_commands(ctx)]
        for heading in dict.fromkeys(getattr(command, "rich_help_panel", None) for _, command in listed):
            rows = [(n, c.get_short_help_str(200)) for n, c in listed if getattr(c, "rich_help_panel", None) == heading]
            with formatter.section(heading or "Commands"):
                formatter.write_dl(rows)


app = typer.Typer(
    name="selfreward",
    help="Train language models on rewards that they make themselves, and know whether to believe them.",
    cls=Panels,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        from selfreward import __version__

        print(__version__)
        raise typer.Exit


app.command(rich_help_panel=TRAIN)(train)
app.command(rich_help_panel=TRAIN)(audit)
app.command(rich_help_panel=TRAIN)(compare)
app.command(rich_help_panel=TRAIN)(report)
app.command(rich_help_panel=TRAIN)(recipes)
app.command(rich_help_panel=USE)(sample)
app.command("eval", rich_help_panel=USE)(evaluate)
app.command(rich_help_panel=USE)(select)
app.command(rich_help_panel=USE)(steer)
app.command(rich_help_panel=PREPARE)(doctor)
app.command(rich_help_panel=PREPARE)(rewrite)
app.command(rich_help_panel=PREPARE, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(serve)

# The product does without the lab: where its folders are absent, so are its commands.
if find_spec("selfreward.lab") and find_spec("selfreward.cli.lab"):
    from selfreward.cli.lab import COMMANDS

    for command in COMMANDS:
        app.command(rich_help_panel=LAB)(command)
