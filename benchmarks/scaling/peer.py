"""The same in PyTorch: DistributedDataParallel with gloo.

python -m benchmarks.scaling.peer RANKS exchange BYTES,BYTES,...
python -m benchmarks.scaling.peer RANKS step BATCH [STEPS]
"""

from __future__ import annotations

import json
import os
import socket
import sys
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import distributed, nn
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

REPEATS = 3
SECONDS = 0.5
BUCKET = 25 << 20  # bytes: DistributedDataParallel's default


def main() -> None:
    ranks = int(sys.argv[1])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn(_rank, args=(ranks, port, *sys.argv[2:]), nprocs=ranks)


def _rank(rank: int, ranks: int, port: int, task: str, *arguments: str) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    distributed.init_process_group("gloo", rank=rank, world_size=ranks)
    result = {"exchange": exchange, "step": step}[task](*arguments)
    distributed.barrier()
    if rank == 0:
        print(json.dumps(result), flush=True)
    distributed.destroy_process_group()


def exchange(sizes: str) -> list[dict[str, float]]:
    """As in `work.exchange`: the mean of the ranks' gradients, in buckets."""
    rows = []
    for size in map(int, sizes.split(",")):
        flat = torch.ones(size // 4)
        buckets = flat.split(BUCKET // 4)

        def combine(buckets: Any = buckets) -> None:
            work = [distributed.all_reduce(bucket, async_op=True) for bucket in buckets]
            for handle in work:
                handle.wait()  # type: ignore[union-attr]
            for bucket in buckets:
                bucket /= distributed.get_world_size()

        combine()
        times: list[float] = []
        total = 0.0
        while len(times) < 5 or (total < SECONDS and len(times) < 200):
            distributed.barrier()
            start = perf_counter()
            combine()
            slowest = torch.tensor([perf_counter() - start], dtype=torch.float64)
            distributed.all_reduce(slowest, distributed.ReduceOp.MAX)
            times.append(slowest.item())
            total = sum(times)
        rows.append({"bytes": size, "seconds": float(np.median(times))})
    return rows


def step(batch: str, steps: str = "60") -> dict[str, float]:
    """As in `work.step`, with the usual loop and images in channels-last order."""
    own = int(batch) // distributed.get_world_size()
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(2304, 32), nn.ReLU(), nn.Linear(32, 10),
    ).to(memory_format=torch.channels_last)  # type: ignore[call-overload] # fmt: skip
    shared = DistributedDataParallel(model)
    optimizer = torch.optim.Adam(shared.parameters(), fused=True)
    x = torch.rand(own * int(steps), 1, 28, 28).contiguous(memory_format=torch.channels_last)
    y = torch.randint(10, (len(x),))

    def epoch() -> None:
        for rows in torch.randperm(len(x)).split(own):
            optimizer.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(shared(x[rows]), y[rows]).backward()
            optimizer.step()

    epoch()
    seconds = []
    for _ in range(REPEATS):
        distributed.barrier()
        start = perf_counter()
        epoch()
        distributed.barrier()
        seconds.append((perf_counter() - start) / int(steps))
    return {"seconds": min(seconds)}


if __name__ == "__main__":
    main()
