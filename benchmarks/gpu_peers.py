"""The GPU's peers, where they are installed: PyTorch (cuBLAS, cuDNN), CuPy (cuBLAS), JAX (XLA).

A peer that is missing, or sees no GPU, is left out with a note. In the simulator JAX computes on
the CPU, so that its code is known to work; its times mean as little as ours do there.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

Note = Callable[[str], None]
Contestants = dict[str, Callable]


def torch_on_gpu(note: Note) -> Any:
    """PyTorch, if it is there and sees the GPU; otherwise None, with a note."""
    try:
        import torch
    except ImportError:
        note("PyTorch is not installed: no peer")
        return None
    if not torch.cuda.is_available():
        note("PyTorch sees no GPU: no peer")
        return None
    return torch


def cupy_on_gpu(note: Note) -> Any:
    """CuPy, likewise."""
    try:
        cupy = import_module("cupy")
        cupy.zeros(1)
    except ImportError:
        note("CuPy is not installed: no peer")
        return None
    except Exception as error:  # its own classes, of the driver's errors
        note(f"CuPy cannot be used: {error}"[:200])
        return None
    return cupy


def jax_on_gpu(note: Note, tiny: bool) -> Any:
    """JAX, likewise; in the simulator wherever it computes."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the GPU is shared
    try:
        jax = import_module("jax")
        where = jax.default_backend()
    except ImportError:
        note("JAX is not installed: no peer")
        return None
    except Exception as error:
        note(f"JAX cannot be used: {error}"[:200])
        return None
    if where != "gpu" and not tiny:
        note("JAX sees no GPU: no peer")
        return None
    return jax


class Jax:
    """Functions compiled by JAX; `wait` waits for the last result of each."""

    def __init__(self, jax: Any):
        self._jax = jax
        self._last: dict[int, Any] = {}

    def calls(self, function: Callable, *arrays: np.ndarray, **options: Any) -> Callable[[], None]:
        """A call of the compiled function with these arrays, which lie on the GPU."""
        run = self._jax.jit(function, **options)
        there = [self._jax.numpy.asarray(a) for a in arrays]
        place = len(self._last)
        self._last[place] = None

        def call() -> None:
            self._last[place] = run(*there)

        return call

    def wait(self) -> None:
        for result in self._last.values():
            if result is not None:
                self._jax.block_until_ready(result)


class Peers:
    """All that are there.

    Attributes:
        torch, cupy: the modules, or None.
        jax: the module, or None; `compiled` has its functions.
    """

    def __init__(self, note: Note, tiny: bool):
        self.torch, self.cupy = torch_on_gpu(note), cupy_on_gpu(note)
        self.jax = jax_on_gpu(note, tiny)
        self.compiled = Jax(self.jax)

    def wait(self) -> None:
        """Waits for all that ours and the peers have started."""
        from minitorch_ciml.kernels.cuda.runtime import runtime

        runtime().synchronize()
        if self.torch is not None:
            self.torch.cuda.synchronize()
        if self.cupy is not None:
            self.cupy.cuda.get_current_stream().synchronize()
        if self.jax is not None:
            self.compiled.wait()

    # --- matrix products ------------------------------------------------------------------------

    def products(self, precision: str, a: np.ndarray, b: np.ndarray) -> Contestants:
        """a b in this precision: "float32", "TF32", "bfloat16"; 3xTF32 has float32 for peers."""
        found: Contestants = {}
        if self.torch is not None:
            torch = self.torch
            dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
            factors = [torch.tensor(x, device="cuda").to(dtype) for x in (a, b)]

            def multiply() -> Any:
                torch.backends.cuda.matmul.allow_tf32 = precision == "TF32"
                return torch.matmul(*factors)

            found["cuBLAS (PyTorch)"] = multiply
        if self.cupy is not None and precision in ("float32", "3xTF32"):
            x, y = self.cupy.asarray(a), self.cupy.asarray(b)
            found["cuBLAS (CuPy)"] = lambda: x @ y
        if self.jax is not None:
            jnp = self.jax.numpy
            how = "default" if precision == "TF32" else "highest"
            dtype = jnp.bfloat16 if precision == "bfloat16" else jnp.float32
            found["JAX"] = self.compiled.calls(
                lambda x, y: jnp.matmul(x, y, precision=how),
                *(np.asarray(jnp.asarray(x, dtype)) for x in (a, b)),
            )
        return found

    # --- convolutions ---------------------------------------------------------------------------

    def convolutions(self, x: np.ndarray, w: np.ndarray, g: np.ndarray, p: int) -> dict:
        """The peers' convolution and its gradients in float32, by our ops' names."""
        found: dict[str, Contestants] = {
            name: {} for name in ("conv", "conv_input_grad", "conv_kernel_grad")
        }
        if self.torch is not None:
            for name, run in _cudnn(self.torch, x, w, g, p).items():
                found[name]["cuDNN"] = run
        if self.jax is not None:
            lax, vjp = self.jax.lax, self.jax.vjp

            def conv(x: Any, w: Any) -> Any:
                return lax.conv_general_dilated(
                    x, w, (1, 1), [(p, p), (p, p)], dimension_numbers=("NHWC", "HWIO", "NHWC"),
                    precision="highest",
                )  # fmt: skip

            calls = self.compiled.calls
            found["conv"]["JAX"] = calls(conv, x, w)
            for i, name in enumerate(("conv_input_grad", "conv_kernel_grad")):
                found[name]["JAX"] = calls(lambda x, w, g, i=i: vjp(conv, x, w)[1](g)[i], x, w, g)
        return found

    # --- what is bound by memory ------------------------------------------------------------------

    def passes(self, a: np.ndarray, b: np.ndarray, w: np.ndarray) -> dict[str, Contestants]:
        """What the peers call the passes over memory that `gpu_parts.bandwidth` measures."""
        found: dict[str, Contestants] = {}

        def add(peer: str, functions: dict[str, Callable], call: Callable) -> None:
            for what, function in functions.items():
                found.setdefault(what, {})[peer] = call(function)

        if self.torch is not None:
            f = self.torch.nn.functional
            ta, tb, tw = (self.torch.tensor(x, device="cuda") for x in (a, b, w))
            add("PyTorch", {
                "a + b": lambda: ta + tb, "exp": lambda: ta.exp(), "relu": lambda: ta.relu(),
                "a + row": lambda: ta + tw, "sum of all": lambda: ta.sum(),
                "sum over rows": lambda: ta.sum(0), "sum over columns": lambda: ta.sum(1),
                "softmax": lambda: ta.softmax(-1),
                "layer normalisation": lambda: f.layer_norm(ta, (ta.shape[1],), tw, tw),
                "transpose": lambda: ta.T.contiguous(),
            }, lambda function: function)  # fmt: skip
        if self.cupy is not None:
            cupy = self.cupy
            ca, cb, cw = map(cupy.asarray, (a, b, w))
            add("CuPy", {
                "a + b": lambda: ca + cb, "exp": lambda: cupy.exp(ca), "a + row": lambda: ca + cw,
                "sum of all": lambda: ca.sum(), "sum over rows": lambda: ca.sum(0),
                "sum over columns": lambda: ca.sum(1),
                "transpose": lambda: cupy.ascontiguousarray(ca.T),
            }, lambda function: function)  # fmt: skip
        if self.jax is not None:
            nn, jnp = self.jax.nn, self.jax.numpy
            add("JAX", {
                "a + b": lambda a, b, w: a + b, "exp": lambda a, b, w: jnp.exp(a),
                "relu": lambda a, b, w: nn.relu(a), "a + row": lambda a, b, w: a + w,
                "sum of all": lambda a, b, w: a.sum(), "sum over rows": lambda a, b, w: a.sum(0),
                "sum over columns": lambda a, b, w: a.sum(1),
                "softmax": lambda a, b, w: nn.softmax(a),
                "layer normalisation": lambda a, b, w: nn.standardize(a, epsilon=1e-5) * w + w,
                "transpose": lambda a, b, w: a.T,
            }, lambda function: self.compiled.calls(function, a, b, w))  # fmt: skip
        return found

    # --- training steps ---------------------------------------------------------------------------

    def jax_step(self, name: str, batch: int, x: np.ndarray, y: np.ndarray) -> Contestants:
        """JAX's training step of a model: one compiled function, the batch sent each time."""
        if self.jax is None:
            return {}
        from benchmarks import jax_peer
        from benchmarks.workloads import Workload

        load = Workload("", "", "step", name, batch)
        train, state = jax_peer._training_step(load), jax_peer._initial_state(load)
        last = self.compiled._last
        place = len(last)

        def step() -> None:
            nonlocal state
            state, last[place] = train(state, x, y)

        return {"JAX": step}


def _cudnn(
    torch: Any, x: np.ndarray, w: np.ndarray, g: np.ndarray, padding: int
) -> dict[str, Callable]:
    last = torch.channels_last
    tx, tg = (
        torch.tensor(t, device="cuda").permute(0, 3, 1, 2).contiguous(memory_format=last)
        for t in (x, g)
    )
    tw = torch.tensor(w, device="cuda").permute(3, 2, 0, 1).contiguous(memory_format=last)
    p = [padding, padding]
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True

    def backward(mask: list[bool]) -> Any:
        return torch.ops.aten.convolution_backward(
            tg, tx, tw, None, [1, 1], p, [1, 1], False, [0, 0], 1, mask
        )

    return {
        "conv": lambda: torch.nn.functional.conv2d(tx, tw, padding=padding),
        "conv_input_grad": lambda: backward([True, False, False]),
        "conv_kernel_grad": lambda: backward([False, True, False]),
    }
