"""The parent: starts a worker for each framework, lets one at a time work, and puts their times together."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.workloads import WORKLOADS

ROOT = Path(__file__).resolve().parents[2]
OURS = "nnpy"


def environment(threads: int, source: Path | None = None) -> dict[str, str]:
    """The caller's environment with every framework's number of threads in it; ``source``: a folder that nnpy is in."""
    count = str(threads)
    new = dict(os.environ)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS",
                 "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):  # fmt: skip
        new[name] = count
    eigen = "--xla_cpu_multi_thread_eigen=" + ("true" if threads > 1 else "false")
    new["XLA_FLAGS"] = f"{new.get('XLA_FLAGS', '')} {eigen}".strip()
    new.setdefault("JAX_PLATFORMS", "cpu")
    new.setdefault("CUDA_VISIBLE_DEVICES", "")
    new.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    new.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # its pool of compilers would stay about
    for name in ("OMP_PROC_BIND", "OMP_PLACES", "KMP_AFFINITY", "OMP_WAIT_POLICY"):
        new.pop(name, None)
    if source is not None:
        new["PYTHONPATH"] = str(source)
    return new


class Worker:
    """A process with one framework and one workload; stopped unless it has been asked something.

    ``rows``: predict() of so many, in place of training; ``source``: a folder with another nnpy. Both for nnpy alone.
    """

    def __init__(self, framework: str, workload: str, threads: int, rows: int = 0, source: Path | None = None):
        self.framework = framework
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed with the worker)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.peers.worker", "--framework", framework, "--workload", workload,
             "--threads", str(threads), "--rows", str(rows)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True, bufsize=1, cwd=ROOT,
            env=environment(threads, source), start_new_session=True,
        )  # fmt: skip
        assert self.process.stdin is not None and self.process.stdout is not None  # both are PIPE
        self.requests, self.replies = self.process.stdin, self.process.stdout
        self.about = self._reply()

    def _reply(self) -> dict:
        line = self.replies.readline()
        if not line:
            code = self.process.wait()
            self.log.seek(0)
            tail = self.log.read().strip().splitlines()[-1:]
            return {"unavailable": f"worker ended with code {code}: {' '.join(tail)[:150]}"}
        reply = json.loads(line)
        if "unavailable" not in reply:
            # The idle threads of some frameworks spin for up to 0.2 s: not on the cores of the next one.
            os.killpg(self.process.pid, signal.SIGSTOP)
        return reply

    def time(self, seconds: float) -> dict:
        """Train for about that long; the reply has ``times``, seconds a step of successive chunks."""
        os.killpg(self.process.pid, signal.SIGCONT)
        with contextlib.suppress(BrokenPipeError):  # it has died: reading its reply finds out
            self.requests.write(json.dumps({"seconds": seconds}) + "\n")
            self.requests.flush()
        return self._reply()

    def close(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        for pipe in (self.requests, self.replies):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        self.log.close()


@dataclass
class Result:
    """One workload at one number of threads; times in seconds a step."""

    workload: str
    threads: int
    rounds: dict[str, list[float]] = field(default_factory=dict)  # framework -> median of each of its turns
    median: dict[str, float] = field(default_factory=dict)
    ratios: dict[str, float] = field(default_factory=dict)  # peer's time / ours, adjacent turns, median over rounds
    unavailable: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    first_step: dict[str, float] = field(default_factory=dict)
    build: dict[str, float] = field(default_factory=dict)
    peak_bytes: dict[str, int] = field(default_factory=dict)
    gflops: float | None = None
    bandwidth: float | None = None
    bound: float | None = None
    bound_reason: str = ""

    @property
    def fastest_peer(self) -> str | None:
        peers = [name for name in self.median if name != OURS]
        return min(peers, key=self.median.__getitem__, default=None)

    @property
    def ratio(self) -> float | None:
        return self.ratios.get(self.fastest_peer or "")


def machine(workload: str, threads: int, seconds: float) -> dict:
    """The FMA peak (GFLOP/s) and the bandwidth (GB/s) at the optimizer's size, in a process of its own."""
    w = WORKLOADS[workload]
    command = [sys.executable, "-m", "bench.roofline", "--bound", str(w.optimizer_memory), "--threads", str(threads),
               "--seconds", str(seconds), "--json", "-"]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, env=environment(threads), capture_output=True, text=True)
    if done.returncode:
        return {"reason": (done.stderr.strip().splitlines() or ["no output"])[-1][:150]}
    return json.loads(done.stdout)["bound"][0]


def run(
    workload: str, frameworks: Sequence[str], threads: int, rounds: int, seconds: float, say=lambda text: None
) -> Result:
    """Time one workload under every framework: ours, a peer, ours, the next peer, ..., ``rounds`` times over."""
    result = Result(workload, threads)
    workers: dict[str, Worker] = {}
    limits = [machine(workload, threads, seconds / 4)]
    try:
        for name in frameworks:
            say(f"{workload}, {threads} threads: {name} warms up")
            worker = Worker(name, workload, threads)
            if reason := worker.about.get("unavailable"):
                result.unavailable[name] = reason
                worker.close()
                continue
            workers[name] = worker
            result.versions[name] = worker.about["version"]
            result.build[name] = worker.about["seconds_to_build"]
            result.first_step[name] = worker.about["seconds_of_first_step"]
        pairs: dict[str, list[float]] = {name: [] for name in workers if name != OURS}
        chunks: dict[str, list[float]] = {name: [] for name in workers}

        def turn(name: str) -> float | None:
            reply = workers[name].time(seconds)
            if reason := reply.get("unavailable"):
                result.unavailable[name] = reason
                workers.pop(name).close()
                return None
            chunks[name] += reply["times"]
            result.peak_bytes[name] = reply["peak_bytes"]
            result.rounds.setdefault(name, []).append(statistics.median(reply["times"]))
            return result.rounds[name][-1]

        for number in range(rounds):
            say(f"{workload}, {threads} threads: round {number + 1} of {rounds}")
            for peer in [name for name in workers if name != OURS] or [""]:
                ours = turn(OURS) if OURS in workers else None
                theirs = turn(peer) if peer in workers else None
                if ours and theirs:
                    pairs[peer].append(theirs / ours)
        for name in result.rounds:
            if name not in result.unavailable:
                result.median[name] = statistics.median(chunks[name])
        result.ratios = {name: statistics.median(pairs[name]) for name in result.median if pairs.get(name)}
    finally:
        for worker in workers.values():
            worker.close()
    limits.append(machine(workload, threads, seconds / 4))
    _set_bound(result, limits)
    return result


def _set_bound(result: Result, limits: list[dict]) -> None:
    if reason := next((limit["reason"] for limit in limits if "reason" in limit), ""):
        result.bound_reason = reason
        return
    # Noise can only make a limit look lower than it is.
    result.gflops = max(limit["gflops"] for limit in limits)
    result.bandwidth = max(limit["bandwidth"] for limit in limits)
    result.bound = WORKLOADS[result.workload].bound(result.gflops, result.bandwidth)
