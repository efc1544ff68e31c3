"""Keras 3 beside minitorch_ciml: the same layer, the same weights, the same data.

Keras runs on PyTorch; where it is not installed, the tests that import this are skipped.
"""

import os

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")
torch = pytest.importorskip("torch", reason="the peer PyTorch is not installed")
keras_peer = pytest.importorskip("keras", reason="the peer Keras is not installed")


def to_numpy(x):
    return keras_peer.ops.convert_to_numpy(x)


def drop_ids(config):
    """A configuration without what only Keras needs: ids of shared objects, unused new features."""
    if isinstance(config, dict):
        ignored = {"shared_object_id", "quantization_config"}
        return {k: drop_ids(v) for k, v in config.items() if k not in ignored}
    if isinstance(config, (list, tuple)):
        return [drop_ids(x) for x in config]
    return config


def output_and_gradients(layer, x, weights, seed, training=False):
    """Keras': the output, and the gradients of sum(output * seed) for the inputs and weights."""
    tensors = [torch.tensor(a, requires_grad=a.dtype.kind == "f") for a in x]
    y = layer(tensors if len(tensors) > 1 else tensors[0], training=training)
    (y * torch.tensor(seed(tuple(y.shape)))).sum().backward()
    inputs = [None if t.grad is None else t.grad.numpy() for t in tensors]
    gradients = [w.value.grad.detach().cpu().numpy() for w in layer.trainable_weights]
    return y.detach().cpu().numpy(), inputs, gradients


def seeded(shape):
    return np.random.default_rng(7).normal(size=shape).astype("float32")
