"""A variational autoencoder: a layer that samples, a loss in `compute_loss`, one by `add_loss`."""

import keras
import numpy as np
from keras import layers, ops
from side_by_side import alike


class Sampling(layers.Layer):
    def call(self, inputs):
        z_mean, z_log_var = inputs
        epsilon = 0.3 * ops.sin(z_mean)  # noise that is the same in every library
        return z_mean + ops.exp(0.5 * z_log_var) * epsilon


latent_dim = 2
encoder_inputs = keras.Input(shape=(28, 28, 1))
x = layers.Conv2D(32, 3, activation="relu", strides=2, padding="same")(encoder_inputs)
x = layers.Conv2D(64, 3, activation="relu", strides=2, padding="same")(x)
x = layers.Flatten()(x)
x = layers.Dense(16, activation="relu")(x)
z_mean = layers.Dense(latent_dim, name="z_mean")(x)
z_log_var = layers.Dense(latent_dim, name="z_log_var")(x)
z = Sampling()([z_mean, z_log_var])
encoder = keras.Model(encoder_inputs, [z_mean, z_log_var, z], name="encoder")
latent_inputs = keras.Input(shape=(latent_dim,))
x = layers.Dense(7 * 7 * 64, activation="relu")(latent_inputs)
x = layers.Reshape((7, 7, 64))(x)
x = layers.Conv2DTranspose(64, 3, activation="relu", strides=2, padding="same")(x)
x = layers.Conv2DTranspose(32, 3, activation="relu", strides=2, padding="same")(x)
decoder_outputs = layers.Conv2DTranspose(1, 3, activation="sigmoid", padding="same")(x)
decoder = keras.Model(latent_inputs, decoder_outputs, name="decoder")


class VAE(keras.Model):
    def __init__(self, encoder, decoder, **kwargs):
        super().__init__(**kwargs)
        self.encoder = encoder
        self.decoder = decoder
        self.kl = keras.metrics.Mean(name="kl_loss")

    def call(self, inputs):
        z_mean, z_log_var, z = self.encoder(inputs)
        kl_loss = -0.5 * (1 + z_log_var - ops.square(z_mean) - ops.exp(z_log_var))
        kl_loss = ops.mean(ops.sum(kl_loss, axis=1))
        self.add_loss(kl_loss)
        self.kl.update_state(kl_loss)
        return self.decoder(z)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        reconstruction = ops.mean(ops.sum(keras.losses.binary_crossentropy(x, y_pred), axis=(1, 2)))
        return reconstruction + sum(self.losses)


digits = np.random.default_rng(0).random((32, 28, 28, 1)).astype("float32")
vae = VAE(encoder, decoder)
alike(encoder, decoder)
vae.compile(optimizer=keras.optimizers.Adam())
h = vae.fit(digits, epochs=2, batch_size=16, shuffle=False, verbose=0)
print(sorted(h.history))
z, _, _ = vae.encoder.predict(digits[:4], verbose=0)
results = dict(h=h.history, z=z, drawn=vae.decoder.predict(np.array([[0.0, 1.0]]), verbose=0))
