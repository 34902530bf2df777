"""How much of the machine's own limit a benchmark reaches, and what it reached when that was last recorded.

A benchmark's bound is the time of its arithmetic at the FMA peak or of its bytes at the triad's bandwidth, whichever is
longer, both measured beside it on one thread. share = bound / time hardly depends on the machine's clock and load, but
on its kind: shares.json has one for each benchmark on each kind of CPU with an instruction set.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import nncore
from bench.roofline import bandwidth, fma_peak
from bench.table import number, table
from bench.timing import Run, best_time
from nncore import kernels

FILE = Path(__file__).with_name("shares.json")
TOLERANCE = 0.7  # of the recorded share: a loss of a third fails
VOLUME = 16 << 20  # bytes in a measurement of the bandwidth: short, so that some of them are not interrupted


def roofline(flops: float, moved: float, gflops: float, gbytes: float) -> float:
    """Seconds that ``flops`` operations and ``moved`` bytes take at least, at those GFLOP/s and GB/s."""
    return max(flops / (1e9 * gflops), moved / (1e9 * gbytes))


@dataclass(frozen=True)
class Bounded:
    """A benchmark that has a bound.

    ``make()`` gives what is measured; ``bound(gflops, gbytes)``: seconds. ``memory``: bytes of what it works on, which
    tell the level of cache that the bandwidth is measured at. ``call``: seconds that a call lasts at least.
    """

    name: str
    make: Callable[[], Run]
    bound: Callable[[float, float], float]
    memory: int
    call: float = 2e-3

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Measured:
    """Seconds, on one thread."""

    seconds: float
    bound: float

    @property
    def share(self) -> float:
        return self.bound / self.seconds


def measure(of: Bounded, run: Run, seconds: float = 0.1) -> Measured:
    """The benchmark and, just before it (the clock drifts), the machine."""
    bound = of.bound(fma_peak(1, seconds=0.02), bandwidth(of.memory, 1, seconds=0.02, volume=VOLUME))
    nncore.set_num_threads(1)
    return Measured(best_time(run, seconds, of.call), bound)


def load(path: Path = FILE) -> dict:
    """{``machine``: {benchmark: share}}; empty where nothing was recorded."""
    return json.loads(path.read_text()) if path.exists() else {}


def recorded(records: Mapping, machine: str, name: str) -> float | None:
    """The share of a benchmark; None where the machine or the benchmark is unknown."""
    return records.get(machine, {}).get(name)


def lost(share: float, before: float | None) -> bool:
    """Too little is left of the recorded share; never, if nothing is recorded."""
    return before is not None and share < TOLERANCE * before


def updated(records: Mapping, machine: str, shares: Mapping[str, float], known: set[str]) -> dict:
    """``records`` with new shares of one machine. Of the old ones those stay whose names are ``known``."""
    old = {name: share for name, share in records.get(machine, {}).items() if name in known}
    new = {name: float(f"{share:.3g}") for name, share in shares.items()}
    return {**records, machine: {**old, **new}}


def save(records: Mapping, path: Path = FILE) -> None:
    path.write_text(json.dumps(records, indent=1, sort_keys=True) + "\n")


def text(rows: Iterable[tuple[str, Measured, float | None]]) -> str:
    """A table of (benchmark, what was measured, the recorded share)."""
    lines = []
    for name, now, before in rows:
        share, old = f"{now.share:.3f}", f"{before:.3f}" if before else "unknown"
        left = f"{now.share / before:.2f}" if before else "-"
        lines.append((name, number(1e6 * now.seconds), number(1e6 * now.bound), share, old, left))
    return table(("benchmark", "us", "bound, us", "share", "recorded", "share / recorded"), lines)


def machine() -> str:
    """The instruction set that is chosen and the kind of CPU, as far as it changes what a kernel reaches: v4 on
    AuthenticAMD family 26 model 2 (of virtual machines the name says less)."""
    isa, info = kernels.chosen()[0], Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in reversed(lines))}
    if {"vendor_id", "cpu family", "model"} <= facts.keys():
        return f"{isa} on {facts['vendor_id']} family {facts['cpu family']} model {facts['model']}"
    return f"{isa} on {platform.processor() or platform.machine()}"
