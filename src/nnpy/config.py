"""The dtype of models built from now on."""

from __future__ import annotations

from nnpy.catalogue import offer

_floatx = "float32"


def set_floatx(value: str) -> None:
    """The dtype of models built from now on: "float32" (training) or "float64" (gradient checks, science).

    Raises ValueError for any other.
    """
    global _floatx
    if value not in ("float32", "float64"):
        raise ValueError(f"set_floatx: expected 'float32' or 'float64', got {value!r}")
    _floatx = value


def floatx() -> str:
    """The dtype of models built from now on."""
    return _floatx


__all__ = ["floatx", "set_floatx"]

offer(__name__, __all__)
