"""Images in place of arrays: augmented in training alone, by seed, epoch and sample."""

import numpy as np
import pytest

import nnpy as nn
from nncore import reference_images
from nnpy.data import Images, channel_statistics

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (60, 6, 8, 3), dtype=np.uint8)
Y = RNG.integers(0, 4, 60)
OPTIONS = dict(padding=2, flip=True, mean=(100, 120, 140), std=(50, 60, 70))


@pytest.fixture
def plain():
    return (X - np.array(OPTIONS["mean"], np.float32)) / np.array(OPTIONS["std"], np.float32)


def model(optimizer="sgd"):
    nn.set_seed(2)
    made = nn.Sequential(
        [nn.Input((6, 8, 3)), nn.Conv2D(4, 3, activation="relu"), nn.Flatten(), nn.Dense(4, activation="softmax")]
    )
    made.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return made


def test_predict_sees_images_as_they_are(plain):
    images = Images(X, **OPTIONS)
    np.testing.assert_allclose(images.take(slice(None)), plain, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.asarray(images), plain, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(images.take([3, 1]), plain[[3, 1]], rtol=1e-5, atol=1e-6)
    assert len(images) == 60 and images.shape == X.shape and np.asarray(images, "float64").dtype == np.float64
    m = model()
    np.testing.assert_allclose(m.predict(images), m.predict(plain), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(m.evaluate(images, Y, verbose=0), m.evaluate(plain, Y, verbose=0), rtol=1e-5)
    small = Images(X, size=(4, 4))
    np.testing.assert_array_equal(small.take(slice(None)), X[:, 1:5, 2:6])  # the middle


def test_what_training_sees():
    """Parts and mirrors as Philox of (seed, epoch, sample) gives them: reference_images says how."""
    images = Images(X, **OPTIONS)
    scale = 1 / np.array(OPTIONS["std"])
    for epoch in (0, 3):
        for seed in (0, 9):
            places = reference_images.image_places(np.arange(60), epoch, seed, (5, 5))
            expected = reference_images.gather_image(
                X, (6, 8), (2, 2), scale, -np.array(OPTIONS["mean"]) * scale, "f4", places
            )
            np.testing.assert_allclose(images.take(slice(None), epoch, seed), expected, rtol=1e-5, atol=1e-5)
    assert 15 < places[2].sum() < 45 and len(set(places[0])) == len(set(places[1])) == 5
    # a sample is changed in the same way wherever it stands
    np.testing.assert_array_equal(images.take([7, 30], 3, 9), images[7:31].take([0, 23], 3, 9))
    assert (images.take([7], 3, 9) != images.take([7], 4, 9)).any()


def test_fit_trains_on_what_take_shows():
    """An epoch on Images is one on the arrays that take gives: in order or shuffled, for any batch size."""
    images = Images(X, **OPTIONS)
    for shuffle in (False, True):
        a, b = model(), model()
        a.fit(images, Y, batch_size=7, epochs=3, shuffle=shuffle, verbose=0)
        for epoch in range(3):
            b.fit(images.take(slice(None), epoch, 2), Y, batch_size=7, shuffle=shuffle, verbose=0)
        for mine, other in zip(a.get_weights(), b.get_weights(), strict=True):
            np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-6)


def test_threads_do_not_change_the_bits(teams):
    results = set()
    try:
        for threads in (1, 2, 3, 7):
            nn.set_num_threads(threads)
            m = model("adam")
            m.fit(Images(X, **OPTIONS), Y, batch_size=16, epochs=2, verbose=0)
            results.add(b"".join(w.tobytes() for w in m.get_weights()))
    finally:
        nn.set_num_threads(0)
    assert len(results) == 1


def test_validation_is_not_augmented(plain):
    images, m = Images(X, **OPTIONS), model()
    history = m.fit(images, Y, epochs=1, validation_split=0.25, verbose=0).history
    loss, accuracy = m.evaluate(plain[45:], Y[45:], verbose=0)
    assert history["val_loss"][0] == pytest.approx(loss, rel=1e-5) and history["val_accuracy"][0] == accuracy


def test_steps_of_a_stream_are_augmented_differently():
    first = Images(X[:1], padding=2)
    flat = nn.Sequential([nn.Input((6, 8, 3)), nn.Flatten(), nn.Dense(1, use_bias=False, kernel_initializer="zeros")])
    flat.compile(nn.SGD(1.0), "mse")
    moves = []
    for _ in range(3):  # the gradient of a zero model by its weights is the image itself
        flat.set_weights([np.zeros((144, 1))])
        flat.train_on_batch(first, [[1.0]])
        moves.append(flat.get_weights()[0].tobytes())
    assert len(set(moves)) > 1
    one = first.numbered([5])
    moves = set()
    for _ in range(3):  # numbers that are given are kept
        flat.set_weights([np.zeros((144, 1))])
        flat.train_on_batch(one, [[1.0]])
        moves.add(flat.get_weights()[0].tobytes())
    assert len(moves) == 1


def test_several_inputs_are_augmented_alike():
    a, b = nn.Input((6, 8, 3), name="a"), nn.Input((6, 8, 3), name="b")
    m = nn.Model([a, b], nn.Dense(1)(nn.GlobalAveragePooling2D()(nn.Subtract()([a, b]))))
    m.compile("sgd", "mse")
    same = Images(X, padding=2, flip=True)
    history = m.fit([same, Images(X, padding=2, flip=True)], np.zeros(60), epochs=1, verbose=0).history
    assert history["loss"] == [0.0]
    with pytest.raises(ValueError, match="expected Images of the same samples"):
        m.fit([same[:30], same[30:]], np.zeros(30), verbose=0)


def test_an_input_beside_images():
    a, b = nn.Input((6, 8, 3)), nn.Input((2,))
    y = nn.Dense(4, activation="softmax")(nn.Concatenate()([nn.Flatten()(a), b]))
    m = nn.Model([a, b], y)
    m.compile("adam", "sparse_categorical_crossentropy")
    before = X.copy()
    m.fit([Images(X, **OPTIONS), RNG.normal(size=(60, 2))], Y, epochs=2, verbose=0)
    assert m.predict([Images(X), np.zeros((60, 2))]).shape == (60, 4)
    np.testing.assert_array_equal(X, before)
    probe = m.probe([Images(X[:3]), np.zeros((3, 2))], Y[:3])
    assert probe[m.layers[-1].name].shape == (3, 4)


def test_double_precision():
    nn.set_floatx("float64")
    try:
        images = Images(X.astype(np.float64) / 255, mean=0.5, std=0.25)
        np.testing.assert_allclose(images.take(slice(None)), (X / 255 - 0.5) / 0.25, rtol=1e-12)
    finally:
        nn.set_floatx("float32")


def test_views_are_read_where_they_are():
    images = Images(X[::2])
    assert np.shares_memory(images.x, X)
    np.testing.assert_array_equal(images.take(slice(None)), X[::2])
    turned = Images(X.transpose(0, 2, 1, 3))  # rows are not contiguous: copied
    np.testing.assert_array_equal(turned.take([4]), X[[4]].transpose(0, 2, 1, 3))


def test_what_a_program_reads_cannot_be_replaced():
    """Of what was checked: another array, shape or number would make a Program read foreign memory."""
    images = Images(X, **OPTIONS).numbered(np.arange(len(X)))
    given = np.arange(len(X))
    mine = images.numbered(given)
    for name in ("x", "numbers", "transform"):
        with pytest.raises(AttributeError):
            setattr(images, name, getattr(images[:2], name))
    images.x.shape = images.numbers.shape = (-1,)
    given[:] = -1
    assert images.x.shape == X.shape and images.numbers.shape == (len(X),)
    assert (mine.numbers == np.arange(len(X))).all()


def test_channel_statistics():
    mean, std = channel_statistics(X)
    np.testing.assert_allclose(mean, X.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, X.std((0, 1, 2)), rtol=1e-12)
    far = 1e6 + RNG.normal(size=(5, 3, 3, 2))
    far[..., 1] = 7
    mean, std = channel_statistics(far)
    np.testing.assert_allclose(std, [far[..., 0].std(), 1], rtol=1e-6)
    for bad in (X[0], X[:0]):
        with pytest.raises(ValueError, match="expected images"):
            channel_statistics(bad)
    with pytest.raises(ValueError, match="expected finite numbers"):
        channel_statistics(np.full((2, 3, 3, 1), np.inf))


BAD = [
    (lambda: Images(X[..., 0]), ValueError, r"got \(60, 6, 8\); give them channels: x\[..., None\]"),
    (lambda: Images("cat.jpg"), TypeError, "Images: x: "),
    (lambda: Images(X, padding=-1), ValueError, "expected padding to be an integer >= 0, got -1"),
    (lambda: Images(X, padding=(1, 2, 3)), TypeError, r"padding to be a number or \(rows, columns\)"),
    (lambda: Images(X, padding=1.5), TypeError, "expected padding to be"),
    (lambda: Images(X, size=(9, 8)), ValueError, "size of at most 6 rows"),
    (lambda: Images(X, size=0), ValueError, "expected size to be a positive integer"),
    (lambda: Images(X, flip="yes"), TypeError, "expected flip to be True or False"),
    (lambda: Images(X, mean=(1, 2)), ValueError, "expected mean to be a finite number, or 3"),
    (lambda: Images(X, std=0), ValueError, "expected std above 0"),
    (lambda: Images(X, mean=np.nan), ValueError, "expected mean to be a finite number"),
    (lambda: Images(X)[3], TypeError, r"expected a slice, got 3; take\(3\) gives arrays"),
    (lambda: Images(X).numbered([1]), ValueError, "expected 60 numbers"),
    (lambda: Images(X).take([60]), IndexError, "60"),
    (lambda: np.asarray(Images(X), copy=False), ValueError, "always a copy"),
    (lambda: model().fit(Images(X), Y[:5]), ValueError, "as many samples as"),
    (lambda: model().fit(Images(np.full((2, 6, 8, 3), np.nan)), [0, 1]), ValueError, "expected finite numbers"),
]


@pytest.mark.parametrize("make, error, text", BAD)
def test_refuses(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_images_of_another_size_than_the_model():
    m = model()
    with pytest.raises(ValueError, match=r"expected samples of shape \(6, 8, 3\), got \(4, 4, 3\)"):
        m.predict(Images(X, size=4))
