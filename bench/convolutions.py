"""python -m bench.convolutions: convolutions of ResNets and VGG, forward and both gradients, against the FMA peak.

Every shape is compiled as a training step would have it, and all that the step does for it counts: packing of the
weights, copies, sums over parts of the batch. What came out is compared with NumPy before it is timed. Work is what
lies on the image: products with the zeros around it, which nncore does not compute, do not count. More than 100 % is
Winograd's filtering, which needs 4 products where 9 are counted. The peak is measured beside each shape, since the
clock drifts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import dataclass

import numpy as np

import nncore
from bench.roofline import fma_peak
from bench.table import number, table
from bench.timing import best_time
from nncore import Program, reference_images
from nncore.memory import SLOTS
from nncore.windows import inside
from nnpy import ops
from nnpy.compiler import compile_step
from nnpy.graph import Parameter, Tensor, Variable
from nnpy.ops.effects import assign, feed
from nnpy.ops.geometry import Window

WAYS = ("forward", "by input", "by weight")


@dataclass(frozen=True)
class Shape:
    """Square images of ``side`` pixels and ``inputs`` channels; "same" padding; the network that has such a layer."""

    network: str
    batch: int
    side: int
    inputs: int
    outputs: int
    size: int = 3
    stride: int = 1

    @property
    def window(self) -> Window:
        """Zeros as Keras and TensorFlow put them for "same"."""
        zeros = max(0, (-(-self.side // self.stride) - 1) * self.stride + self.size - self.side)
        before, after = zeros // 2, zeros - zeros // 2
        return Window((self.size,) * 2, (self.stride,) * 2, before=(before,) * 2, after=(after,) * 2)

    @property
    def pairs(self) -> int:
        """Along an axis: how many pairs of a window and one of its places there are, with the place on the image."""
        taps, zeros = range(self.size), self.window.before[0]
        return sum(map(len, inside(self.side, self.window.places((self.side,) * 2)[0], self.stride, zeros, taps)))

    def __str__(self) -> str:
        stride = f" /{self.stride}" if self.stride > 1 else ""
        return f"{self.side}x{self.side} {self.inputs}->{self.outputs} {self.size}x{self.size}{stride}"


# ResNet-20 for CIFAR; ResNet-18 and ResNet-50 for 224 x 224 (He and others, 2015, table 1); VGG-16 (Simonyan and
# Zisserman, 2014, configuration D). No first layer needs its gradient by the input; it is measured all the same.
SHAPES = [
    *(Shape("ResNet-20", 64, *sizes) for sizes in (
        (32, 3, 16), (32, 16, 16), (32, 16, 32, 3, 2), (16, 32, 32), (16, 32, 64, 3, 2), (8, 64, 64),
    )),
    *(Shape("ResNet-18", 8, *sizes) for sizes in (
        (224, 3, 64, 7, 2), (56, 64, 64), (56, 64, 128, 3, 2), (28, 128, 128), (28, 128, 256, 3, 2), (14, 256, 256),
        (14, 256, 512, 3, 2), (7, 512, 512),
    )),
    *(Shape("ResNet-50", 8, *sizes) for sizes in (
        (56, 64, 256, 1), (56, 256, 64, 1), (56, 256, 512, 1, 2), (28, 512, 128, 1), (14, 256, 1024, 1),
        (7, 2048, 512, 1),
    )),
    *(Shape("VGG-16", 2, *sizes) for sizes in (
        (224, 3, 64), (224, 64, 64), (112, 64, 128), (112, 128, 128), (56, 256, 256), (28, 512, 512), (14, 512, 512),
    )),
]  # fmt: skip


def by_numpy(way: str, first: np.ndarray, second: np.ndarray, shape: Shape) -> np.ndarray:
    """What shall come out of x and w, dy and w, or x and dy."""
    window, side = shape.window, (shape.side, shape.side)
    lies = dict(strides=window.strides, before=window.before)
    if way == "forward":
        return reference_images.conv(first, second, window.places(side), **lies)
    if way == "by input":
        return reference_images.conv_input_grad(first, second, side, **lies)
    return reference_images.conv_weight_grad(first, second, window.size, **lies)


def program(shape: Shape, way: str) -> Program:
    """What a training step runs for this convolution; checked."""
    rng = np.random.default_rng(0)
    window, side = shape.window, (shape.side, shape.side)
    out = window.places(side)
    x = rng.standard_normal((shape.batch, *side, shape.inputs), np.float32)
    dy = rng.standard_normal((shape.batch, *out, shape.outputs), np.float32)
    w = rng.standard_normal((*window.size, shape.inputs, shape.outputs), np.float32)
    images, gradients, weights = Tensor((None, *x.shape[1:])), Tensor((None, *dy.shape[1:])), Parameter(w, "w")
    feeds = {"forward": {images: x}, "by input": {gradients: dy}, "by weight": {images: x, gradients: dy}}[way]
    result = {
        "forward": lambda: ops.conv(images, weights, window),
        "by input": lambda: ops.conv_by_input(gradients, weights, side, window),
        "by weight": lambda: ops.conv_by_weight(images, gradients, window),
    }[way]()
    given = [feed(t, slot, "float32", array.strides[0]) for slot, (t, array) in enumerate(feeds.items())]
    step = Variable(np.zeros(1, np.float32), "step")  # where a variable changes, weights are packed each step
    state = nncore.new_state(shape.batch)
    made = compile_step([*given, assign(step, step)], shape.batch, state, keep=[result])
    for slot, array in enumerate(feeds.values()):
        state[SLOTS + slot] = array.ctypes.data
    made.program.run()
    expected = by_numpy(way, *{"forward": (x, w), "by input": (dy, w), "by weight": (x, dy)}[way], shape)
    np.testing.assert_allclose(made.value(result), expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    convolving = (call.node is not None and not call.node.operation.is_effect for call in made.calls)
    return Program([op for op, is_part in zip(made.program.records, convolving, strict=True) if is_part], made.state)


def measure(shapes: list[Shape], threads: int, seconds: float) -> list[dict]:
    rows = []
    for shape in shapes:
        work = 2e-9 * shape.batch * shape.inputs * shape.outputs * shape.pairs**2
        row: dict = {"shape": f"{shape.network} {shape}", "batch": shape.batch, "threads": threads}
        for way in WAYS:
            nncore.set_num_threads(threads)
            peak = fma_peak(threads, seconds=0.02)
            row[way] = work / best_time(program(shape, way).run, seconds) / peak
        row["peak"] = peak
        rows.append(row)
    return rows


def text(rows: list[dict]) -> str:
    def percent(share: float) -> str:
        return f"{100 * share:.0f} %"

    lines = [[r["shape"], r["batch"], number(r["peak"]), *(percent(r[way]) for way in WAYS)] for r in rows]
    medians = [percent(statistics.median(r[way] for r in rows)) for way in WAYS]
    lines.append(["median", "", "", *medians])
    every = statistics.median(r[way] for r in rows for way in WAYS)
    head = ["layer", "batch", "peak GFLOP/s", *WAYS]
    return f"{table(head, lines)}\n\nmedian of all, {rows[0]['threads']} thread(s): {percent(every)} of the FMA peak"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.convolutions", description="Convolutions against the FMA peak."
    )
    parser.add_argument("--threads", nargs="+", type=int, default=[1], metavar="N", help="numbers of threads (1)")
    parser.add_argument("--seconds", type=float, default=0.2, help="length of one measurement (0.2)")
    parser.add_argument("--only", metavar="TEXT", default="", help="shapes whose name has TEXT in it")
    parser.add_argument("--json", metavar="FILE", help="write every number there")
    args = parser.parse_args()
    shapes = [shape for shape in SHAPES if args.only in f"{shape.network} {shape}"]
    if not shapes:
        parser.error(f"--only: no shape has {args.only!r} in its name")
    report = []
    for threads in args.threads:
        rows = measure(shapes, threads, args.seconds)
        print(text(rows), end="\n\n", flush=True)
        report += rows
    if args.json:
        with open(args.json, "w") as file:
            json.dump(report, file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
