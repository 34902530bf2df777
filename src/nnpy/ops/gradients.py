"""What has another gradient than its value says: stop_gradient."""

from __future__ import annotations

from nnpy.graph import Tensor, apply
from nnpy.ops.shape import Unchanged


class _StopGradient(Unchanged):
    name = "stop_gradient"


_STOP_GRADIENT = _StopGradient()


def stop_gradient(x: Tensor) -> Tensor:
    """``x``, of which no gradient goes back."""
    return apply(_STOP_GRADIENT, [x])
