"""``nnpy info``."""

from __future__ import annotations

import click

import nncore
from nnpy.cli.console import check_core


@click.command(short_help="Versions, instruction sets, threads, caches.")
def info() -> None:
    """Versions, the instruction sets compiled and chosen, threads, caches."""
    check_core()
    facts = nncore.info()
    caches = ", ".join(f"{level} {binary_size(size)}" for level, size in facts["caches"].items())
    rows = {
        "nnpy": facts["nnpy"],
        "Python": f"{facts['python']} on {facts['machine']}",
        "NumPy": facts["numpy"],
        "Numba": facts["numba"],
        "ISA": f"{facts['isa']} ({facts['isa_reason']})",
        "compiled": ", ".join(facts["isa_compiled"]),
        "threads": f"{facts['threads']} on {facts['cores']} cores",
        "caches": caches,
    }
    for name, value in rows.items():
        click.echo(f"{name:<9}{value}")


def binary_size(size: int) -> str:
    """Bytes with a binary unit: 49152 is "48 KiB"."""
    if size <= 0:
        return "unknown"
    power = min((size.bit_length() - 1) // 10, 3)
    return f"{size / 1024**power:g} {('B', 'KiB', 'MiB', 'GiB')[power]}"
