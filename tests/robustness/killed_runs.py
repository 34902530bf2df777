"""python killed_runs.py FOLDER KILLS: a run that is killed at random moments, and goes on each time; prints JSON.

Children are forked by a process that has run no Program: libgomp does not survive a fork. Printed are the numbers of
kills, of children that found a file to go on from, and of runs that ended with the bits of one that nobody killed.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np

import nnpy as nn
import nnpy.insight.explain
import nnpy.runs
import nnpy.training.evaluation
import nnpy.training.loop

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(200, 6)), RNG.normal(size=(200, 2))


class Batches:
    """An iterable whose order is another one in each pass."""

    def __iter__(self):
        return ((X[i : i + 16], Y[i : i + 16]) for i in range(0, 200, 16))


KINDS = {
    "arrays": {"x": X, "y": Y, "batch_size": 16, "validation_split": 0.1},
    "steps": {"x": X, "y": Y, "batch_size": 16, "steps_per_epoch": 5},
    "iterable": {"x": Batches(), "validation_data": (X[:20], Y[:20])},
}


def run(folder, kind, *callbacks):
    nn.set_num_threads(1)
    nn.set_seed(5)
    net = nn.Sequential(
        [nn.Input((6,)), nn.Dense(8, activation="relu"), nn.BatchNormalization(), nn.Dropout(0.3), nn.Dense(2)]
    )
    net.compile(nn.Adam(1e-2), "mse", metrics=["mae"])
    callbacks = [
        nn.EarlyStopping("loss", patience=3, restore_best_weights=True),
        nn.LearningRateScheduler(lambda epoch, rate: rate * 0.9),
        *callbacks,
    ]
    history = net.fit(**KINDS[kind], epochs=6, verbose=0, callbacks=callbacks)
    text = json.dumps([history.history, [weights.tolist() for weights in net.get_weights()]])
    (folder / "done.json").write_text(text)


def forked(work):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child


def main(folder, kills):
    rng, counts = random.Random(0), {"killed": 0, "same": 0, "resumed": 0}
    done, backup = folder / "done.json", folder / "backup"
    expected, seconds = {}, {}
    for kind in KINDS:
        start = time.perf_counter()
        assert os.waitpid(forked(lambda kind=kind: run(folder, kind)), 0)[1] == 0
        expected[kind], seconds[kind] = done.read_text(), time.perf_counter() - start
    while counts["killed"] < kills:
        kind = rng.choice(list(KINDS))
        done.unlink(missing_ok=True)
        while True:
            counts["resumed"] += (backup / "run.safetensors").exists()
            saving = nn.callbacks.BackupAndRestore(backup, save_freq=rng.choice([1, 2, 5, "epoch"]))
            child = forked(lambda kind=kind, saving=saving: run(folder, kind, saving))
            time.sleep(rng.random() * min(1.5 * seconds[kind], 0.5))  # of which a busy machine makes more
            os.kill(child, signal.SIGKILL)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            assert code in (0, -signal.SIGKILL), code
            counts["killed"] += code != 0
            if code == 0:
                break
        assert done.read_text() == expected[kind], f"{kind}: other bits than those of a run that nobody killed"
        counts["same"] += 1
    print(json.dumps(counts))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
