"""The models as a Keras script writes them; the same lines for Keras 3 and for this package."""

from __future__ import annotations

from typing import Any

from benchmarks.framework import NotAvailable
from benchmarks.workloads import CLASSES, MODELS

LOSSES = {
    "class": "sparse_categorical_crossentropy",
    "input": "mse",
    "number": "mse",
    "xor": "binary_crossentropy",
}


def build_model(keras: Any, name: str, learning_rate: float) -> Any:
    """The compiled model of that name."""
    inputs = keras.Input(MODELS[name].input)
    try:
        outputs = _BUILDERS[name](keras, keras.layers, inputs)
    except AttributeError as error:  # a layer that does not exist yet
        raise NotAvailable(str(error)) from error
    model = keras.Model(inputs, outputs)
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate=learning_rate),
        loss=LOSSES[MODELS[name].target],
    )
    return model


def _classes(layers: Any, x: Any) -> Any:
    return layers.Dense(CLASSES, activation="softmax")(x)


def _cnn(keras: Any, layers: Any, x: Any) -> Any:
    x = layers.Conv2D(16, 3, activation="relu")(x)
    x = layers.Conv2D(16, 3, activation="relu")(x)
    x = layers.MaxPooling2D(2)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(128, activation="relu")(x)
    return _classes(layers, x)


def _cifar(keras: Any, layers: Any, x: Any) -> Any:
    x = layers.Conv2D(32, 3, activation="relu")(x)
    x = layers.MaxPooling2D(2)(x)
    x = layers.Conv2D(64, 3, activation="relu")(x)
    x = layers.MaxPooling2D(2)(x)
    x = layers.Conv2D(64, 3, activation="relu")(x)
    x = layers.Flatten()(x)
    x = layers.Dense(64, activation="relu")(x)
    return _classes(layers, x)


def _mlp(keras: Any, layers: Any, x: Any) -> Any:
    x = layers.Dense(512, activation="relu")(x)
    x = layers.Dense(512, activation="relu")(x)
    return _classes(layers, x)


def _residual(keras: Any, layers: Any, x: Any) -> Any:
    for _ in range(3):
        y = layers.Conv2D(16, 1, activation="relu")(x)
        y = layers.Conv2D(16, 3, padding="same", activation="relu")(y)
        y = layers.Conv2D(64, 1)(y)
        x = layers.Activation("relu")(layers.Add()([x, y]))
    return _classes(layers, layers.GlobalAveragePooling2D()(x))


def _autoencoder(keras: Any, layers: Any, x: Any) -> Any:
    x = layers.Conv2D(64, 3, padding="same", activation="relu")(x)
    x = layers.MaxPooling2D(2)(x)
    x = layers.Conv2D(128, 3, padding="same", activation="relu")(x)
    x = layers.MaxPooling2D(2)(x)
    x = layers.Conv2D(16, 3, padding="same", activation="relu")(x)
    x = layers.Conv2D(128, 3, padding="same", activation="relu")(x)
    x = layers.UpSampling2D(2)(x)
    x = layers.Conv2D(64, 3, padding="same", activation="relu")(x)
    x = layers.UpSampling2D(2)(x)
    return layers.Conv2D(1, 3, padding="same", activation="sigmoid")(x)


def _transformer(keras: Any, layers: Any, x: Any) -> Any:
    attended = layers.MultiHeadAttention(num_heads=4, key_dim=32)(x, x)
    x = layers.LayerNormalization()(layers.Add()([x, attended]))
    y = layers.Dense(512, activation="relu")(x)
    y = layers.Dense(128)(y)
    x = layers.LayerNormalization()(layers.Add()([x, y]))
    return _classes(layers, layers.GlobalAveragePooling1D()(x))


def _lstm(keras: Any, layers: Any, x: Any) -> Any:
    return _classes(layers, layers.LSTM(128)(x))


def _xor(keras: Any, layers: Any, x: Any) -> Any:
    x = layers.Dense(8, activation="tanh")(x)
    return layers.Dense(1, activation="sigmoid")(x)


def _attention(keras: Any, layers: Any, x: Any) -> Any:
    q, k, v = (layers.Dense(16)(x) for _ in range(3))
    scores = keras.ops.matmul(q, keras.ops.transpose(k, (0, 2, 1))) * 0.25  # 1 / sqrt(16)
    y = keras.ops.matmul(keras.ops.softmax(scores, axis=-1), v)
    return layers.Dense(1)(layers.GlobalAveragePooling1D()(y))


def _resnet50(keras: Any, layers: Any, x: Any) -> Any:
    return keras.applications.ResNet50(weights=None, input_tensor=x, classes=CLASSES).output


def _mobilenet_v2(keras: Any, layers: Any, x: Any) -> Any:
    return keras.applications.MobileNetV2(weights=None, input_tensor=x, classes=CLASSES).output


def _transfer(keras: Any, layers: Any, x: Any) -> Any:
    how = {"weights": None, "include_top": False, "pooling": "avg"}
    base = keras.applications.MobileNetV2(input_shape=x.shape[1:], **how)
    base.trainable = False
    return _classes(layers, base(x, training=False))


_BUILDERS = {
    "cnn": _cnn, "cifar": _cifar, "mlp": _mlp, "residual": _residual,
    "autoencoder": _autoencoder, "transformer": _transformer, "lstm": _lstm, "xor": _xor,
    "attention": _attention, "resnet50": _resnet50, "mobilenet_v2": _mobilenet_v2,
    "transfer": _transfer,
}  # fmt: skip
