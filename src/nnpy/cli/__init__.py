"""The ``nnpy`` command: train a classifier, tell about the installation. An error is one line, no traceback."""

from __future__ import annotations

import click

import nnpy as nn
from nnpy.cli.console import INTERRUPTED, complain, let_go_of_stdout
from nnpy.cli.installation import info
from nnpy.cli.training import train


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code: 0,  1 (it failed), 2 (it was asked wrongly), 130 (Ctrl-C),
    143 (SIGTERM), 129 (SIGHUP)."""
    try:
        code = cli.main(args=arguments, prog_name="nnpy", standalone_mode=False)
    except click.ClickException as error:
        complain(error.format_message())
        return error.exit_code
    except (click.Abort, KeyboardInterrupt) as error:
        complain("interrupted")
        return getattr(error, "code", INTERRUPTED)
    except BrokenPipeError:  # `nnpy info | head -1`
        return 1
    finally:
        let_go_of_stdout()
    return code if isinstance(code, int) else 0


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True}, invoke_without_command=True
)
@click.version_option(nn.__version__, prog_name="nnpy")
@click.pass_context
def cli(context: click.Context) -> None:
    """Neural networks on multicore CPUs."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


cli.add_command(info)
cli.add_command(train)
