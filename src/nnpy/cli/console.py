"""What the commands share: one line for an error, a look at the compiled core."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import click

import nncore

INTERRUPTED = 130  # what a shell reports for a program that Ctrl-C ended


class Terminated(KeyboardInterrupt):
    """SIGTERM, or SIGHUP: the work ends as after Ctrl-C. ``code``: what a shell reports for it."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.code = 128 + number


@contextmanager
def terminations() -> Iterator[None]:
    """Inside, SIGTERM and SIGHUP raise Terminated; one that is ignored (nohup) stays so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: Any) -> None:
        raise Terminated(number)

    taken = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_DFL]
    try:
        for number in taken:
            signal.signal(number, end)
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def complain(message: str) -> None:
    with suppress(OSError, ValueError):  # nobody is there to hear it
        click.echo("nnpy: " + " ".join(message.split()), err=True)


def let_go_of_stdout() -> None:
    """Python would complain at exit of what cannot be written any more."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def check_core() -> None:
    """Raises ClickException with the reason if no kernels run here (NNCORE_ISA, a CPU too old)."""
    try:
        nncore.kernels.chosen()
    except RuntimeError as error:
        raise click.ClickException(str(error)) from error
