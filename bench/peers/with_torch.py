"""PyTorch: eager with fused optimizers, or through torch.compile; channels_last for convolutions."""

from __future__ import annotations

from itertools import cycle

import torch
import torch.nn.functional as F
from torch import nn

from bench.workloads import Workload


def batch_norm(width: int, images: bool = False) -> nn.Module:
    return (nn.BatchNorm2d if images else nn.BatchNorm1d)(width, eps=1e-3, momentum=0.01)


def mlp(w: Workload) -> nn.Module:
    layers: list[nn.Module] = []
    for inputs, outputs in zip(w.sizes[:-2], w.sizes[1:-1], strict=True):
        layers += [nn.Linear(inputs, outputs), *([batch_norm(outputs)] if w.batch_norm else []), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(w.sizes[-2], w.sizes[-1]))


def cnn(w: Workload) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(7 * 7 * 64, 128), nn.ReLU(), nn.Linear(128, w.outputs),
    )  # fmt: skip


class Block(nn.Module):
    def __init__(self, channels: int, width: int):
        super().__init__()
        stride = 1 if channels == width else 2
        self.first = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.first_norm = batch_norm(width, True)
        self.second = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.second_norm = batch_norm(width, True)
        self.shortcut = nn.Identity()
        if channels != width:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), batch_norm(width, True))

    def forward(self, x):
        y = F.relu(self.first_norm(self.first(x)))
        return F.relu(self.second_norm(self.second(y)) + self.shortcut(x))


def resnet(w: Workload) -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, padding=1, bias=False), batch_norm(16, True), nn.ReLU()]
    channels = 16
    for width in (16, 32, 64):
        for _ in range(3):
            layers.append(Block(channels, width))
            channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, w.outputs))


class CharLSTM(nn.Module):
    def __init__(self, w: Workload):
        super().__init__()
        self.embedding = nn.Embedding(w.outputs, 64)
        self.lstm = nn.LSTM(64, 256, batch_first=True)
        self.head = nn.Linear(256, w.outputs)

    def forward(self, x):
        return self.head(self.lstm(self.embedding(x))[0])


class GPTBlock(nn.Module):
    def __init__(self, width: int = 128, heads: int = 4):
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        batch, steps, width = x.shape
        qkv = self.qkv(self.norm_1(x)).view(batch, steps, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(batch, steps, width))
        return x + self.down(F.gelu(self.up(self.norm_2(x)), approximate="tanh"))


class GPT(nn.Module):
    def __init__(self, w: Workload, width: int = 128):
        super().__init__()
        self.tokens = nn.Embedding(w.outputs, width)
        self.positions = nn.Parameter(0.02 * torch.randn(w.steps, width))
        self.blocks = nn.Sequential(*(GPTBlock(width) for _ in range(4)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, w.outputs)

    def forward(self, x):
        return self.head(self.norm(self.blocks(self.tokens(x) + self.positions)))


BUILDERS = {"mlp": mlp, "cnn": cnn, "resnet": resnet, "lstm": CharLSTM, "gpt": GPT}


def trainer(w: Workload, threads: int, framework: str):
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = BUILDERS[w.family](w).train()
    count = sum(p.numel() for p in model.parameters())
    # cuDNN's two LSTM biases: 1024 parameters more than the network needs.
    assert count - w.parameters in (0, 1024 if w.family == "lstm" else 0), f"{w.name}: {count} parameters"
    x, y = (torch.from_numpy(array) for array in w.data())
    if w.family in ("cnn", "resnet"):
        model = model.to(memory_format=torch.channels_last)
        x = x.permute(0, 3, 1, 2)  # NHWC in memory: channels_last
    if w.optimizer == "adam":
        optimizer = torch.optim.Adam(model.parameters(), lr=w.learning_rate, fused=True)
    else:
        optimizer = torch.optim.SGD(model.parameters(), lr=w.learning_rate, momentum=0.9, fused=True)

    def loss_of(x, y):
        return F.cross_entropy(model(x).view(-1, w.outputs), y.view(-1))

    if framework == "torch-compile":
        loss_of = torch.compile(loss_of)
    batches = cycle(list(zip(x.split(w.batch), y.long().split(w.batch), strict=True)))

    def train(steps: int) -> None:
        for _ in range(steps):
            xb, yb = next(batches)
            optimizer.zero_grad(set_to_none=True)
            loss_of(xb, yb).backward()
            optimizer.step()

    return train, torch.__version__
