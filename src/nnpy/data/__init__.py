"""Data that ships inside the package: no download, the same on every machine."""

from nnpy.data.mnist import load_mnist

__all__ = ["load_mnist"]
