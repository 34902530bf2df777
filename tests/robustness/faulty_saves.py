"""Saves in which one system call fails: run by test_faults.py, with shim.c preloaded. Prints what went wrong.

Each is done in a forked child, which arms the shim, saves over an old file, and tells how that ended.
"""

import ctypes
import errno
import os
import sys
from pathlib import Path

import numpy as np

import nnpy as nn

END, HALF = -1, -2  # as in shim.c
MODES = {name: getattr(errno, name) for name in ("ENOSPC", "EIO", "EDQUOT", "EINTR")} | {"END": END, "HALF": HALF}
FINE = {"EINTR", "HALF"}  # what may be tried again, or gone on with
# A folder that cannot be looked into, or a leftover that cannot be removed, loses nothing.
OPTIONAL = {"open", "unlink"}

shim = ctypes.CDLL(None)
shim.shim_failed.restype = ctypes.c_char_p


def attempt(save, path, number, mode):
    """(how it ended: "saved", "refused" or "died", the operation that failed)"""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        shim.shim_arm(number, mode)
        try:
            save(path)
            ended = b"saved"
        except OSError as error:
            ended = b"refused" if os.path.basename(path) in str(error) else f"unnamed: {error!r}".encode()
        except BaseException as error:
            ended = f"raised: {error!r}".encode()
        os.write(write, ended + b" " + shim.shim_failed())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as file:
        ended, _, operation = file.read().rpartition(" ")
    return (ended, operation) if os.waitpid(child, 0)[1] == 0 else ("died", "")


def network(value):
    net = nn.Sequential([nn.Input((40,)), nn.Dense(300, kernel_initializer="ones"), nn.Dense(1)], name="net", seed=1)
    net.compile("adam", "mse")
    x = np.full((8, 40), value, "f4")
    net.fit(x, x[:, :1], verbose=0)
    return net


def main(folder):
    old, new = network(1.0), network(2.0)
    history = nn.History()
    history.history = {"loss": [0.5] * 3000}
    kinds = {"save": (old.save, new.save), "save_weights": (old.save_weights, new.save_weights)}
    kinds["history"] = (nn.History().save, history.save)
    operations = set()
    for kind, (first, second) in kinds.items():
        path = os.path.join(folder, f"{kind}.safetensors")
        second(path)
        wanted = Path(path).read_bytes()
        for name, mode in MODES.items():
            number = 0
            while True:
                number += 1
                first(path)
                before = Path(path).read_bytes()
                assert before != wanted and os.listdir(folder) == [os.path.basename(path)]
                ended, operation = attempt(second, path, number, mode)
                after = Path(path).read_bytes()
                operations.add(operation)
                said = f"{kind}: {name} at operation {number} ({operation}): {ended}"
                if after not in (before, wanted):
                    print(f"{said}, and the file is neither the old one nor the new")
                elif ended == "saved" and after != wanted:
                    print(f"{said}, and the file is the old one")
                elif ended == "saved" and operation and operation not in OPTIONAL and name not in FINE:
                    print(f"{said}, silently")
                elif ended not in ("saved", "refused", "died"):
                    print(said)
                elif name == "HALF" and ended != "saved":
                    print(f"{said}, where it is to go on")
                if ended == "saved" and not operation:  # there are no more
                    break
            first(path)
            os.unlink(path)
            if left := os.listdir(folder):
                print(f"{kind}: {name}: left are {left}")
    print("operations:", *sorted(operations - {""}))


main(sys.argv[1])
