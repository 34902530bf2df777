"""Fused kernels and whole training steps, with the least that each has to compute and to move."""

from __future__ import annotations

from functools import partial

from bench.case import Case, add_row, add_rows, empty, normal
from bench.image_cases import BATCH, CHANNELS, FILTERS, SIDE
from bench.peers import with_nnpy
from bench.shares import Bounded, roofline
from bench.test_kernels import CASES, COLS, COUNT, ROWS, UNITS
from bench.workloads import WORKLOADS
from nncore import Step
from nncore.rules import RULES

STEPS = ("mlp_tiny", "mlp_mnist", "mlp_deep_bn", "cnn_mnist")
REAL = 4  # bytes of a number


def _case(name: str, steps: list[Step] | None = None, **others) -> Case:
    """One of test_kernels' cases, with steps behind what it computes."""
    case = {str(case): case for case in CASES}[name]
    return Case(case.name, case.arguments | others, case.numpy, steps or case.steps, case.work, case.keep)


def _bounded(name: str, case: Case, moved: int, memory: int = 0) -> Bounded:
    """``moved``: numbers read and written; ``memory``: numbers there are, if that is not as many."""
    return Bounded(name, case.program, partial(roofline, case.work, REAL * moved), REAL * (memory or moved))


def _kernels():
    tile, image = ROWS * COLS, BATCH * SIDE * SIDE * (CHANNELS + FILTERS)
    weights = 9 * CHANNELS * FILTERS
    end = [add_row(normal(UNITS)), Step("relu")]
    yield _bounded(
        "gemm, bias, relu", _case(f"gemm {ROWS}x{COLS}x{UNITS}", end), tile + COLS * UNITS + ROWS * UNITS
    )  # fmt: skip
    for name in ("conv", "winograd"):
        end = [add_row(normal(FILTERS)), Step("relu")]
        case = _case(f"{name} {FILTERS}", end, partial=empty((BATCH, 2, FILTERS)))
        yield _bounded(f"{name}, bias, relu, sums", case, image + weights)
    yield _bounded("conv_weight_grad", _case(f"conv_weight_grad {FILTERS}"), image + weights)
    end = [add_row(normal(COLS)), add_rows(normal(ROWS, COLS)), Step("relu"), Step("scale", s0=0.5)]
    yield _bounded("chain: bias, add, relu, scale", _case(f"chain {ROWS}x{COLS}", end), 3 * tile)
    for name, rule in RULES.items():  # w and the slots are read and written, the gradient is read
        arrays = 1 + len(rule.slots)
        yield _bounded(name, _case(f"update {name} {COUNT}"), (2 * arrays + 1) * COUNT, (arrays + 1) * COUNT)
    for cols in (10, COLS):
        yield _bounded(f"softmax_crossentropy {ROWS}x{cols}", _case(f"softmax_crossentropy {ROWS}x{cols}"),
                       2 * ROWS * cols)  # fmt: skip
    for name, arrays in (("batch_norm", 2), ("batch_norm_grad", 3), ("layer_norm", 2), ("layer_norm_grad", 3)):
        yield _bounded(name, _case(f"{name} {ROWS}x{COLS}"), arrays * tile)
    yield _bounded("gather", _case(f"gather {ROWS}x784"), 2 * ROWS * 784)


def _step(name: str) -> Bounded:
    """A step of training, through fit()."""
    workload = WORKLOADS[name]
    return Bounded(
        f"step of {name}", lambda: with_nnpy.trainer(workload, 1, "nnpy")[0], workload.bound,
        workload.optimizer_memory, call=1e-2,
    )  # fmt: skip


SHARED = [*_kernels(), *map(_step, STEPS)]
