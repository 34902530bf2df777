"""Every row of the op table: values, gradients, thread invariance, ISAs, bad input; then whole random graphs."""

import importlib

import numpy as np
import pytest
from arraytable import TABLE as ARRAYS
from imagetable import TABLE as IMAGES
from optable import TABLE, Graph, central_differences

import nncore
from nncore import kernels
from nnpy import Input, ops
from nnpy.graph import Parameter, Tensor
from nnpy.ops import normalization

ROWS = {row.name: row for row in (*TABLE, *IMAGES, *ARRAYS)}
THREADS = (1, 2, 3, 7)


@pytest.fixture(params=sorted(ROWS))
def row(request):
    return ROWS[request.param]


@pytest.fixture
def threads():
    """Sets the team's size and puts it back."""
    yield nncore.set_num_threads
    nncore.set_num_threads(0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values(row, dtype):
    for sample in row.samples:
        arrays = [a.astype(dtype) for a in row.arrays(sample)]
        expected = row.reference(*(a.astype(np.float64) for a in arrays))
        got = Graph(row.build, arrays, dtype).run()
        assert got.dtype == dtype
        assert got.shape == expected.shape
        tight = dtype == "float64"
        np.testing.assert_allclose(got, expected, rtol=1e-9 if tight else row.rtol, atol=1e-9 if tight else row.atol)


def test_gradients(row):
    for sample in row.samples:
        if sum(np.prod(shape) for shape in sample) > 1000:
            continue  # two runs for each element; the smaller samples have odd sizes too
        graph = Graph(row.build, row.arrays(sample), "float64")
        numeric = central_differences(graph)
        for got, expected, shape in zip(graph.gradients(), numeric, sample, strict=True):
            np.testing.assert_allclose(
                got, expected, rtol=1e-3, atol=1e-5, err_msg=f"{row.name} {sample} by input {shape}"
            )


def test_gradients_through_winograd(monkeypatch):
    """As the rows above have too few squares (or too many numbers for differences) to go that way."""
    monkeypatch.setattr(importlib.import_module("nnpy.ops.conv"), "_MINIMAL", 1)
    lanes = kernels.family("winograd", "float64").LANES
    row = ROWS["residual block with batch norm"]
    shapes = ((2, 5, 4, lanes), (3, 3, lanes, lanes), (lanes,), (lanes,), (3, 3, lanes, lanes), (lanes,), (lanes,))
    graph = Graph(row.build, row.arrays(shapes), "float64")
    names = [op.name for op in graph.executable.program.records]
    assert names.count("winograd") == 4 and names.count("winograd_weight_sums") == 2 and "conv" not in names
    np.testing.assert_allclose(graph.run(), row.reference(*row.arrays(shapes)), rtol=1e-9, atol=1e-9)
    for got, expected in zip(graph.gradients(), central_differences(graph), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-5)


def test_same_bits_at_any_thread_count(row, threads, teams):
    sample = max(row.samples, key=lambda s: sum(np.prod(shape) for shape in s))
    results = []
    for count in THREADS:
        threads(count)
        graph = Graph(row.build, row.arrays(sample))
        assert graph.executable.program.threads > 1
        results.append([graph.run(), *graph.gradients()])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["batch_norm", "batch_norm alone", "batch_norm between"])
def test_batch_norm_in_parts(name, monkeypatch, teams, threads):
    """As images are normalized: moments of parts of the rows, put together."""
    monkeypatch.setattr(normalization, "_SPREAD", 1)
    monkeypatch.setattr(normalization, "_PART", 7)
    monkeypatch.setattr(normalization, "_PART_ROWS", 1)
    row = ROWS[name]
    test_values(row, "float64")
    test_values(row, "float32")
    test_gradients(row)
    test_same_bits_at_any_thread_count(row, threads, teams)
    graph = Graph(row.build, row.arrays(row.samples[0]))
    assert {"moments", "gradient_moments"} <= {op.name for op in graph.executable.program.records}


@pytest.mark.parametrize(
    "rows, cols, by_parts", [(128, 250, False), (128, 256, True), (256, 250, True), (256, 16, False), (2048, 16, True)]
)
def test_which_batch_norm_goes_in_parts(rows, cols, by_parts):
    """Many rows do, and those that are a power of two apart: they would drive each other out of the cache."""
    row = ROWS["batch_norm"]
    arrays = [np.ones((rows, cols), np.float32), *(np.ones(cols, np.float32) for _ in range(2))]
    graph = Graph(row.build, arrays)
    assert ("moments" in {op.name for op in graph.executable.program.records}) == by_parts


@pytest.fixture
def choose_isa(monkeypatch):
    """Makes another variant the chosen one, and puts it back."""

    def choose(isa):
        monkeypatch.setenv("NNCORE_ISA", isa)
        kernels.chosen.cache_clear()

    yield choose
    monkeypatch.undo()
    kernels.chosen.cache_clear()


def test_isas_agree(row, choose_isa):
    best = kernels.chosen()[0]
    results = {}
    for isa in kernels.compiled()[: kernels.compiled().index(best) + 1]:
        choose_isa(isa)
        graph = Graph(row.build, row.arrays(row.samples[-1]))
        results[isa] = [graph.run(), *graph.gradients()]
    for isa, arrays in results.items():
        for got, expected in zip(arrays, results[best], strict=True):
            np.testing.assert_allclose(got, expected, rtol=max(row.rtol, 1e-4), atol=max(row.atol, 1e-5), err_msg=isa)


def test_bad_input_is_refused(row):
    for shapes, text in row.bad:
        with pytest.raises(ValueError, match=text):
            row.build(*(Parameter(np.zeros(shape), "x") for shape in shapes))


@pytest.mark.parametrize("seed", range(24))
def test_random_graphs(seed, threads, teams):
    """Any DAG: values used several times, dense layers, activations, joins, normalizations of values in other shapes.
    Gradients by central differences."""

    def normalized(a, row, rng):
        """A normalization of ``a``, or of its rows cut in two, and something element-wise around it."""
        rows = ops.reshape(a, (-1, 2, 3)) if rng.integers(2) else a
        scale = rows.shape[-1] == 6
        if rng.integers(2):
            rows = ops.activation(rows, "tanh")
        if rng.integers(2):
            y = ops.layer_norm(rows, row if scale else None)
        else:
            features = rows.shape[-1]
            mean, variance = (Parameter(np.full(features, v), "moving", trainable=False) for v in (0.1, 1.3))
            frozen = bool(rng.integers(2))
            y = ops.batch_norm(rows, mean, variance, row if scale else None, frozen=lambda: frozen)
        y = ops.activation(y, "sigmoid") if rng.integers(2) else y
        return ops.flatten(y)

    def build(*parameters):
        rng = np.random.default_rng(seed)
        x, square, bias = parameters[0], parameters[1:4], parameters[4:7]
        values = [x]
        for _ in range(8):
            a, b = (values[i] for i in rng.integers(len(values), size=2))
            choice = rng.integers(7)
            if choice == 0:
                values.append(ops.add(a, b))
            elif choice == 1:
                values.append(ops.multiply(a, ops.activation(b, "sigmoid")))
            elif choice == 2:
                i = int(rng.integers(3))
                values.append(
                    ops.activation(
                        ops.add(ops.matmul(a, square[i]), bias[i]), str(rng.choice(["tanh", "gelu", "silu"]))
                    )
                )
            elif choice == 3:
                values.append(ops.subtract(ops.softmax(a), b))
            elif choice == 4:
                values.append(ops.dropout(a, 0.4))
            else:
                values.append(normalized(a, bias[int(rng.integers(3))], rng))
        return ops.concatenate(values[-3:])

    rng = np.random.default_rng(100 + seed)
    arrays = [
        rng.standard_normal((3, 6)),
        *(0.5 * rng.standard_normal((6, 6)) for _ in range(3)),
        *(rng.standard_normal(6) for _ in range(3)),
    ]
    graph = Graph(build, arrays, "float64")
    numeric = central_differences(graph)
    gradients = graph.gradients()
    for got, expected in zip(gradients, numeric, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-5)
    threads(3)
    for got, again in zip(gradients, graph.gradients(), strict=True):
        np.testing.assert_array_equal(got, again)


@pytest.mark.parametrize(
    "make, error, text",
    [
        (lambda x: ops.full((2, -1), 0.0), ValueError, "full: expected sizes of 0 or more, or None, got -1"),
        (lambda x: ops.full((2.5,), 0.0), ValueError, "full: expected sizes of 0 or more, or None, got 2.5"),
        (lambda x: ops.pad(x, 1), ValueError, r"pad: expected \(before, after\) for each axis of \(None, 4\), got 1"),
        (lambda x: ops.log("a"), TypeError, "log: expected a Tensor or a finite number, got 'a'"),
        (lambda x: x @ x, ValueError, r"matmul: expected .* got \(None, 4\) and \(None, 4\); None is not known before"),
        (lambda x: ops.transpose(x) @ np.ones((3, 2), "f4"), ValueError, r"got \(4, None\) and \(3, 2\); None is not"),
        (lambda x: Input((None, 4)) @ Input((None, 4)), ValueError, "batch_matmul: expected .*; None is not known"),
        (lambda x: x + "a", TypeError, "add: expected a Tensor or a finite number beside <Tensor .*>, got 'a'"),
    ],
)
def test_arguments_that_are_refused(make, error, text):
    with pytest.raises(error, match=text):
        make(Tensor((None, 4)))


def test_known_indices_out_of_range_are_refused_at_once():
    x = Input((4,))
    for make, size in (
        (lambda: ops.take(x, 4, axis=1), 3),
        (lambda: ops.take(x, [[0, -1]], axis=1), 3),
        (lambda: ops.one_hot([0, 2], 2), 1),
    ):
        with pytest.raises(IndexError, match=f"expected indices from 0 to {size}, got"):
            make()


@pytest.mark.parametrize("of", [ops.norm, ops.std])
def test_at_0_the_gradient_is_0(of):
    """Norms and deviations are least there: 0 is a subgradient, and the other rows keep theirs."""
    x = np.array([[0.0, 0.0, 0.0], [3.0, 0.0, -4.0]])
    graph = Graph(lambda x: of(x, axis=-1), [x], "float64")
    (back,) = graph.gradients()
    assert (back[0] == 0).all()
    np.testing.assert_allclose(back[1], central_differences(graph)[0][1], atol=1e-6)
