"""What batches of matrix products need beside their operands."""

import numpy as np

from nncore import kernels


def workspace(n: int, k: int, dtype="float32", isa: str | None = None) -> int:
    """Elements for each thread that ``Op("gemm_batched")`` may pack b [k, n] into: its ``share`` of ``workspace``."""
    module = kernels.family("gemm", np.dtype(dtype).name, isa)
    return max(1, min(-(-n // module.NR), module.NC) * module.NR * min(k, module.KC))
