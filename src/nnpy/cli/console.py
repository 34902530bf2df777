"""What the commands share: one line for an error, a look at the compiled core."""

from __future__ import annotations

import click

import nncore

INTERRUPTED = 130  # what a shell reports for a program that Ctrl-C ended


def complain(message: str) -> None:
    click.echo("nnpy: " + " ".join(message.split()), err=True)


def check_core() -> None:
    """Raises ClickException with the reason if no kernels run here (NNCORE_ISA, a CPU too old)."""
    try:
        nncore.kernels.chosen()
    except RuntimeError as error:
        raise click.ClickException(str(error)) from error
