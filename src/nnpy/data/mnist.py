"""The embedded MNIST subset. Whose data it is, and under which licence: mnist-attribution.txt beside this file."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import IO, cast

import numpy as np

from nnpy.data.idx import parse_idx

_FILE = Path(__file__).with_name("mnist-subset.idx.gz")


def load_mnist() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Handwritten digits: ``(x_train, y_train), (x_test, y_test)``, all of dtype uint8.

    Images: (10000, 28, 28) and (2000, 28, 28), 0 (background) to 255 (ink); divide by 255 before training. Labels:
    (10000,) and (2000,), the digits 0 to 9, each class in the proportion that it has in the full set of 60,000 and
    10,000. The order is mixed, and the same at every call; the arrays are the caller's own to change.

    Source: LeCun, Cortes and Burges, the MNIST database; tools/make_mnist_subset.py chose the images.
    """
    with gzip.open(_FILE) as content:
        arrays = [parse_idx(cast(IO[bytes], content), _FILE.name) for _ in range(4)]
    x_train, y_train, x_test, y_test = arrays
    return (x_train, y_train), (x_test, y_test)
