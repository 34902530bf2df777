"""A Python function as an activation, compiled into the step by Numba. Run: python examples/custom_activation.py"""

import math

import numpy as np

import nnpy as nn


def snake(x):
    """x + sin(x)^2: periodic and rising, for signals that repeat (Ziyin et al., NeurIPS 2020)."""
    return x + math.sin(x) ** 2


def snake_derivative(x):
    return 1.0 + math.sin(2.0 * x)


nn.set_seed(0)
x = np.linspace(-10, 10, 1000, dtype=np.float32)[:, None]
y = np.sin(x) + 0.1 * x

model = nn.Sequential([nn.Dense(64, activation=nn.activations.custom(snake, snake_derivative)), nn.Dense(1)])
model.compile(nn.Adam(0.01), "mse")
history = model.fit(x, y, epochs=200, verbose=0)
first, *_, last = history.history["loss"]
print(f"mean squared error: {first:.4f} in the first epoch, {last:.6f} in the last")
assert last < 0.01
