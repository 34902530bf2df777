"""Data: what ships inside the package, and readers of files."""

from nnpy.data.idx import read_idx
from nnpy.data.mnist import load_mnist

__all__ = ["load_mnist", "read_idx"]
