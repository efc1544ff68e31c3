"""Denoising diffusion: a noise schedule, its embedding, an average of the network, sampling."""

import math

import keras
import numpy as np
from keras import layers, ops
from side_by_side import alike, gradients_of

SIZE = 8
rng = np.random.default_rng(0)
images = rng.random((16, SIZE, SIZE, 1)).astype("float32")


@keras.saving.register_keras_serializable()
def sinusoidal_embedding(x):
    frequencies = ops.exp(ops.linspace(ops.log(1.0), ops.log(100.0), 4))
    angles = ops.cast(2.0 * math.pi * frequencies, "float32")
    return ops.concatenate([ops.sin(angles * x), ops.cos(angles * x)], axis=3)


def residual_block(width):
    def apply(x):
        residual = x if x.shape[3] == width else layers.Conv2D(width, kernel_size=1)(x)
        x = layers.BatchNormalization(center=False, scale=False)(x)
        x = layers.Conv2D(width, kernel_size=3, padding="same", activation="swish")(x)
        return layers.Add()([layers.Conv2D(width, kernel_size=3, padding="same")(x), residual])

    return apply


def get_network():
    noisy = keras.Input((SIZE, SIZE, 1))
    variances = keras.Input((1, 1, 1))
    e = layers.Lambda(sinusoidal_embedding, output_shape=(1, 1, 8))(variances)
    e = layers.UpSampling2D(size=SIZE, interpolation="nearest")(e)
    x = layers.Concatenate()([layers.Conv2D(4, kernel_size=1)(noisy), e])
    skip = x = residual_block(6)(x)
    x = residual_block(8)(layers.AveragePooling2D(pool_size=2)(x))
    x = layers.UpSampling2D(size=2, interpolation="bilinear")(x)
    x = residual_block(6)(layers.Concatenate()([x, skip]))
    x = layers.Conv2D(1, kernel_size=1, kernel_initializer="zeros")(x)
    return keras.Model([noisy, variances], x, name="residual_unet")


class DiffusionModel(keras.Model):
    def __init__(self):
        super().__init__()
        self.normalizer = layers.Normalization()
        self.network = get_network()
        self.ema_network = keras.models.clone_model(self.network)
        self.error = keras.losses.MeanAbsoluteError()
        self.noise_loss_tracker = keras.metrics.Mean(name="n_loss")
        self.image_loss_tracker = keras.metrics.Mean(name="i_loss")

    @property
    def metrics(self):
        return [self.noise_loss_tracker, self.image_loss_tracker]

    def call(self, images):
        times = ops.zeros((ops.shape(images)[0], 1, 1, 1))
        return self.denoise(images, *self.diffusion_schedule(times), training=False)[1]

    def diffusion_schedule(self, times):
        start = ops.cast(ops.arccos(0.95), "float32")
        end = ops.cast(ops.arccos(0.02), "float32")
        angles = start + times * (end - start)
        return ops.sin(angles), ops.cos(angles)

    def denoise(self, noisy, noise_rates, signal_rates, training):
        network = self.network if training else self.ema_network
        pred_noises = network([noisy, noise_rates**2], training=training)
        return pred_noises, (noisy - noise_rates * pred_noises) / signal_rates

    def mixed(self, images):
        n = ops.shape(images)[0]
        noises = ops.sin(ops.reshape(ops.arange(n * SIZE * SIZE, dtype="float32"), images.shape))
        times = ops.reshape(ops.linspace(0.0, 1.0, n), (n, 1, 1, 1))
        noise_rates, signal_rates = self.diffusion_schedule(times)
        return noises, signal_rates * images + noise_rates * noises, noise_rates, signal_rates

    def track(self, images, noises, pred_images, pred_noises):
        noise_loss = self.error(noises, pred_noises)
        self.noise_loss_tracker.update_state(noise_loss)
        self.image_loss_tracker.update_state(self.error(images, pred_images))
        return noise_loss

    def train_step(self, images):
        images = self.normalizer(images, training=True)
        noises, noisy, noise_rates, signal_rates = self.mixed(images)
        pred = self.denoise(noisy, noise_rates, signal_rates, training=True)
        loss = self.track(images, noises, pred[1], pred[0])
        weights = self.network.trainable_weights
        self.optimizer.apply_gradients(zip(gradients_of(loss, weights), weights))
        for weight, ema_weight in zip(self.network.weights, self.ema_network.weights):
            ema_weight.assign(0.9 * ema_weight + (1 - 0.9) * weight)
        return {m.name: m.result() for m in self.metrics}

    def test_step(self, images):
        images = self.normalizer(images, training=False)
        noises, noisy, noise_rates, signal_rates = self.mixed(images)
        pred = self.denoise(noisy, noise_rates, signal_rates, training=False)
        self.track(images, noises, pred[1], pred[0])
        return {m.name: m.result() for m in self.metrics}

    def generate(self, noises, steps):
        x = ops.convert_to_tensor(noises)
        for step in range(steps):
            times = ops.ones((len(noises), 1, 1, 1)) - step / steps
            pred_noises, pred_images = self.denoise(x, *self.diffusion_schedule(times), False)
            noise_rates, signal_rates = self.diffusion_schedule(times - 1 / steps)
            x = signal_rates * pred_images + noise_rates * pred_noises
        spread = ops.sqrt(self.normalizer.variance)
        return ops.clip(self.normalizer.mean + pred_images * spread, 0.0, 1.0)


model = DiffusionModel()
model.normalizer.adapt(images)
alike(model.network, model.ema_network)
optimizer = keras.optimizers.AdamW(learning_rate=1e-2, weight_decay=1e-4)
model(images[:1])
model.compile(optimizer=optimizer)
history = model.fit(
    images, epochs=2, batch_size=8, shuffle=False, verbose=0, validation_data=(images,)
).history
generated = ops.convert_to_numpy(model.generate(images[:2] - 0.5, 3))
model.save_weights("diffusion.weights.h5")
again = DiffusionModel()
again.normalizer.adapt(images[:8])
again(images[:1])
again.load_weights("diffusion.weights.h5")
print(len(model.weights), len(again.trainable_weights), [w.path for w in model.weights][:6])
print(all(np.array_equal(a, b) for a, b in zip(model.get_weights(), again.get_weights())))
results = {
    "history": history, "generated": generated, "scores": model.evaluate(images, verbose=0),
}  # fmt: skip
