"""Another library's thread pool in the process must not slow a step: two pools that fight take ten times as long."""

import subprocess
import sys
import textwrap

import pytest

OTHERS = {
    "torch": "import torch; torch.nn.Linear(64, 64)(torch.ones(512, 64)).sum().backward()",
    "sklearn": "import sklearn.neural_network as s; s.MLPClassifier(max_iter=2).fit(np.eye(64), np.arange(64) % 2)",
}
PROGRAM = """
import time, warnings
import numpy as np, nnpy as nn
warnings.simplefilter("ignore")
rng = np.random.default_rng(0)
x, y = rng.normal(size=(300, 20)), rng.integers(0, 3, 300)
net = nn.Sequential([nn.Dense(512, activation="relu"), nn.Dense(3)])
net.compile("adam", nn.losses.SparseCategoricalCrossentropy(from_logits=True))
nn.set_num_threads(2)

def fastest():
    times = []
    for _ in range(30):
        start = time.perf_counter()
        net.fit(x, y, epochs=5, verbose=0)
        times.append(time.perf_counter() - start)
    return min(times)

before = fastest()
{use}
print(before, fastest())
"""


@pytest.mark.parametrize("library", OTHERS)
def test_other_pools(benchmark, library):
    pytest.importorskip(library)
    code = textwrap.dedent(PROGRAM).replace("{use}", OTHERS[library])

    def seconds():
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
        return [float(word) for word in done.stdout.split()]

    before, after = benchmark.pedantic(seconds, rounds=1)
    assert after < 2 * before
