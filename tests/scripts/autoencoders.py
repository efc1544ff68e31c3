"""Building autoencoders in Keras: dense with sparsity, convolutional, denoising."""

import keras
import numpy as np
from keras import layers, regularizers
from side_by_side import alike

rng = np.random.default_rng(0)
x = rng.random((64, 784)).astype("float32")
input_img = keras.Input(shape=(784,))
encoded = layers.Dense(32, activation="relu", activity_regularizer=regularizers.l1(10e-5))(
    input_img
)
decoded = layers.Dense(784, activation="sigmoid")(encoded)
autoencoder = keras.Model(input_img, decoded)
encoder = keras.Model(input_img, encoded)
encoded_input = keras.Input(shape=(32,))
decoder_layer = autoencoder.layers[-1]
decoder = keras.Model(encoded_input, decoder_layer(encoded_input))
alike(autoencoder)
autoencoder.compile(optimizer="adam", loss="binary_crossentropy")
h = autoencoder.fit(
    x, x, epochs=3, batch_size=16, shuffle=False, validation_data=(x[:20], x[:20]), verbose=0
)
codes = encoder.predict(x[:4], verbose=0)
images = decoder.predict(codes, verbose=0)

input_img = keras.Input(shape=(28, 28, 1))
z = layers.Conv2D(16, (3, 3), activation="relu", padding="same")(input_img)
z = layers.MaxPooling2D((2, 2), padding="same")(z)
z = layers.Conv2D(8, (3, 3), activation="relu", padding="same")(z)
z = layers.MaxPooling2D((2, 2), padding="same")(z)
z = layers.Conv2D(8, (3, 3), activation="relu", padding="same")(z)
encoded = layers.MaxPooling2D((2, 2), padding="same")(z)
z = layers.Conv2D(8, (3, 3), activation="relu", padding="same")(encoded)
z = layers.UpSampling2D((2, 2))(z)
z = layers.Conv2D(8, (3, 3), activation="relu", padding="same")(z)
z = layers.UpSampling2D((2, 2))(z)
z = layers.Conv2D(16, (3, 3), activation="relu")(z)
z = layers.UpSampling2D((2, 2))(z)
decoded = layers.Conv2D(1, (3, 3), activation="sigmoid", padding="same")(z)
conv = keras.Model(input_img, decoded)
alike(conv)
conv.compile(
    optimizer=keras.optimizers.Adam(1e-3),
    loss="binary_crossentropy",
    metrics=["mae", keras.metrics.MeanSquaredError()],
)
img = x.reshape(-1, 28, 28, 1)
noisy = np.clip(img + 0.3 * rng.normal(size=img.shape), 0, 1)
h2 = conv.fit(noisy, img, epochs=2, batch_size=32, shuffle=False, verbose=0)
results = dict(
    h=h.history,
    codes=codes,
    images=images,
    h2=h2.history,
    reg=[float(v) for v in autoencoder.losses] and True,
)
