"""Connectionist temporal classification: the loss of sequences of labels whose places in the steps are not known."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnpy.graph import Tensor, count_of
from nnpy.ops.base import label
from nnpy.ops.losses import KERNELS, LossKernel, loss_part


class _CTC(LossKernel):
    """Inputs: logits (batch, steps, classes), class 0 being blank, labels (batch, length), with zeros behind, and
    perhaps the upstream of every sample. A row is a sample."""

    def infer(self, node):
        logits, labels, *upstream = node.inputs
        if logits.rank != 3 or logits.kind != "real":
            raise ValueError(f"{label(node)}: expected logits of shape (batch, steps, classes), got {logits.shape}")
        if labels.kind != "index":
            raise TypeError(f"{label(node)}: expected labels that are int32, got {labels.dtype}")
        if labels.rank != 2 or labels.sizes[0] != logits.sizes[0]:
            raise ValueError(f"{label(node)}: expected labels of shape (batch, length), got {labels.shape}")
        if upstream and upstream[0].sizes != logits.sizes[:1]:
            raise ValueError(f"{label(node)}: expected an upstream of shape (batch,), got {upstream[0].shape}")
        return [logits.sizes[:1] if part == "loss" else logits.sizes for part in node.attributes["parts"]]

    def lower(self, item, low):
        node = item.node
        logits, labels, *upstream = node.inputs
        rows, times, cols = logits.concrete(low.batch)
        length = labels.concrete(low.batch)[1]
        given = dict(zip(node.attributes["parts"], node.outputs, strict=True))
        arguments: dict[str, Any] = {}
        if "gradient" in given:
            scale = node.attributes["scale"] / max(1, count_of(node.attributes["per"], low.batch))
            arguments.update(dx=given["gradient"], scale=scale)
            if upstream:
                arguments["upstream"] = upstream[0]
        loss = given["loss"] if "loss" in given else low.scratch(rows * low.dtype.itemsize)
        ld = 2 * length + 21  # kernels/ctc.pyx
        share = times + (4 + (times if "gradient" in given else 2)) * ld
        low.call(
            "ctc", loss=loss, x=logits, labels=labels, state=low.state, workspace=low.scratch(0), rows=rows,
            times=times, cols=cols, length=length, ld=ld, share=share,
            work=rows * times * (16 * cols + 60 * (2 * length + 1)),
            **arguments,
        )  # fmt: skip

    def reference(self, x, target, parts=("loss",), smoothing=0.0, ignore=None, scale=1.0, per=()):
        from nncore import reference

        return reference.ctc(x, np.asarray(target))[0]


KERNELS["ctc"] = _CTC("ctc")


def ctc(logits: Tensor, labels: Tensor) -> Tensor:
    """-log of the probability that the steps, each a label or blank (class 0), read as the labels once repeats are one
    and blanks are left out (Graves et al., ICML 2006): (batch, steps, classes) and int32 (batch, length) -> (batch,).

    Of a row of labels as many count as are not 0. Infinity, with a gradient of 0, where they do not fit into the steps.
    A label out of range stops the run with an IndexError. ValueError for other shapes.
    """
    return loss_part("ctc", "loss", [logits, labels])
