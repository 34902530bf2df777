"""What benchmarks compute of their measurements: shares of the machine's limit, warnings about NumPy's BLAS, ratios."""

import json
import math

import pytest
from bench import blas, shares, versions
from bench.once import first_fit
from bench.timing import best_time, clock


def test_roofline_is_the_longer_of_arithmetic_and_memory():
    assert shares.roofline(4e9, 1e9, gflops=2, gbytes=1) == 2
    assert shares.roofline(1e9, 3e9, gflops=2, gbytes=1) == 3


def test_share_of_the_bound():
    assert shares.Measured(seconds=4e-6, bound=1e-6).share == 0.25


@pytest.mark.parametrize("share, before, fails", [
    (0.80, 0.80, False), (0.57, 0.80, False), (0.55, 0.80, True), (1.2, 0.80, False), (0.01, None, False),
])  # fmt: skip
def test_a_third_less_than_recorded_is_lost(share, before, fails):
    assert shares.lost(share, before) is fails


def test_recorded_share_is_looked_up_by_machine_and_name():
    records = {"v4 on a": {"adam": 0.9}}
    assert shares.recorded(records, "v4 on a", "adam") == 0.9
    assert shares.recorded(records, "v4 on b", "adam") is None
    assert shares.recorded(records, "v4 on a", "sgd") is None


def test_recording_replaces_one_machine_and_drops_what_is_gone(tmp_path):
    old = {"v3 on a": {"b": 0.1}, "v4 on a": {"a": 0.2, "gone": 0.3}}
    new = shares.updated(old, "v4 on a", {"b": 0.123456}, known={"a", "b"})
    assert new == {"v3 on a": {"b": 0.1}, "v4 on a": {"a": 0.2, "b": 0.123}}
    path = tmp_path / "shares.json"
    assert shares.load(path) == {}
    shares.save(new, path)
    assert shares.load(path) == new


def test_table_of_shares_has_what_is_not_recorded():
    now = shares.Measured(seconds=2e-6, bound=1e-6)
    known, unknown = shares.text([("known", now, 0.4), ("other", now, None)]).splitlines()[2:]
    assert known.split("|")[4:7] == ["0.500".rjust(6) + " ", "0.400".rjust(9) + " ", "1.25".rjust(17) + " "]
    assert "unknown" in unknown


def test_measure_times_the_benchmark_and_asks_for_its_bound(monkeypatch):
    monkeypatch.setattr(shares, "fma_peak", lambda threads, seconds: 3.0)
    monkeypatch.setattr(shares, "bandwidth", lambda nbytes, threads, seconds, volume: float(nbytes))
    bounded = shares.Bounded("sleep", None, lambda gflops, gbytes: gflops * gbytes, memory=7)
    assert shares.measure(bounded, lambda times: 1e-2 * times, seconds=0) == shares.Measured(1e-2, 21.0)


def test_clock_takes_the_seconds_that_count():
    assert clock(lambda times: 2.0 * times, 3) == 6
    assert 0 <= clock(lambda times: times, 100) < 100  # a Program returns its steps


def test_best_time_is_the_best_of_calls_that_are_long_enough():
    asked = []

    def run(times):
        asked.append(times)
        return times * (1e-3 if len(asked) == 12 else 2e-3)

    assert best_time(run, 0, call=7e-3) == 1e-3
    assert asked == [1] * 3 + [2] * 3 + [4] * 13  # 1 and 2 times are too short a call


HASWELL = {"internal_api": "openblas", "version": "0.3.30", "architecture": "Haswell"}
SKYLAKE = {**HASWELL, "architecture": "SkylakeX"}


def test_blas_is_described():
    assert blas.described([HASWELL]) == "openblas 0.3.30, kernels: Haswell"
    assert blas.described([{"internal_api": "mkl", "version": None}]) == (
        "mkl of unknown version, kernels: it does not say which"
    )
    assert blas.described([]) == "none that threadpoolctl knows"


def test_no_warning_where_no_variable_is_set():
    assert blas.warning({"OPENBLAS_NUM_THREADS": "1", "OPENBLAS_CORETYPE": ""}, [HASWELL], [HASWELL]) == ""


def test_warning_names_the_variables_and_the_kernels():
    said = blas.warning({"OPENBLAS_CORETYPE": "Haswell", "OPENBLAS_L2_SIZE": "512"}, [HASWELL], [SKYLAKE])
    assert said.startswith("warning: OPENBLAS_CORETYPE=Haswell, OPENBLAS_L2_SIZE=512: ")
    assert "Haswell; without: openblas 0.3.30, kernels: SkylakeX" in said
    assert "same kernels" in blas.warning({"OPENBLAS_L2_SIZE": "512"}, [HASWELL], [HASWELL])


def test_lines_say_what_this_process_and_one_without_variables_use(monkeypatch):
    pytest.importorskip("threadpoolctl")
    for name in blas.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    (line,) = blas.lines()
    assert line == f"NumPy's BLAS: {blas.described(blas.libraries())}"
    monkeypatch.setenv("OPENBLAS_L2_SIZE", "512")
    first, second = blas.lines()
    assert first == line and second.startswith("warning: OPENBLAS_L2_SIZE=512")


def test_ratio_of_versions_is_the_median_of_adjacent_turns():
    row = versions.Row("a", 1, {"old": [1.0, 2.0, 4.0], "new": [1.1, 2.6, 4.8]})
    assert row.median("old") == 2.0
    assert row.ratio == pytest.approx(1.2)
    assert versions.Row("b", 1, {"old": [1.0], "new": []}).ratio is None
    assert versions.mean([2.0, 8.0]) == pytest.approx(4)


def test_table_of_versions_has_ratios_their_mean_and_what_is_missing():
    rows = [
        versions.Row("a", 1, {"old": [1e-6], "new": [2e-6]}),
        versions.Row("b", 1, {"old": [1e-6], "new": [5e-7]}),
        versions.Row("c", 1, missing={"old": "no such layer"}),
    ]
    said = versions.text(rows)
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in said.splitlines() if line.startswith("|")]
    assert lines[2:] == [["a", "1.00", "2.00", "2.000"], ["b", "1.00", "0.50", "0.500"],
                         ["geometric mean", "", "", "1.000"]]  # fmt: skip
    assert "- old, c, 1 thread(s): no such layer" in said


class Turns:
    """A worker that notes its turns; the new one ends at its second."""

    def __init__(self, side, log, about=None):
        self.side, self.log, self.about = side, log, about or {}

    def time(self, seconds):
        self.log.append(self.side)
        if self.side == "new" and self.log.count("new") == 2:
            return {"unavailable": "it ended"}
        return {"times": [1.0, 3.0, 2.0]}

    def close(self):
        self.log.append(f"{self.side} closed")


def test_versions_take_turns_until_one_ends():
    log = []
    row = versions.repeated(versions.Row("a", 1), lambda side: Turns(side, log), 3, 0.1)
    assert log == ["old", "new", "old", "new", "old", "old closed", "new closed"]
    assert row.turns == {"old": [2.0] * 3, "new": [2.0]} and row.missing == {"new": "it ended"} and row.ratio is None


def test_a_version_that_cannot_run_a_workload_takes_no_turns():
    log = []
    made = lambda side: Turns(side, log, {"unavailable": "no layer"} if side == "old" else None)  # noqa: E731
    row = versions.repeated(versions.Row("a", 1), made, 1, 0.1)
    assert log == ["new", "old closed", "new closed"]
    assert row.missing == {"old": "no layer"} and row.median("old") is None and row.median("new") == 2.0


def test_a_tree_that_is_not_imported_is_refused(tmp_path):
    (tmp_path / "nnpy").mkdir()
    with pytest.raises(SystemExit, match=r"was imported, which is not in|No module named"):
        versions.source(str(tmp_path))


def test_what_a_process_does_once_is_measured_by_name(monkeypatch, tmp_path):
    code = "import json; print(json.dumps({'build': 0.5, 'fit': 2.0}))"
    monkeypatch.setattr(versions, "ROOT", tmp_path)
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "once.py").write_text(code)
    rows = versions.once(["a", "b"], 1, [], dict.fromkeys(versions.SIDES, tmp_path), 2)
    assert [(row.name, row.turns) for row in rows] == [
        ("a", {"old": [0.5, 0.5], "new": [0.5, 0.5]}), ("b", {"old": [2.0, 2.0], "new": [2.0, 2.0]}),
    ]  # fmt: skip
    (tmp_path / "bench" / "once.py").write_text("raise ValueError('broken')")
    (row,) = versions.once(["a"], 1, [], dict.fromkeys(versions.SIDES, tmp_path), 1)
    assert row.missing == dict.fromkeys(versions.SIDES, "ValueError: broken") and row.ratio is None


def test_first_fit_of_a_deep_network():
    seconds = first_fit(layers=5, threads=1)
    assert list(seconds) == ["build", "fit"] and all(0 < s < math.inf for s in seconds.values())


def test_every_measurement_of_versions_has_a_name(monkeypatch):
    asked = []

    class Asked(Turns):
        def __init__(self, *arguments):
            asked.append(arguments)
            super().__init__("", [])

    monkeypatch.setattr(versions, "Worker", Asked)
    made = versions.measurements({"old": "o", "new": "n"}, 2, 1, 0.1)
    assert {"step of mlp_tiny", "predict 256 rows, resnet20", "first fit of 1000 layers", "import"} <= set(made)
    (row,) = made["predict 1 rows, mlp_mnist"]()
    assert (row.name, row.threads) == ("predict 1 rows, mlp_mnist", 2)
    assert asked == [("nnpy", "mlp_mnist", 2, 1, "o"), ("nnpy", "mlp_mnist", 2, 1, "n")]


def test_a_worker_measures_predict():
    from bench.peers.run import Worker

    worker = Worker("nnpy", "mlp_tiny", 1, rows=3)
    try:
        assert "unavailable" not in worker.about, worker.about
        times = worker.time(0.05)["times"]
        assert len(times) >= 3 and min(times) > 0
    finally:
        worker.close()


def test_records_of_this_repository_are_whole():
    records = json.loads(shares.FILE.read_text())
    assert records and all(0 < share < 4 for of in records.values() for share in of.values())
