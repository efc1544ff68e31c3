"""Segmentation: a U-Net with skips, a Dice loss, IoU, weights for pixels, predictions as masks."""

import keras
import numpy as np
from keras import layers, ops
from side_by_side import alike

rng = np.random.default_rng(0)


def discs(n, size=24):
    """Noisy images with a disc and a square in each, and the class of every pixel."""
    rows, columns = np.mgrid[:size, :size]
    images, masks = np.zeros((n, size, size, 1)), np.zeros((n, size, size), "int32")
    for i in range(n):
        r, c, s = rng.integers(6, size - 6, 3)
        masks[i][(rows - r) ** 2 + (columns - c) ** 2 < 16] = 1
        masks[i][s - 3 : s + 3, 2:7] = 2
        images[i, ..., 0] = masks[i] * 0.4 + 0.1 * rng.normal(size=(size, size))
    return images.astype("float32"), masks.reshape(n, -1)


def block(x, filters, name):
    for i in (1, 2):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"{name}_conv{i}")(x)
        x = layers.BatchNormalization(name=f"{name}_bn{i}")(x)
        x = layers.Activation("relu", name=f"{name}_relu{i}")(x)
    return x


def unet(size, classes):
    inputs = keras.Input((size, size, 1), name="image")
    skips, x = [], inputs
    for depth, filters in enumerate((8, 16)):
        x = block(x, filters, f"down{depth}")
        skips.append(x)
        x = layers.MaxPooling2D(name=f"pool{depth}")(x)
    x = layers.SpatialDropout2D(0.0)(block(x, 32, "bottom"))
    for depth, filters in ((1, 16), (0, 8)):
        x = layers.Conv2DTranspose(filters, 2, strides=2, name=f"up{depth}")(x)
        x = layers.Concatenate(name=f"skip{depth}")([x, skips[depth]])
        x = block(x, filters, f"decode{depth}")
    x = layers.Conv2D(classes, 1, name="scores")(x)
    outputs = layers.Softmax(name="class")(layers.Reshape((size * size, classes))(x))
    return keras.Model(inputs, outputs, name="unet")


def dice_loss(y_true, y_pred, smooth=1.0):
    codes = ops.one_hot(ops.cast(y_true, "int32"), 3)
    overlap = ops.sum(codes * y_pred, axis=1)
    both = ops.sum(codes, axis=1) + ops.sum(y_pred, axis=1)
    return 1 - ops.mean((2 * overlap + smooth) / (both + smooth), axis=-1)


def combined(y_true, y_pred):
    entropy = keras.losses.sparse_categorical_crossentropy(y_true, y_pred)
    return ops.mean(entropy, axis=1) + dice_loss(y_true, y_pred)


class MeanIoU(keras.metrics.MeanIoU):
    """Takes probabilities."""

    def update_state(self, y_true, y_pred, sample_weight=None):
        return super().update_state(y_true, ops.argmax(y_pred, axis=-1), sample_weight)


x, y = discs(20)
model = unet(24, 3)
alike(model)
print(model.count_params(), model.output_shape, len(model.layers), model.layers[-1].name)
model.compile(
    keras.optimizers.SGD(keras.optimizers.schedules.PolynomialDecay(0.1, 12, 0.01), momentum=0.8),
    loss=combined,
    metrics=["accuracy", MeanIoU(num_classes=3, name="iou")],
)
history = model.fit(
    x[:16], y[:16], validation_data=(x[16:], y[16:]), epochs=3, batch_size=4, shuffle=False,
    verbose=0,
).history  # fmt: skip
masks = model.predict(x[16:], verbose=0).argmax(axis=-1).reshape(-1, 24, 24)
print(masks.shape, sorted(history), masks.dtype)

# The same with a built-in loss and a weight for each pixel: the background counts less.
weighted = unet(24, 3)
alike(weighted)
weights = np.where(y == 0, 0.2, 1.0).astype("float32")
weighted.compile("sgd", "sparse_categorical_crossentropy", weighted_metrics=["accuracy"])
pixels = weighted.fit(
    x, y, sample_weight=weights, epochs=2, batch_size=8, shuffle=False, verbose=0
).history
dice = keras.losses.Dice(axis=(1, 2), reduction="none")
codes = np.eye(3, dtype="float32")[y[:4]]
one = dice(codes, weighted.predict(x[:4], verbose=0))
results = {"history": history, "pixels": pixels, "dice": ops.convert_to_numpy(one)}
