"""Train the networks of Chris Deotte's "25 Million Images! [0.99757] MNIST" on our split, and score them.

    python -m tests.bench.deotte --members 0 1              # about 20 minutes each on two CPU cores
    python -m tests.bench.deotte --members 0 1 2 … 14       # his fifteen, on a GPU

Source: kaggle.com/code/cdeotte/25-million-images-0-99757-mnist (2018): the layers, Adam at 0.001 ×
0.95^epoch, 45 epochs in batches of 64 over nine tenths of the labelled rows, rotation by up to 10 degrees,
each axis zoomed by 0.9 to 1.1 and shifted by up to a tenth. Our own code in torch; initial weights and
batch normalisation as Keras has them. Appends to `tests/bench/records/<date>-deotte/results.jsonl` a line
for each network and one for the mean of all; only the practice server knows the labels of the test rows.
"""

from __future__ import annotations

import argparse
import math
from datetime import UTC, datetime
from time import perf_counter

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mnist_core import read_test, read_train
from tests.bench.record import RECORDS
from tests.bench.scores import Practice, machine, read_lines, tell

EPOCHS, BATCH = 45, 64


def network() -> nn.Sequential:
    """Return one of his networks, pixels float32 (N, 1, 28, 28) from 0 to 1 to logits (N, 10)."""
    layers: list[nn.Module] = []
    plan = ((1, 32, 3, 1), (32, 32, 3, 1), (32, 32, 5, 2), (32, 64, 3, 1), (64, 64, 3, 1), (64, 64, 5, 2))
    for ins, outs, kernel, stride in plan:
        if stride == 2:  # "same" in Keras: 24 to 12 and 8 to 4 with one row more of padding at the end
            layers.append(nn.ZeroPad2d((1, 2, 1, 2)))
        layers += [nn.Conv2d(ins, outs, kernel, stride), nn.ReLU(), _norm(outs)]
        if stride == 2:
            layers.append(nn.Dropout(0.4))
    layers += [
        nn.Conv2d(64, 128, 4),
        nn.ReLU(),
        _norm(128),
        nn.Flatten(),
        nn.Dropout(0.4),
        nn.Linear(128, 10),
    ]
    for layer in layers:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def augment(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Return pictures (N, 1, 28, 28), each through a random affine map of its own."""
    count = len(pixels)

    def uniform(half: float) -> Tensor:
        return (2 * torch.rand(count, generator=generator) - 1).mul(half).to(pixels.device)

    turn, wide, high = uniform(math.radians(10)), 1 + uniform(0.1), 1 + uniform(0.1)
    cos, sin = turn.cos(), turn.sin()
    maps = torch.stack(
        [cos * wide, -sin * high, 2 * uniform(0.1), sin * wide, cos * high, 2 * uniform(0.1)], 1
    ).view(-1, 2, 3)
    grid = F.affine_grid(maps, list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)


def train(pixels: np.ndarray, labels: np.ndarray, seed: int, epochs: int, device: str) -> nn.Module:
    """Train one network on nine tenths of the rows: pixels uint8 (N, 28, 28), labels int64 (N,)."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    kept = torch.randperm(len(labels), generator=generator)[: len(labels) * 9 // 10]
    inputs = (torch.from_numpy(pixels)[kept, None] / 255).to(device)
    targets = torch.from_numpy(labels)[kept].to(device)
    net = network().to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, eps=1e-7)
    for epoch in range(epochs):
        optimizer.param_groups[0]["lr"] = 1e-3 * 0.95**epoch
        net.train()
        for batch in torch.randperm(len(kept), generator=generator).split(BATCH)[: len(kept) // BATCH]:
            loss = F.cross_entropy(net(augment(inputs[batch], generator)), targets[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(
            f"seed {seed}, epoch {epoch + 1} of {epochs}, loss of the last batch {float(loss):.4f}",
            flush=True,
        )
    return net.eval()


def probabilities(net: nn.Module, pixels: np.ndarray, device: str) -> np.ndarray:
    """Return float32 (N, 10)."""
    with torch.inference_mode():
        parts = torch.from_numpy(pixels)[:, None].split(1000)
        return torch.cat([net((part / 255).to(device)).softmax(1).cpu() for part in parts]).numpy()


def main() -> None:
    """Train and score what is missing, then score the mean of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--members", nargs="+", type=int, default=[0, 1], metavar="SEED")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="fewer, to try it out")
    parser.add_argument("--date", default=datetime.now(UTC).date().isoformat())
    given = parser.parse_args()
    practice = Practice()
    digits, test = read_train(practice.train_csv), read_test(practice.test_csv)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    log = RECORDS / f"{given.date}-deotte" / "results.jsonl"
    kept = practice.home / "records" / log.parent.name
    for folder in (log.parent, kept):
        folder.mkdir(parents=True, exist_ok=True)

    if not log.exists():
        tell(log, rows=len(digits), epochs=given.epochs, machine=machine())
    known = {row.get("seed") for row in read_lines(log)}
    for seed in given.members:
        if seed in known:
            continue
        start = perf_counter()
        net = train(digits.pixels, digits.true_labels, seed, given.epochs, device)
        seconds = round(perf_counter() - start, 1)
        found = probabilities(net, test.pixels, device)
        np.save(kept / f"{seed}.npy", found)
        tell(
            log,
            seed=seed,
            seconds=seconds,
            public_score=practice.score(found.argmax(1), f"{log.parent.name} seed {seed}"),
        )
    mean = np.mean([np.load(kept / f"{seed}.npy") for seed in given.members], axis=0)
    tell(
        log,
        seeds=given.members,
        public_score=practice.score(mean.argmax(1), f"{log.parent.name} seeds {given.members}"),
    )


if __name__ == "__main__":
    main()
