"""Steps as the C structs that kernels read: with the addresses of compiled functions in them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nncore import kernels
from nncore.refs import ref
from nncore.rules import RULES
from nncore.steps import RECORD, Step


def encode(steps: Sequence[Step], dtype="float32", isa: str | None = None) -> np.ndarray:
    """The steps as the array of C structs that kernels of that dtype and variant read."""
    core = kernels.family("steps", dtype, isa)
    records = np.zeros(len(steps), RECORD)
    for record, step in zip(records, steps, strict=True):
        record["kind"] = core.CODES.get(step.kind, core.CODES["function"])
        record["function"] = core.FUNCTIONS.get(step.kind, 0)
        for name in "pq":
            x = getattr(step, name)
            if x is None:
                record[name]["div"] = 1
            elif x.temp is not None:
                record[name] = (0, 0, 1, 1, 0, 1 + x.temp)
            else:
                if isinstance(x.memory, np.ndarray) and x.memory.dtype != dtype:
                    expected = f"to be of dtype {np.dtype(dtype)}"
                    raise TypeError(f"Step {step.kind!r}: expected {name} {expected}, got {x.memory.dtype}")
                record[name] = (ref(x.memory).address, x.ld, x.cs, x.div, x.mod, 0)
        record["slots"][: len(step.slots)] = [ref(slot).address for slot in step.slots]
        record["state"] = ref(step.state).address if step.state is not None else 0
        for name in ("index", "width", "s0", "s1"):
            record[name] = getattr(step, name)
        if step.rule is not None:
            record["function"] = kernels.family("optimizer", dtype, isa).RULES[step.rule]
            record["width"] = step.width or len(RULES[step.rule].columns)
    return records
