"""What compiled steps must keep: the order of what touches the same memory, streams of their own, idle weights."""

import numpy as np
import pytest

import nncore
import nnpy as nn
from nnpy import ops
from nnpy.compiler import compile_step
from nnpy.compiler.memory import Buffer, Slot
from nnpy.compiler.schedule import Call, schedule
from nnpy.graph import Parameter, Tensor
from nnpy.ops.effects import assign

BATCH = 64


def call(out, x, by_rows=True):
    """A chain of 64 rows, which a phase takes, or a sum of columns, which none does."""
    memory = [Slot(buffer, 0, 4 * BATCH * BATCH) for buffer in (out, x)]
    if by_rows:
        return Call(
            "chain", dict(out=memory[0], x=memory[1], rows=BATCH, cols=BATCH, ld_out=BATCH, ld_x=BATCH), [], 9e3
        )
    return Call("transpose", dict(out=memory[0], x=memory[1], rows=BATCH, cols=BATCH), [], 9e3)


@pytest.mark.parametrize("kind", ["read after write", "write after read", "write after write"])
def test_calls_that_touch_the_same_memory_keep_their_order(kind):
    """A phase would like to take the second one first."""
    a, b, c, d = (Buffer(4 * BATCH * BATCH) for _ in range(4))
    first = call(b, a, by_rows=False)
    second = {"read after write": call(c, b), "write after read": call(a, d), "write after write": call(b, d)}[kind]
    free = call(Buffer(4 * BATCH * BATCH), d)
    order = schedule([first, second, free], BATCH)
    assert order.index(first) < order.index(second)
    assert order.index(free) < order.index(second)  # reordering is at work


def test_a_part_of_existing_memory_is_the_memory():
    """An optimizer's pass over the flat buffer comes after what reads one weight of it."""
    flat = np.zeros(3 * BATCH * BATCH, "f")
    weight = Slot(Buffer(0, external=nncore.ref(flat[BATCH * BATCH : 2 * BATCH * BATCH])), 0, 4 * BATCH * BATCH)
    reads = Call(
        "transpose", dict(out=Slot(Buffer(4 * BATCH**2), 0, 4 * BATCH**2), x=weight, rows=BATCH, cols=BATCH), [], 9e3
    )
    writes = Call("chain", dict(out=flat, x=flat, rows=3 * BATCH, cols=BATCH, ld_out=BATCH, ld_x=BATCH), [], 9e3)
    assert schedule([reads, writes], BATCH) == [reads, writes]


def test_two_random_layers_never_share_a_stream():
    nn.set_seed(0)
    x = nn.Input((1000,))
    maps = nn.SpatialDropout1D(0.5, name="c")(nn.Reshape((1, 1000))(x))
    parallel = [nn.Dropout(0.5, name="a")(x), nn.Dropout(0.5, name="b")(x), maps]
    net = nn.Model(x, [*parallel[:2], nn.Flatten()(parallel[2])])
    probed = net.probe(np.ones((8, 1000), "f"), training=True)
    masks = [np.asarray(probed[name]).reshape(8, 1000) != 0 for name in "abc"]
    for place, mask in enumerate(masks):
        for other in masks[:place]:
            assert 0.4 < (mask == other).mean() < 0.6  # independent: they agree half of the time
    shared = nn.Dropout(0.5)
    twice = nn.Model(x, [shared(x), shared(x)]).probe(np.ones((8, 1000), "f"), training=True)
    a, b = (twice[name] != 0 for name in twice if name.startswith("dropout"))
    assert 0.4 < (a == b).mean() < 0.6


def test_streams_do_not_depend_on_the_order_in_which_layers_were_made():
    def net(swapped):
        nn.set_seed(0)
        x = nn.Input((100,))
        made = {}
        for name in ("b", "a") if swapped else ("a", "b"):
            made[name] = nn.Dropout(0.5, name=name)(x)
        return nn.Model(x, nn.Concatenate(name="joined")([made["a"], made["b"]]))

    results = [net(swapped).probe(np.ones((4, 100), "f"), training=True)["joined"] for swapped in (False, True)]
    np.testing.assert_array_equal(*results)


def test_a_weight_that_the_loss_does_not_depend_on_stays():
    """Weight decay and momentum are for what is trained."""
    nn.set_seed(0)
    x = nn.Input((5,))
    hidden = nn.Dense(40, activation="relu", name="hidden")(x)
    net = nn.Model(x, {"used": nn.Dense(40, name="used")(hidden), "idle": nn.Dense(40, name="idle")(hidden)})
    net.compile(nn.AdamW(0.1, weight_decay=0.5), {"used": "mse"})
    before = {w.name: w.numpy() for w in net.weights}
    net.fit(np.ones((32, 5), "f"), {"used": np.ones((32, 40), "f")}, epochs=3, verbose=0)
    for weight in net.weights:
        assert (weight.numpy() == before[weight.name]).all() == weight.name.startswith("idle"), weight.name


def test_assignments_see_the_values_of_the_beginning_of_the_step():
    a, b = (Parameter(np.full((3,), value, "f"), name, trainable=False) for value, name in ((1.0, "a"), (2.0, "b")))
    effects = [assign(a, ops.multiply(b, 10.0)), assign(b, ops.add(a, b))]
    step = compile_step(effects, 1, nncore.new_state())
    step.run()
    np.testing.assert_array_equal([a.value, b.value], [[20.0] * 3, [3.0] * 3])
    step.run(2)
    np.testing.assert_array_equal([a.value, b.value], [[230.0] * 3, [53.0] * 3])


def test_nan_goes_through_a_whole_step():
    """Nothing on the way (maxima, clamps, masks, clipping) makes a number of it."""
    nn.set_seed(0)
    net = nn.Sequential(
        [nn.Input((6,)), nn.Dense(8, activation="relu"), nn.LayerNormalization(), nn.Dense(3, activation="tanh")]
    )
    net.compile(nn.SGD(0.1, global_clipnorm=1.0), "mse")
    net.layers[0].kernel.value[0, 0] = np.nan
    loss = net.train_on_batch(np.ones((4, 6), "f"), np.ones((4, 3), "f"))
    assert np.isnan(loss) and all(np.isnan(w).all() for w in net.layers[-1].get_weights())
    assert np.isnan(net.layers[0].get_weights()[0]).any()


def test_dead_ends_need_no_tensor():
    """A layer of which nothing is used costs no op."""
    x = Tensor((4, 3))
    unused = ops.tanh(x)
    weight = Parameter(np.ones((4, 3), "f"), "w", trainable=False)
    used = ops.exp(weight)
    assert unused is not used
    assert [op.name for op in compile_step([], 4, nncore.new_state(), keep=[used]).program.records] == ["chain"]
