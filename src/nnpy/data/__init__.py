"""Data: what ships inside the package, readers of files, and images that change on their way into training."""

from typing import TYPE_CHECKING

from nnpy.catalogue import offer

if TYPE_CHECKING:
    from nnpy.data.batches import Batches, split
    from nnpy.data.folder import ImageFolder
    from nnpy.data.idx import read_idx
    from nnpy.data.images import Images, channel_statistics
    from nnpy.data.mnist import load_mnist
    from nnpy.data.prefetching import prefetch

__all__ = ["Batches", "ImageFolder", "Images", "channel_statistics", "load_mnist", "prefetch", "read_idx", "split"]

_MODULES = ("idx", "mnist", "batches", "prefetching", "images", "folder")
offer(__name__, __all__, homes=[f"nnpy.data.{name}" for name in _MODULES])
