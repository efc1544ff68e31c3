"""Gradients on pictures and rays: style and content, a deep dream, a small radiance field."""

import keras
import numpy as np
from keras import layers, ops
from side_by_side import alike, gradients_of, watched

rng = np.random.default_rng(0)
results = {}

inputs = keras.Input((16, 16, 3))
z = layers.Conv2D(6, 3, padding="same", activation="relu", name="block1_conv1")(inputs)
z = layers.AveragePooling2D(2, name="block1_pool")(z)
z = layers.Conv2D(8, 3, padding="same", activation="relu", name="block2_conv1")(z)
backbone = keras.Model(inputs, z, name="backbone")
backbone.trainable = False
alike(backbone)
named = {layer.name: layer.output for layer in backbone.layers if "conv" in layer.name}
feature_extractor = keras.Model(inputs=backbone.inputs, outputs=named)
print(sorted(feature_extractor.output), len(feature_extractor.trainable_weights))


def gram_matrix(x):
    x = ops.transpose(x, (2, 0, 1))
    features = ops.reshape(x, (ops.shape(x)[0], -1))
    return ops.matmul(features, ops.transpose(features))


def style_loss(style, combination):
    size = 16 * 16 * 3
    difference = gram_matrix(style) - gram_matrix(combination)
    return ops.sum(ops.square(difference)) / (4.0 * 9 * size**2)


def total_variation_loss(x):
    a = ops.square(x[:, :-1, :-1, :] - x[:, 1:, :-1, :])
    b = ops.square(x[:, :-1, :-1, :] - x[:, :-1, 1:, :])
    return ops.sum(ops.power(a + b + 1e-6, 1.25))


content, style = (rng.random((1, 16, 16, 3)).astype("float32") for _ in range(2))
combination, losses = content.copy(), []
for _ in range(4):
    image = watched(keras, combination)
    features = feature_extractor(ops.concatenate([content, style, image], axis=0))
    layer_features = features["block2_conv1"]
    loss = 2.5e-2 * ops.sum(ops.square(layer_features[2] - layer_features[0]))
    for name in sorted(features):
        loss = loss + 10.0 * style_loss(features[name][1], features[name][2]) / len(features)
    loss = loss + 1e-3 * total_variation_loss(image)
    grads = ops.convert_to_numpy(gradients_of(loss, [image])[0])
    combination = combination - 0.05 * grads / np.abs(grads).max()
    losses.append(float(ops.convert_to_numpy(loss)))
results["style"] = [losses, combination]

dream, octaves = content, [(12, 12), (16, 16)]
for shape in octaves:
    dream = ops.convert_to_numpy(ops.image.resize(dream, shape))
    model = keras.models.clone_model(backbone, input_tensors=keras.Input((*shape, 3)))
    model.set_weights(backbone.get_weights())
    for _ in range(3):
        image = watched(keras, dream)
        activation = model(image)
        scaling = ops.prod(ops.cast(ops.shape(activation), "float32"))
        loss = ops.sum(ops.square(activation[:, 2:-2, 2:-2, :])) / scaling
        grads = gradients_of(loss, [image])[0]
        grads = grads / ops.maximum(ops.mean(ops.abs(grads)), 1e-6)
        dream = dream + 0.01 * ops.convert_to_numpy(grads)
results["dream"] = dream

RAYS, SAMPLES, FREQUENCIES = 6, 8, 3


def encode_position(x):
    positions = [x]
    for i in range(FREQUENCIES):
        for fn in [ops.sin, ops.cos]:
            positions.append(fn(2.0**i * x))
    return ops.concatenate(positions, axis=-1)


def get_nerf_model(num_layers):
    inputs = keras.Input(shape=(2 * 3 * FREQUENCIES + 3,))
    x = inputs
    for i in range(num_layers):
        x = layers.Dense(units=12, activation="relu")(x)
        if i % 4 == 0 and i > 0:
            x = layers.concatenate([x, inputs], axis=-1)
    return keras.Model(inputs=inputs, outputs=layers.Dense(units=4)(x))


def render_rgb_depth(model, rays_flat, t_vals, training=False):
    predictions = model(rays_flat, training=training)
    predictions = ops.reshape(predictions, (-1, RAYS, SAMPLES, 4))
    rgb = ops.sigmoid(predictions[..., :-1])
    sigma_a = ops.relu(predictions[..., -1])
    delta = t_vals[..., 1:] - t_vals[..., :-1]
    last = ops.broadcast_to(ops.convert_to_tensor([1e10], "float32"), (*delta.shape[:-1], 1))
    alpha = 1.0 - ops.exp(-sigma_a * ops.concatenate([delta, last], axis=-1))
    accumulated = ops.cumprod(1.0 - alpha + 1e-10, axis=-1)
    transmittance = ops.concatenate(
        [ops.ones((*accumulated.shape[:-1], 1)), accumulated[..., :-1]], axis=-1
    )
    weights = alpha * transmittance
    depth_map = ops.sum(weights * t_vals, axis=-1)
    return ops.sum(weights[..., None] * rgb, axis=-2), depth_map


def psnr(a, b):
    return -10.0 * ops.log(ops.mean(ops.square(a - b))) / ops.log(ops.convert_to_tensor(10.0))


class NeRF(keras.Model):
    def __init__(self, nerf_model):
        super().__init__()
        self.nerf_model = nerf_model

    def compile(self, optimizer, loss_fn):
        super().compile()
        self.optimizer = optimizer
        self.loss_fn = loss_fn
        self.loss_tracker = keras.metrics.Mean(name="loss")
        self.psnr_metric = keras.metrics.Mean(name="psnr")

    def call(self, inputs):
        return render_rgb_depth(self.nerf_model, *inputs)[0]

    def measure(self, data, training):
        images, (rays_flat, t_vals) = data
        flat = ops.reshape(rays_flat, (-1, 2 * 3 * FREQUENCIES + 3))
        rgb, _ = render_rgb_depth(self.nerf_model, flat, t_vals, training)
        loss = self.loss_fn(images, rgb)
        self.loss_tracker.update_state(loss)
        self.psnr_metric.update_state(psnr(images, rgb))
        return loss

    def train_step(self, data):
        loss = self.measure(data, True)
        weights = self.nerf_model.trainable_variables
        self.optimizer.apply_gradients(zip(gradients_of(loss, weights), weights))
        return {"loss": self.loss_tracker.result(), "psnr": self.psnr_metric.result()}

    def test_step(self, data):
        self.measure(data, False)
        return {"loss": self.loss_tracker.result(), "psnr": self.psnr_metric.result()}

    @property
    def metrics(self):
        return [self.loss_tracker, self.psnr_metric]


n = 8
t_vals = np.linspace(2.0, 6.0, SAMPLES) + 0.1 * rng.random((n, RAYS, SAMPLES))
directions = rng.normal(size=(n, RAYS, 1, 3))
points = (directions * t_vals[..., None]).astype("float32")
rays = ops.convert_to_numpy(encode_position(points)).reshape(n, RAYS * SAMPLES, -1)
pictures = rng.random((n, RAYS, 3)).astype("float32")
nerf_model = get_nerf_model(num_layers=6)
alike(nerf_model)
nerf = NeRF(nerf_model)
nerf.built = True
nerf.compile(keras.optimizers.Adam(0.01), loss_fn=keras.losses.MeanSquaredError())
data = {"x": pictures, "y": [rays, t_vals.astype("float32")]}
history = nerf.fit(
    **data, epochs=2, batch_size=4, shuffle=False, verbose=0,
    validation_data=(data["x"], data["y"]),
).history  # fmt: skip
t_vals = ops.convert_to_tensor(t_vals[:1], "float32")
_, depth = render_rgb_depth(nerf_model, rays[:1].reshape(RAYS * SAMPLES, -1), t_vals)
results["nerf"] = [history, ops.convert_to_numpy(depth)]
print(nerf_model.count_params(), list(history))
