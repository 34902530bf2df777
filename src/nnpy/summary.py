"""The table that ``model.summary()`` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnpy.checks import integer
from nnpy.graph import Node, Shape
from nnpy.layers.base import Layer

if TYPE_CHECKING:
    from nnpy.model import Model


def summary(model: Model) -> str:
    """Layers, the shapes they give, their parameters and, where they are not simply stacked, what they read."""
    if not model.built:
        rows = [(_title(layer, layer.name), "?", "?", "") for layer in model.layers]
        return "\n".join([f"{model}: not built, shapes come with the first data", *_table(rows, False)])
    structure = model.outline
    rows, before, stacked = [], None, len(structure.inputs) == 1
    for tensor in structure.inputs:
        rows.append((_title(tensor.call.layer, structure.name_of(tensor)), _shape(tensor.shape), "0", ""))
        before = tensor
    seen: set[Layer] = set()
    for call in structure.calls:
        stacked = stacked and len(call.inputs) == 1 and call.inputs[0] is before
        before = call.outputs[0]
        shapes = ", ".join(_shape(tensor.shape) for tensor in call.outputs)
        reads = ", ".join(structure.name_of(tensor) for tensor in call.inputs)
        if isinstance(call, Node):
            rows.append((call.operation.name, shapes, "0", reads))
            continue
        count = "shared" if call.layer in seen else f"{call.layer.count_params():,}"
        seen.add(call.layer)
        rows.append((_title(call.layer, structure.name_of(call)), shapes, count, reads))
    total = model.count_params()
    trainable = sum(weight.value.size for weight in model.trainable_weights)
    size = total * (8 if model.dtype == "float64" else 4)
    lines = [f"{model}", *_table(rows, not stacked)]
    lines.append(
        f"Parameters: {total:,} ({_bytes(size)}), trainable {trainable:,}, not trainable {total - trainable:,}"
    )
    return "\n".join(lines)


def memory_of(model: Model, batch_size: int) -> str:
    """What a model takes, in a line: the parameters, what training keeps for each, and the arenas of its Programs."""
    from nnpy.training.samples import placeholders

    batch_size = integer("summary", "batch_size", batch_size, least=1)
    engine, total = model.engine, sum(weight.value.nbytes for weight in model.weights)
    parts = [f"parameters {_bytes(total)}"]
    predict = engine.compiled("predict", batch_size, placeholders(model, batch_size, False)).arena_bytes
    arenas = [f"predict {_bytes(predict)}"]
    if model.compiled:
        train = engine.compiled("train", batch_size, placeholders(model, batch_size, True)).arena_bytes
        kept = sum(array.nbytes for array in engine.slot_views().values())
        parts += [f"gradients {_bytes(engine.claim().gradients.nbytes)}", f"optimizer {_bytes(kept)}"]
        arenas.append(f"training {_bytes(train)}")
    return f"Memory for batches of {batch_size}: {', '.join(parts)}; activations and workspaces: {', '.join(arenas)}"


def _title(layer: Layer, name: str) -> str:
    return f"{name} ({type(layer).__name__})"


def _shape(shape: Shape) -> str:
    return str(tuple(shape))


def _bytes(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.4g} {unit}"
        count /= 1024
    return f"{count:.4g} GiB"


def _table(rows: list[tuple[str, str, str, str]], reads: bool) -> list[str]:
    """Lines of a table with a header; numbers to the right."""
    header = ("Layer (type)", "Output shape", "Parameters", "Reads")
    columns = 4 if reads else 3
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(columns)]
    rule = "-" * (sum(widths) + 2 * (columns - 1))

    def line(row: tuple[str, str, str, str]) -> str:
        cells = [row[i].rjust(widths[i]) if i == 2 else row[i].ljust(widths[i]) for i in range(columns)]
        return "  ".join(cells).rstrip()

    return [rule, line(header), rule, *map(line, rows), rule]
