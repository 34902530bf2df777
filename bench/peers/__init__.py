"""The same training steps under nnpy and under other frameworks, timed in one run: `python -m bench.peers --help`.

Each framework has a file `with_NAME.py`. Its `trainer(workload, threads, framework)` builds the network and returns
`train` and the framework's version, or raises `Unavailable` with the reason when it cannot. `train(steps)` does that
many training steps, batch after batch from data in memory, and returns when the last is done; it may return the
seconds that count, if not all do.
"""

FRAMEWORKS = {
    "nnpy": "bench.peers.with_nnpy",
    "torch": "bench.peers.with_torch",
    "torch-compile": "bench.peers.with_torch",
    "jax": "bench.peers.with_jax",
    "tensorflow": "bench.peers.with_tensorflow",
    "sklearn": "bench.peers.with_sklearn",
}


class Unavailable(Exception):
    """A framework cannot run a workload; the text says why."""
