"""Kernels of images (batch, height, width, channels) in plain NumPy: what each computes, and the oracle of tests and
benchmarks. Sizes in pairs: height, width; ``before``: zeros above and left of the image."""

from __future__ import annotations

import numpy as np

from nncore.reference_steps import philox

Pair = tuple[int, int]


def padded(x: np.ndarray, before: Pair, high: int, wide: int) -> np.ndarray:
    """x with zeros before it, cut or filled with zeros to high x wide pixels."""
    out = np.zeros((len(x), high, wide, x.shape[3]), x.dtype)
    part = x[:, max(0, -before[0]) :, max(0, -before[1]) :]
    top, left = max(0, before[0]), max(0, before[1])
    rows, columns = min(part.shape[1], high - top), min(part.shape[2], wide - left)
    if rows > 0 and columns > 0:
        out[:, top : top + rows, left : left + columns] = part[:, :rows, :columns]
    return out


def views(
    x: np.ndarray, size: Pair, places: Pair, strides: Pair = (1, 1), before: Pair = (0, 0), dilation: Pair = (1, 1)
):
    """For each place of a window (row, column): the pixels of all windows there, (batch, rows, columns, channels)."""
    high, wide = ((places[a] - 1) * strides[a] + (size[a] - 1) * dilation[a] + 1 for a in (0, 1))
    image = padded(x, before, high, wide)
    for i in range(size[0]):
        for j in range(size[1]):
            top, left = i * dilation[0], j * dilation[1]
            bottom, right = top + (places[0] - 1) * strides[0] + 1, left + (places[1] - 1) * strides[1] + 1
            yield i, j, image[:, top : bottom : strides[0], left : right : strides[1]]


def conv(x, w, places: Pair, groups: int = 1, **window):
    """The sum over a window of pixels times w [kh, kw, channels / groups, filters]; ``window``: as of ``views``."""
    kh, kw, inputs, filters = w.shape
    each = filters // groups
    y = np.zeros((len(x), *places, filters), x.dtype)
    for i, j, pixels in views(x, (kh, kw), places, **window):
        for g in range(groups):
            columns = slice(g * each, (g + 1) * each)
            y[..., columns] += pixels[..., g * inputs : (g + 1) * inputs] @ w[i, j][:, columns]
    return y


def conv_weight_grad(x, dy, size: Pair, groups: int = 1, **window):
    """The gradient of ``conv`` by w."""
    inputs, each = x.shape[3] // groups, dy.shape[3] // groups
    dw = np.zeros((*size, inputs, dy.shape[3]), x.dtype)
    for i, j, pixels in views(x, size, dy.shape[1:3], **window):
        for g in range(groups):
            columns = slice(g * each, (g + 1) * each)
            a, b = pixels[..., g * inputs : (g + 1) * inputs], dy[..., columns]
            dw[i, j][:, columns] = a.reshape(-1, inputs).T @ b.reshape(-1, each)
    return dw


def conv_input_grad(
    dy, w, image: Pair, strides: Pair = (1, 1), before: Pair = (0, 0), dilation: Pair = (1, 1), groups=1
):
    """The gradient of ``conv`` by x, whose height and width are ``image``."""
    kh, kw, inputs, filters = w.shape
    each = filters // groups
    rows, columns = dy.shape[1:3]
    high, wide = (
        (n - 1) * s + (k - 1) * d + 1 for n, s, k, d in zip((rows, columns), strides, (kh, kw), dilation, strict=True)
    )
    dx = np.zeros(
        (len(dy), max(high, image[0] + before[0]), max(wide, image[1] + before[1]), inputs * groups), dy.dtype
    )
    for i in range(kh):
        for j in range(kw):
            top, left = i * dilation[0], j * dilation[1]
            to = dx[
                :,
                top : top + (rows - 1) * strides[0] + 1 : strides[0],
                left : left + (columns - 1) * strides[1] + 1 : strides[1],
            ]
            for g in range(groups):
                part = slice(g * each, (g + 1) * each)
                to[..., g * inputs : (g + 1) * inputs] += dy[..., part] @ w[i, j][:, part].T
    return dx[:, before[0] : before[0] + image[0], before[1] : before[1] + image[1]]


def conv_pack(w, order, lanes: int, groups: int = 1, turned: bool = False):
    """For each group and panel of output channels (2 * lanes, or lanes if no more are left, filled up with zeros), for
    each place in ``order``, a row for each input channel."""
    *_, inputs, filters = w.shape
    places = w.reshape(-1, inputs, filters)[np.asarray(order, int)]
    each, out = filters // groups, []
    for g in range(groups):
        rows = places[:, :, g * each : (g + 1) * each]
        rows = rows.transpose(0, 2, 1) if turned else rows
        for start in range(0, rows.shape[2], 2 * lanes):
            part = rows[:, :, start : start + 2 * lanes]
            missing = -part.shape[2] % lanes
            out.append(np.pad(part, ((0, 0), (0, 0), (0, missing))).ravel())
    return np.concatenate(out) if out else np.zeros(0, w.dtype)


def winograd_pack(w, order, lanes: int, turned: bool = False):
    """For each panel of output channels (2 * lanes, or lanes if no more are left), for each of the 16 numbers that a
    3 x 3 window is transformed to, a row for each input channel."""
    g = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], w.dtype)
    window = w.reshape(9, *w.shape[2:])[np.asarray(order, int)].reshape(3, 3, *w.shape[2:])
    window = window.swapaxes(2, 3) if turned else window
    numbers = np.einsum("ai,bj,ijrk->abrk", g, g, window).reshape(16, *window.shape[2:])
    starts = range(0, numbers.shape[2], 2 * lanes)
    return np.concatenate([numbers[:, :, start : start + 2 * lanes].ravel() for start in starts])


def winograd_weights(sums):
    """The gradient by w [3, 3, cin, cout] of that by the 16 numbers that w is transformed to [16, cin, cout]."""
    g = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], sums.dtype)
    return np.einsum("ai,bj,abck->ijck", g, g, sums.reshape(4, 4, *sums.shape[1:]))


def max_pool(x, size: Pair, places: Pair, strides: Pair, before: Pair = (0, 0)):
    low = np.full((1, 1, 1, 1), -np.inf, x.dtype)
    pixels = [np.where(inside, v, low) for _, _, v, inside in _with_inside(x, size, places, strides, before)]
    return np.max(pixels, axis=0)


def max_pool_grad(dy, x, y, size: Pair, strides: Pair, before: Pair = (0, 0)):
    """dy goes to the first place of each window that equals y, or is NaN."""
    taken = np.zeros(dy.shape, bool)
    masks = []
    for _, _, v, inside in _with_inside(x, size, dy.shape[1:3], strides, before):
        here = inside & ((v == y) | np.isnan(v)) & ~taken
        taken |= here
        masks.append(np.where(here, dy, 0).astype(dy.dtype))
    return _spread(masks, x.shape, size, strides, before)


def average_pool(x, size: Pair, places: Pair, strides: Pair, before: Pair = (0, 0), scale: float = 0.0):
    """The mean over each window's places inside the image, or their sum times ``scale``."""
    total, count = np.zeros((len(x), *places, x.shape[3]), x.dtype), 0
    for _, _, v, inside in _with_inside(x, size, places, strides, before):
        total, count = total + v, count + inside
    return (total * scale if scale else total / np.maximum(count, 1)).astype(x.dtype)


def average_pool_grad(dy, image: Pair, size: Pair, strides: Pair, before: Pair = (0, 0), scale: float = 0.0):
    shape = (len(dy), *image, dy.shape[3])
    ones = np.ones((1, *image, 1), dy.dtype)
    inside = [places for *_, places in _with_inside(ones, size, dy.shape[1:3], strides, before)]
    share = dy * scale if scale else dy / np.maximum(sum(part.astype(int) for part in inside), 1)
    return _spread([np.where(part, share, 0).astype(dy.dtype) for part in inside], shape, size, strides, before)


def _with_inside(x, size, places, strides, before):
    """``views``, and which of the pixels are inside the image."""
    ones = np.ones((1, *x.shape[1:3], 1), np.int8)
    some = views(x, size, places, strides, before), views(ones, size, places, strides, before)
    for (i, j, v), (_, _, inside) in zip(*some, strict=True):
        yield i, j, v, inside > 0


def _spread(parts, shape, size, strides, before):
    """The sum of what each place of the windows gives to its pixel."""
    rows, columns = parts[0].shape[1:3]
    high, wide = ((n - 1) * s + k for n, s, k in zip((rows, columns), strides, size, strict=True))
    out = np.zeros(
        (shape[0], max(high, shape[1] + before[0]), max(wide, shape[2] + before[1]), shape[3]), parts[0].dtype
    )
    for place, part in enumerate(parts):
        i, j = divmod(place, size[1])
        out[
            :, i : i + (rows - 1) * strides[0] + 1 : strides[0], j : j + (columns - 1) * strides[1] + 1 : strides[1]
        ] += part
    return out[:, before[0] : before[0] + shape[1], before[1] : before[1] + shape[2]]


def place(x, top: int, left: int, high: int, wide: int):
    """x moved down and right (or, negative, up and left) on high x wide zeros."""
    return padded(x, (top, left), high, wide)


def _parts(rows: int, parts: int):
    return np.array_split(np.arange(rows), parts)


def moments(x, parts: int):
    """[parts, 2, cols]: the mean of each part of the rows, and the sum of squares of the distances from it."""
    out = []
    for rows in _parts(len(x), parts):
        mean = x[rows].mean(0)
        out.append((mean, ((x[rows] - mean) ** 2).sum(0)))
    return np.array(out, x.dtype)


def batch_norm_scale(partial, counts, gamma, beta, moving_mean, moving_variance, epsilon: float, momentum: float):
    """(scale, shift, mean, rstd, moving mean, moving variance) from ``moments`` of parts of so many rows each."""
    rows, counts = counts.sum(), counts[:, None]
    mean = (counts * partial[:, 0]).sum(0) / rows
    variance = (partial[:, 1] + counts * (partial[:, 0] - mean) ** 2).sum(0) / rows
    rstd = 1 / np.sqrt(variance + epsilon)
    scale = rstd * gamma
    moved = (momentum * old + (1 - momentum) * new for old, new in ((moving_mean, mean), (moving_variance, variance)))
    return scale, beta - mean * scale, mean, rstd, *moved


def gradient_moments(dy, x, mean, rstd, parts: int):
    """[parts, 2, cols]: the sums of dy, and of dy * (x - mean) * rstd."""
    some = [(dy[rows], (x[rows] - mean) * rstd) for rows in _parts(len(x), parts)]
    return np.array([(g.sum(0), (g * normal).sum(0)) for g, normal in some], x.dtype)


def batch_norm_grad_scale(partial, rows: int, gamma, mean, rstd):
    """(factors [3, cols], dgamma, dbeta), with dx = dy * f0 + x * f1 + f2."""
    dbeta, dgamma = partial.sum(0)
    scale = gamma * rstd
    slope = -scale * rstd * dgamma / rows
    return np.stack([scale, slope, -scale * dbeta / rows - slope * mean]), dgamma, dbeta


def group_norm(x, groups: int, gamma, beta, epsilon: float):
    """(y, mean [batch, groups], rstd) of x [batch, pixels, channels]."""
    cut = x.reshape(len(x), x.shape[1], groups, -1)
    mean = cut.mean((1, 3))
    centred = cut - mean[:, None, :, None]
    rstd = 1 / np.sqrt((centred**2).mean((1, 3)) + epsilon)
    return (centred * rstd[:, None, :, None]).reshape(x.shape) * gamma + beta, mean, rstd


def group_norm_grad(dy, x, groups: int, gamma, mean, rstd):
    """(dx, partial [batch, 2, channels]: sums of dy and of dy * xhat)."""
    cut = x.reshape(len(x), x.shape[1], groups, -1)
    normal = (cut - mean[:, None, :, None]) * rstd[:, None, :, None]
    partial = np.stack([dy.sum(1), (dy * normal.reshape(x.shape)).sum(1)], axis=1)
    g = (dy * gamma).reshape(cut.shape)
    centred = g - g.mean((1, 3), keepdims=True) - normal * (g * normal).mean((1, 3), keepdims=True)
    return (centred * rstd[:, None, :, None]).reshape(x.shape), partial


def channel_dropout(x, keep, scale: float):
    """x [batch, pixels, channels] times scale where ``keep`` [batch, channels], else 0."""
    return np.where(keep[:, None, :], x * x.dtype.type(scale), x.dtype.type(0))


def image_places(numbers, epoch: int, seed: int, places: Pair):
    """(rows, columns, mirrored): which part of each image ``gather_image`` takes of so many places."""
    counter = np.empty((len(numbers), 4), np.uint32)
    number = np.asarray(numbers, np.uint64)
    counter[:, 0], counter[:, 1] = number & np.uint64(0xFFFFFFFF), number >> np.uint64(32)
    counter[:, 2], counter[:, 3] = epoch & 0xFFFFFFFF, 0xFFFFFFFF
    words = philox(counter, (seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF)).astype(np.uint64)
    rows, columns = (words[:, a] * np.uint64(places[a]) >> np.uint64(32) for a in (0, 1))
    return rows.astype(int), columns.astype(int), words[:, 2] % np.uint64(2) == 0


def gather_image(x, size: Pair, padding: Pair, scale, shift, dtype, places=None):
    """The middle of each image with zeros around it, or the parts that ``image_places`` chose, times scale plus shift
    (by channel)."""
    wide = np.pad(x, ((0, 0), (padding[0],) * 2, (padding[1],) * 2, (0, 0)))
    spare = [wide.shape[1 + a] - size[a] for a in (0, 1)]
    if places is None:
        middle = spare[0] // 2, spare[1] // 2
        places = [np.full(len(x), middle[0]), np.full(len(x), middle[1]), np.zeros(len(x), bool)]
    parts = [
        image[top : top + size[0], left : left + size[1]][:, :: -1 if mirrored else 1]
        for image, top, left, mirrored in zip(wide, *places, strict=True)
    ]
    return np.stack(parts).astype(dtype) * np.asarray(scale, dtype) + np.asarray(shift, dtype)
