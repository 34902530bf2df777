"""The smallest network that needs a hidden layer: XOR. Run: python examples/xor.py"""

import numpy as np

import nnpy as nn

nn.set_seed(0)
x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
y = np.array([[0], [1], [1], [0]], np.float32)

model = nn.Sequential([nn.Input((2,)), nn.Dense(8, activation="tanh"), nn.Dense(1, activation="sigmoid")])
model.compile(optimizer=nn.Adam(0.05), loss="binary_crossentropy", metrics=["accuracy"])
model.fit(x, y, batch_size=4, epochs=300, verbose=0)

for inputs, probability in zip(x, model.predict(x)[:, 0], strict=True):
    print(f"{inputs[0]:.0f} xor {inputs[1]:.0f}: {probability:.3f}")
assert (model.predict(x).round() == y).all()
