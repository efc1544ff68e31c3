"""Layers for sound against Keras 3: outputs, gradients, configurations, files."""

import numpy as np
import pytest
from keras_peer import drop_ids, keras_peer, seeded, to_numpy, torch

from minitorch_ciml import Tensor, grad, keras
from minitorch_ciml.keras.serialization import deserialize_keras_object, serialize_keras_object

RNG = np.random.default_rng(0)
T = np.arange(900) / 900
SOUND = np.stack([np.sin(2 * np.pi * 60 * T) + 0.1 * RNG.normal(size=900),
                  np.sin(2 * np.pi * 200 * T**2)], axis=-1)[None].astype("float32")  # fmt: skip
WINDOW = RNG.random(32).astype("float32")


def pair(name, **kwargs):
    return [getattr(k.layers, name)(name="layer", **kwargs) for k in (keras, keras_peer)]


def same_config(ours, theirs):
    config = drop_ids(serialize_keras_object(ours))
    peer = drop_ids(keras_peer.saving.serialize_keras_object(theirs))
    assert config["config"] == peer["config"] and config["class_name"] == peer["class_name"]
    again = deserialize_keras_object(config)
    assert drop_ids(serialize_keras_object(again)) == config


@pytest.mark.parametrize("mode", ["log", "magnitude", "psd", "real", "imag", "angle", "stft"])
@pytest.mark.parametrize(
    "kwargs",
    [{}, {"frame_step": 5, "padding": "same", "expand_dims": True, "scaling": "spectrum"},
     {"data_format": "channels_first", "fft_length": 64, "window": "hamming", "periodic": True},
     {"data_format": "channels_first", "expand_dims": True, "window": None, "scaling": None}],
)  # fmt: skip
def test_short_time_fourier_transforms_equal_keras(mode, kwargs):
    pytest.importorskip("scipy", reason="Keras takes its windows from SciPy")
    x = SOUND if kwargs.get("data_format") is None else np.moveaxis(SOUND, -1, 1).copy()
    ours, theirs = pair("STFTSpectrogram", mode=mode, frame_length=32, **kwargs)
    y, peer = ours(x), to_numpy(theirs(x))
    for mine, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-5)
    ours.set_weights(theirs.get_weights())
    y = ours(x).numpy()
    if mode == "angle":  # pi is -pi, and of what is nothing any angle will do
        weights = abs(to_numpy(pair("STFTSpectrogram", mode="magnitude", frame_length=32,
                                    **kwargs)[1](x)))  # fmt: skip
        y, peer = (np.exp(1j * a) * (weights > 1e-2) for a in (y, peer))
    np.testing.assert_allclose(y, peer, rtol=1e-3, atol=1e-4)
    assert ours.compute_output_shape((1, *x.shape[1:])) == theirs.compute_output_shape(x.shape)
    assert tuple(y.shape) == ours.compute_output_shape(x.shape)
    same_config(ours, theirs)


def test_gradients_of_the_kernels_equal_keras():
    pytest.importorskip("scipy", reason="Keras takes its windows from SciPy")
    ours, theirs = pair("STFTSpectrogram", mode="magnitude", frame_length=32)
    tensor, x = torch.tensor(SOUND, requires_grad=True), Tensor(SOUND, requires_grad=True)
    peer = theirs(tensor)
    ours(SOUND)
    ours.set_weights(theirs.get_weights())
    seed = seeded(tuple(peer.shape))
    (peer * torch.tensor(seed)).sum().backward()
    found = grad((ours(x) * seed).sum(), [x, *ours.weights])
    expected = [tensor.grad, *[w.value.grad for w in theirs.weights]]
    for g, e in zip(found, expected, strict=True):
        np.testing.assert_allclose(g.numpy(), e.numpy(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "kwargs",
    [{}, {"power_to_db": False, "mag_exp": 1.0, "min_freq": 30.0, "max_freq": 300.0},
     {"sequence_length": 100, "window": "hamming", "ref_power": 0.1, "top_db": 30.0}],
)  # fmt: skip
def test_mel_spectrograms_equal_keras(kwargs):
    pytest.importorskip("scipy", reason="Keras takes its windows from SciPy")
    how = {"fft_length": 128, "sequence_stride": 40, "sampling_rate": 900, "num_mel_bins": 12}
    ours, theirs = pair("MelSpectrogram", **how, **kwargs)
    for x in (SOUND[..., 0], SOUND[0, :, 0]):
        y, peer = ours(x).numpy(), to_numpy(theirs(x))
        assert y.shape == peer.shape == tuple(ours.compute_output_shape(x.shape))
        np.testing.assert_allclose(y, peer, rtol=1e-3, atol=1e-2 if "ref_power" in kwargs else 1e-3)
    same_config(ours, theirs)


def test_files_load_both_ways(tmp_path):
    pytest.importorskip("scipy", reason="Keras takes its windows from SciPy")
    models = []
    for k in (keras, keras_peer):
        inputs = k.Input((900, 2))
        z = k.layers.STFTSpectrogram(frame_length=64, mode="magnitude")(inputs)
        models.append(k.Model(inputs, k.layers.Dense(3)(z)))
    models[0].set_weights(models[1].get_weights())
    expected = models[1].predict(SOUND, verbose=0)
    for k, model in zip((keras_peer, keras), models):
        model.save(tmp_path / f"{k.__name__}.keras")
        read = k.models.load_model(tmp_path / f"{k.__name__}.keras")
        np.testing.assert_allclose(read.predict(SOUND, verbose=0), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: keras.layers.STFTSpectrogram("loud"), "mode='loud'"),
        (lambda: keras.layers.STFTSpectrogram(frame_step=300), "frame_step must be from 1 to 256"),
        (lambda: keras.layers.STFTSpectrogram(fft_length=8), "fft_length must be at least 256"),
        (lambda: keras.layers.STFTSpectrogram(window="kaiser"), "scipy.signal.get_window"),
        (lambda: keras.layers.MelSpectrogram(8, sequence_length=9), "must be at least sequence"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
