"""scipy's sparse matrices as inputs: the bits of their dense arrays, and what is refused."""

import numpy as np
import pytest

import nnpy as nn

sparse = pytest.importorskip("scipy.sparse")

ROWS, COLS = 50, 12
rng = np.random.default_rng(0)
DENSE = np.where(rng.random((ROWS, COLS)) < 0.2, rng.normal(size=(ROWS, COLS)), 0.0)
DENSE[7] = 0.0
CSR = sparse.csr_matrix(DENSE)
Y = rng.normal(size=(ROWS, 2))
SMALL = {"batch_size": 16, "epochs": 2, "verbose": 0}


def network(inputs=True, dtype="float32"):
    nn.set_seed(1)
    layers = [nn.Dense(8, activation="relu"), nn.Dropout(0.2), nn.Dense(2)]
    before = nn.floatx()
    nn.set_floatx(dtype)
    try:
        net = nn.Sequential([nn.Input((COLS,)), *layers] if inputs else layers)
    finally:
        nn.set_floatx(before)
    net.compile("adam", "mse", metrics=["mae"])
    return net


def same(one, other):
    assert all(a.tobytes() == b.tobytes() for a, b in zip(one.get_weights(), other.get_weights(), strict=True))


def as_given(matrix):
    return [array.tobytes() for array in (matrix.data, matrix.indices, matrix.indptr)]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("inputs", [True, False])
def test_fit_has_the_bits_of_the_dense_array(threads, shuffle, inputs):
    nn.set_num_threads(threads)
    matrix, before = CSR.copy(), as_given(CSR)
    nets, weights = [], np.linspace(0.5, 2, ROWS)
    for x in (DENSE, matrix):  # the last batch is smaller
        nets.append(network(inputs))
        nets[-1].fit(x, Y, shuffle=shuffle, sample_weight=weights, validation_data=(x[:9], Y[:9]), **SMALL)
    assert nets[0].history.history == nets[1].history.history
    same(*nets)
    assert as_given(matrix) == before
    for rows in (slice(None), slice(3, 4), slice(7, 8)):
        assert nets[0].predict(DENSE[rows]).tobytes() == nets[1].predict(matrix[rows]).tobytes()
    assert nets[0].evaluate(DENSE, Y, verbose=0) == nets[1].evaluate(matrix, Y, verbose=0)
    assert nets[0].test_on_batch(DENSE, Y) == nets[1].test_on_batch(matrix, Y)
    assert nets[0].predict_on_batch(DENSE).tobytes() == nets[1].predict_on_batch(matrix).tobytes()
    nets[1].predict(DENSE[:4])  # of one shape, in the short way: not taken by the matrix
    assert nets[0].predict(DENSE[4:8]).tobytes() == nets[1].predict(matrix[4:8]).tobytes()


def test_a_split_batches_and_class_weights():
    labels = rng.integers(0, 2, ROWS)
    nets = [network(), network()]
    for net, x in zip(nets, (DENSE, CSR), strict=True):
        net.compile("sgd", nn.losses.SparseCategoricalCrossentropy(from_logits=True))
        net.fit(x, labels, validation_split=0.3, class_weight="balanced", **SMALL)
        net.train_on_batch(x[:5], labels[:5])
        net.fit([(x[:9], labels[:9]), (x[9:20], labels[9:20])].__iter__(), verbose=0)
    same(*nets)
    assert nets[0].history.history == nets[1].history.history
    activations = [net.probe(x, labels).activations.values() for net, x in zip(nets, (DENSE, CSR), strict=True)]
    for one, other in zip(*activations, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("format", ["csr", "csc", "coo", "lil", "dok", "bsr", "dia"])
@pytest.mark.parametrize("kind", ["matrix", "array"])
def test_every_format(format, kind):
    given = getattr(sparse, f"{format}_{kind}")(DENSE)
    net = network()
    assert net.predict(given).tobytes() == net.predict(DENSE).tobytes()


KINDS = ("?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", ">f8")


@pytest.mark.parametrize("model", ["float32", "float64"])
@pytest.mark.parametrize("dtype", KINDS)
def test_every_dtype(dtype, model):
    x = (DENSE * 50).astype(dtype)
    matrix = CSR.copy()
    matrix.data = x[DENSE != 0]  # as they are: scipy's own conversion knows no other order of bytes
    net = network(dtype=model)
    assert net.predict(matrix).tobytes() == net.predict(x).tobytes()


@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_columns_in_any_order_and_twice(index):
    """As ``toarray`` sums: in the order that they have, in the dtype of the matrix."""
    count = 600
    columns = np.concatenate([rng.integers(0, COLS, count), [3, 1, 2]])
    values = np.concatenate([rng.normal(size=count), [1.0, 2.0, 3.0]]) * 10.0 ** rng.integers(-6, 6, count + 3)
    starts = np.array([0, 0, count, count, count + 3], index)
    matrix = sparse.csr_matrix((4, COLS))
    matrix.data, matrix.indices, matrix.indptr = values, columns.astype(index), starts
    matrix.has_canonical_format = True  # what a matrix remembers may be wrong
    before = as_given(matrix)
    net = network(dtype="float64")
    assert net.predict(matrix).tobytes() == net.predict(matrix.toarray()).tobytes()
    assert as_given(matrix) == before and matrix.has_canonical_format


def test_one_of_several_inputs():
    a, b = nn.Input((COLS,)), nn.Input((3,))
    net = nn.Model([a, b], nn.Dense(2)(nn.Concatenate()([nn.Dense(4)(a), b])))
    net.compile("sgd", "mse")
    other = rng.normal(size=(ROWS, 3))
    weights = net.get_weights()
    found = []
    for x in (DENSE, CSR):
        net.set_weights(weights)
        net.fit([x, other], Y, shuffle=False, **SMALL)
        found.append(net.predict({net.input_names[0]: x, net.input_names[1]: other}).tobytes())
    assert found[0] == found[1]


def test_no_rows_no_columns_and_empty_rows():
    with pytest.raises(ValueError, match=r"expected at least one sample, got none \(shape \(0, 12\)\)"):
        network().predict(CSR[:0])
    net = network()
    empty = sparse.csr_array((3, COLS))
    assert net.predict(empty).tobytes() == net.predict(np.zeros((3, COLS))).tobytes()


def test_the_whole_is_never_dense():
    """400 GB of it."""
    matrix = sparse.csr_array((np.ones(3), [5, 99_999, 7], np.minimum(np.arange(10**6 + 1), 3)), shape=(10**6, 10**5))
    net = nn.Sequential([nn.Input((10**5,)), nn.Dense(1)])
    net.compile("sgd", "mse")
    kernel, bias = net.get_weights()
    result = net.predict(matrix, batch_size=8, steps=2)
    np.testing.assert_array_equal(result, [*kernel[[5, 99_999, 7]], *np.zeros((13, 1))])
    history = net.fit(matrix, np.ones(10**6), batch_size=8, steps_per_epoch=2, verbose=0).history
    assert np.isfinite(history["loss"]).all() and (net.get_weights()[1] != bias).all()


def changed(**arrays):
    matrix = CSR.copy()
    for name, change in arrays.items():
        array = getattr(matrix, name).copy()
        setattr(matrix, name, change(array))
    return matrix


def put(place, value):
    def change(array):
        array[place] = value
        return array

    return change


ROW, COLUMN = (int(place) for place in np.argwhere(DENSE)[10])
REFUSED = {
    "nan": (lambda: changed(data=put(10, np.nan)), ValueError, rf"got nan in row {ROW}, column {COLUMN}; fill such"),
    "overflow": (lambda: changed(data=put(10, 1e300)), ValueError, rf"\(in float32\), got 1e\+300 in row {ROW}, c"),
    "column": (lambda: changed(indices=put(10, COLS)), ValueError, rf"columns from 0 to 11, got 12 in row {ROW}$"),
    "negative": (lambda: changed(indices=put(10, -1)), ValueError, rf"columns from 0 to 11, got -1 in row {ROW}$"),
    "descending": (lambda: changed(indptr=put(3, 10**6)), ValueError, r"expected 51 ascending numbers in indptr"),
    "too far": (lambda: changed(indptr=put(ROWS, 10**6)), ValueError, r"expected 51 ascending numbers in indptr"),
    "begins late": (lambda: changed(indptr=put(0, 1)), ValueError, r"expected 51 ascending numbers in indptr, from 0"),
    "few values": (lambda: changed(data=lambda a: a[:-1]), ValueError, r"to at most \d+, the values there are$"),
    "complex": (lambda: CSR.astype(complex), TypeError, "expected real numbers, got dtype complex128; take the real"),
    "width": (lambda: CSR[:, :5], ValueError, r"expected samples of shape \(12,\), got \(5,\)"),
    "columns": (lambda: sparse.csr_array((ROWS, 2**31)), ValueError, "at most 2147483647 columns, got 2147483648"),
    "vector": (lambda: sparse.coo_array(np.ones(4)), ValueError, r"sparse matrix \(samples, features\), got coo_array"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case):
    make, error, match = REFUSED[case]
    net = network()
    with pytest.raises(error, match=r"^Input 'input\w*': .*" + match):
        net.predict(make())
    before = net.get_weights()
    with pytest.raises(error, match=match):
        net.fit(make(), Y[:4] if case == "vector" else Y, **SMALL)
    assert all(np.array_equal(a, b) for a, b in zip(before, net.get_weights(), strict=True))


def test_other_ranks_indices_and_targets_are_dense():
    image = nn.Sequential([nn.Input((3, 4)), nn.Flatten(), nn.Dense(2)])
    with pytest.raises(TypeError, match=r"numbers of shape \(3, 4\), got scipy's csr_matrix: a sample"):
        image.predict(CSR)
    numbers = nn.Input((COLS,), dtype="int32")
    with pytest.raises(TypeError, match=r"class numbers of shape \(12,\), got scipy's csr_matrix: .* toarray\(\)$"):
        nn.Model(numbers, nn.ops.cast(numbers, "float32")).predict(CSR)
    for given in ((CSR, sparse.csr_array(Y)), (CSR, Y, sparse.coo_array(np.ones((1, ROWS))))):
        with pytest.raises(TypeError, match=r"got scipy's \w+; only a model's inputs may be sparse: make it dense"):
            network().fit(*given[:2], sample_weight=given[2] if len(given) > 2 else None, **SMALL)


def test_changes_meanwhile_stay_inside():
    """A callback may write to the matrix: wrong numbers, never a place outside."""
    matrix = CSR.copy()

    def spoil(batch, logs):
        matrix.indices[:] = 2**31 - 1
        matrix.indptr[:] = 2**31 - 1

    net = network()
    net.fit(matrix, Y, callbacks=[nn.LambdaCallback(on_train_batch_end=spoil)], **SMALL)
    assert all(np.isfinite(w).all() for w in net.get_weights())


def test_a_loss_that_is_lost_names_inputs_that_are_not_scaled():
    net = network()
    net.compile(nn.SGD(1e3), "mse")
    with pytest.warns(nn.AdviceWarning, match=r"inputs, of up to \d+e?\S*, that are not scaled"):
        net.fit(CSR * 1e6, Y, batch_size=16, epochs=20, verbose=0)
