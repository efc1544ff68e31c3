"""The models in JAX: weights in Keras' layout, and a function of weights and inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks.workloads import CLASSES, MODELS

Weights = Sequence[Any]
Shapes = tuple[tuple[int, ...], ...]


def loss_of(model: str, outputs: Any, y: Any) -> Any:
    """The mean loss of a batch; `outputs` are logits where there are classes."""
    target = MODELS[model].target
    if target == "class":
        return -jnp.take_along_axis(jax.nn.log_softmax(outputs), y[:, None], 1).mean()
    if target == "xor":
        return (jax.nn.softplus(outputs) - y * outputs).mean()
    return ((outputs - y) ** 2).mean()


def _conv(x: Any, w: Any, b: Any, padding: str = "VALID") -> Any:
    dimensions = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, w, (1, 1), padding, dimension_numbers=dimensions) + b


def _conv_relu(x: Any, w: Any, b: Any, padding: str = "VALID") -> Any:
    return jax.nn.relu(_conv(x, w, b, padding))


def _pool(x: Any) -> Any:
    window = (1, 2, 2, 1)
    return lax.reduce_window(x, -jnp.inf, lax.max, window, window, "VALID")


def _up(x: Any) -> Any:
    return x.repeat(2, 1).repeat(2, 2)


def _dense_stack(w: Weights, x: Any) -> Any:
    """Dense layers with ReLU in between."""
    for i in range(0, len(w) - 2, 2):
        x = jax.nn.relu(x @ w[i] + w[i + 1])
    return x @ w[-2] + w[-1]


def _cnn(w: Weights, x: Any) -> Any:
    x = _pool(_conv_relu(_conv_relu(x, w[0], w[1]), w[2], w[3]))
    return _dense_stack(w[4:], x.reshape(len(x), -1))


def _cifar(w: Weights, x: Any) -> Any:
    x = _pool(_conv_relu(x, w[0], w[1]))
    x = _pool(_conv_relu(x, w[2], w[3]))
    x = _conv_relu(x, w[4], w[5])
    return _dense_stack(w[6:], x.reshape(len(x), -1))


def _residual(w: Weights, x: Any) -> Any:
    for i in range(0, 18, 6):
        y = _conv_relu(x, w[i], w[i + 1])
        y = _conv_relu(y, w[i + 2], w[i + 3], "SAME")
        x = jax.nn.relu(x + _conv(y, w[i + 4], w[i + 5]))
    return x.mean((1, 2)) @ w[18] + w[19]


def _autoencoder(w: Weights, x: Any) -> Any:
    x = _pool(_conv_relu(x, w[0], w[1], "SAME"))
    x = _pool(_conv_relu(x, w[2], w[3], "SAME"))
    x = _conv_relu(x, w[4], w[5], "SAME")
    x = _up(_conv_relu(x, w[6], w[7], "SAME"))
    x = _up(_conv_relu(x, w[8], w[9], "SAME"))
    return jax.nn.sigmoid(_conv(x, w[10], w[11], "SAME"))


def _layer_norm(x: Any, w: Any, b: Any) -> Any:
    """The weights start at 0 here, so the scale is 1 + w."""
    return jax.nn.standardize(x, epsilon=1e-5) * (1 + w) + b


def _transformer(w: Weights, x: Any) -> Any:
    qkv = (x @ w[0] + w[1]).reshape(*x.shape[:2], 3, 4, 32)
    attended = jax.nn.dot_product_attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2])
    x = _layer_norm(x + attended.reshape(x.shape) @ w[2] + w[3], w[4], w[5])
    x = _layer_norm(x + _dense_stack(w[6:10], x), w[10], w[11])
    return x.mean(1) @ w[12] + w[13]


def _lstm(w: Weights, x: Any) -> Any:
    def advance(state: Any, given: Any) -> Any:
        h, c = state
        i, f, g, o = jnp.split(given + h @ w[1], 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

    zeros = jnp.zeros((len(x), 128))
    (h, _), _ = lax.scan(advance, (zeros, zeros), (x @ w[0] + w[2]).swapaxes(0, 1))
    return h @ w[3] + w[4]


def _xor(w: Weights, x: Any) -> Any:
    return jnp.tanh(x @ w[0] + w[1]) @ w[2] + w[3]


def _attention(w: Weights, x: Any) -> Any:
    q, k, v = (x @ w[i] + w[i + 1] for i in (0, 2, 4))
    weights = jax.nn.softmax(q @ k.swapaxes(1, 2) * 0.25)
    return (weights @ v).mean(1) @ w[6] + w[7]


def _with_biases(*shapes: tuple[int, ...]) -> Shapes:
    return tuple(s for shape in shapes for s in (shape, shape[-1:]))


_BLOCK = ((1, 1, 64, 16), (3, 3, 16, 16), (1, 1, 16, 64))

APPLY: dict[str, tuple[Shapes, Callable[[Weights, Any], Any]]] = {
    "cnn": (_with_biases(
        (3, 3, 1, 16), (3, 3, 16, 16), (2304, 128), (128, CLASSES)), _cnn),
    "cifar": (_with_biases(
        (3, 3, 3, 32), (3, 3, 32, 64), (3, 3, 64, 64), (1024, 64), (64, CLASSES)), _cifar),
    "mlp": (_with_biases((784, 512), (512, 512), (512, CLASSES)), _dense_stack),
    "residual": (_with_biases(*_BLOCK * 3, (64, CLASSES)), _residual),
    "autoencoder": (_with_biases(
        (3, 3, 1, 64), (3, 3, 64, 128), (3, 3, 128, 16), (3, 3, 16, 128), (3, 3, 128, 64),
        (3, 3, 64, 1)), _autoencoder),
    "transformer": (
        (*_with_biases((128, 384), (128, 128)), (128,), (128,),
         *_with_biases((128, 512), (512, 128)), (128,), (128,), (128, CLASSES), (CLASSES,)),
        _transformer),
    "lstm": (((28, 512), (128, 512), (512,), (128, CLASSES), (CLASSES,)), _lstm),
    "xor": (_with_biases((2, 8), (8, 1)), _xor),
    "attention": (_with_biases((16, 16), (16, 16), (16, 16), (16, 1)), _attention),
}  # fmt: skip
