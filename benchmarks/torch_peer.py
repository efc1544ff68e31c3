"""PyTorch, written by hand for speed: eager or compiled, images with channels first or last; fused
Adam in all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks import torch_kernels
from benchmarks.framework import Framework, NotAvailable, Run, repeated
from benchmarks.keras_peer import PREDICT_BATCH, split_batches
from benchmarks.machine import threads
from benchmarks.torch_models import LOSSES, build_model, is_image, set_initial_weights
from benchmarks.workloads import LEARNING_RATE, MODELS, Workload, cycle, make_data

COMPARABLE = ("cnn", "cifar", "mlp", "residual", "autoencoder")


class Torch(Framework):
    def modes(self, workload: Workload) -> list[str]:
        if workload.task == "kernel":
            return ["channels_last", "eager"] if workload.model.startswith("conv") else ["eager"]
        if is_image(workload.model):
            return ["eager", "channels_last", "compile", "compile_channels_last"]
        return ["eager", "compile"]

    def kernel(self, workload: Workload, mode: str) -> Run:
        return torch_kernels.build(workload, mode)

    def step(self, workload: Workload, mode: str) -> Run:
        step, _ = _training_step(workload, mode)
        batch = cycle([_tensors(x, y, mode) for x, y in split_batches(workload, 4)])
        return repeated(lambda: step(*batch()))

    loop = step

    def fit(self, workload: Workload, mode: str) -> Run:
        """The usual loop: a new order every epoch; the loss is read once per epoch."""
        step, _ = _training_step(workload, mode)
        x, y = _tensors(*make_data(workload, workload.steps), mode)

        def run(units: int) -> None:
            for _ in range(units):
                total: Any = 0.0
                for rows in torch.randperm(len(x)).split(workload.batch):
                    total = total + step(x[rows], y[rows])
                float(total)

        return run

    def call(self, workload: Workload, mode: str) -> Run:
        model = _model(workload, mode).eval()
        x = _tensors(*make_data(workload), mode)[0]

        def predict() -> None:
            with torch.inference_mode():
                for part in x.split(PREDICT_BATCH):
                    model(part)

        return repeated(predict)

    predict = call

    def losses(self, workload: Workload, steps: int) -> list[float]:
        if workload.model not in COMPARABLE:
            raise NotAvailable("arranges these weights in another way")
        x, y = _tensors(*make_data(workload), "eager")
        step, optimizer = _training_step(workload, "eager", 1e-3, set_initial_weights)
        losses = []
        for t in range(1, steps + 1):
            # Keras adds epsilon to the uncorrected root of the second moment, PyTorch afterwards.
            optimizer.param_groups[0]["eps"] = 1e-7 / (1 - 0.999**t) ** 0.5
            losses.append(float(step(x, y)))
        return losses


def _model(workload: Workload, mode: str) -> Any:
    model: Any = build_model(workload.model)
    if mode.endswith("channels_last"):
        model = model.to(memory_format=torch.channels_last)
    return torch.compile(model) if mode.startswith("compile") else model


def _training_step(
    workload: Workload,
    mode: str,
    learning_rate: float = LEARNING_RATE,
    prepare: Callable[[Any], None] = lambda model: None,
) -> tuple[Callable[[Any, Any], torch.Tensor], torch.optim.Optimizer]:
    """The function of a batch that trains and returns the loss, and its optimizer."""
    model = _model(workload, mode)
    prepare(model)
    loss_of: Any = LOSSES[MODELS[workload.model].target]
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate, fused=True)

    def step(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step, optimizer


def _tensors(x: np.ndarray, y: np.ndarray, mode: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The data as PyTorch wants them: images (N, C, H, W)."""

    def tensor(array: np.ndarray) -> torch.Tensor:
        t = torch.from_numpy(array)
        if t.ndim != 4:
            return t
        t = t.permute(0, 3, 1, 2)
        if mode.endswith("channels_last"):
            return t.contiguous(memory_format=torch.channels_last)
        return t.contiguous()

    return tensor(x), tensor(y)


def create() -> Framework:
    torch.set_num_threads(threads())
    return Torch()
