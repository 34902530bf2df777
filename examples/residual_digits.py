"""Handwritten digits by a network with residual connections. Run: python examples/residual_digits.py"""

import nnpy as nn

nn.set_seed(0)
(x, y), (x_test, y_test) = nn.data.load_mnist()
x, x_test = x.astype("float32") / 255, x_test.astype("float32") / 255

inputs = nn.Input((28, 28))
stream = nn.Dense(128)(nn.Flatten()(inputs))
for _ in range(3):
    # Each block adds to the stream, so gradients reach the first layer undiminished (He et al., CVPR 2016).
    stream = stream + nn.Dense(128)(nn.Dense(128, activation="gelu")(stream))
model = nn.Model(inputs, nn.Dense(10)(stream))
model.summary()

model.compile("adam", nn.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
model.fit(x, y, batch_size=128, epochs=6, validation_split=0.1)
loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
print(f"test accuracy {accuracy:.2%}")
assert accuracy > 0.93
