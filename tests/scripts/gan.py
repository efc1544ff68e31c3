"""A GAN with two optimizers, in a loop."""

import keras
import numpy as np
from keras import layers, ops
from side_by_side import alike, gradients_of

rng = np.random.default_rng(0)
real = (rng.normal(size=(32, 2)) * 0.5 + [2, -1]).astype("float32")
discriminator = keras.Sequential(
    [keras.Input((2,)), layers.Dense(8), layers.LeakyReLU(negative_slope=0.2), layers.Dense(1)],
    name="discriminator",
)
generator = keras.Sequential(
    [keras.Input((3,)), layers.Dense(8), layers.LeakyReLU(0.2), layers.Dense(2)], name="generator"
)
alike(discriminator, generator)


class GAN(keras.Model):
    def __init__(self, discriminator, generator, latent_dim):
        super().__init__()
        self.discriminator, self.generator, self.latent_dim = discriminator, generator, latent_dim
        self.d_loss_tracker = keras.metrics.Mean(name="d_loss")
        self.g_loss_tracker = keras.metrics.Mean(name="g_loss")
        self.count = 0
        self.built = True

    def compile(self, d_optimizer, g_optimizer, loss_fn):
        super().compile()
        self.d_optimizer, self.g_optimizer, self.loss_fn = d_optimizer, g_optimizer, loss_fn

    @property
    def metrics(self):
        return [self.d_loss_tracker, self.g_loss_tracker]

    def noise(self, n):
        self.count += 1
        return np.random.default_rng(self.count).normal(size=(n, self.latent_dim)).astype("float32")

    def train_step(self, real_images):
        n = ops.shape(real_images)[0]
        real_images = ops.convert_to_tensor(real_images)
        fake = self.generator(self.noise(n))
        both = ops.concatenate([fake, real_images], axis=0)
        labels = ops.concatenate([ops.ones((n, 1)), ops.zeros((n, 1))], axis=0)
        d_loss = self.loss_fn(labels, self.discriminator(both))
        weights = self.discriminator.trainable_weights
        self.d_optimizer.apply(gradients_of(d_loss, weights), weights)
        g_loss = self.loss_fn(ops.zeros((n, 1)), self.discriminator(self.generator(self.noise(n))))
        weights = self.generator.trainable_weights
        self.g_optimizer.apply(gradients_of(g_loss, weights), weights)
        self.d_loss_tracker.update_state(d_loss)
        self.g_loss_tracker.update_state(g_loss)
        return {"d_loss": self.d_loss_tracker.result(), "g_loss": self.g_loss_tracker.result()}


gan = GAN(discriminator, generator, 3)
gan.compile(
    d_optimizer=keras.optimizers.Adam(learning_rate=0.003),
    g_optimizer=keras.optimizers.Adam(learning_rate=0.003),
    loss_fn=keras.losses.BinaryCrossentropy(from_logits=True),
)
h = gan.fit(real, epochs=3, batch_size=8, shuffle=False, verbose=0)
print(sorted(h.history))
results = dict(h=h.history, g=generator.predict(np.ones((2, 3)), verbose=0))
