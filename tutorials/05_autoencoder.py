# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
#   kernelspec:
#     name: python3
#     display_name: Python 3
#     language: python
# ---

# %% [markdown]
# # 5. Autoencoders
#
# A network that must return its own input sounds useless, until you make it narrow in the middle.
# What passes through two numbers must be the two numbers that say most about a digit. Nobody gives
# it labels: the data are their own answer.
#
# We compress digits to two numbers and draw that plane, make new digits from it, and then train a
# second network that takes noise out of images.

# %%
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from minitorch_ciml import datasets, keras, viz
from minitorch_ciml.keras import layers

pictures = Path(os.environ.get("TUTORIAL_PICTURES", "."))
samples = int(os.environ.get("TUTORIAL_SAMPLES", 60_000))
keras.utils.set_random_seed(1)

# %% [markdown]
# ## Data
#
# As before, but the labels are put aside. They will only be written into a picture.

# %%
(x_train, _), (x_test, y_test) = datasets.digits(samples, 2000)
x_train = x_train[..., None].astype("float32") / 255
x_test = x_test[..., None].astype("float32") / 255
epochs = max(3, 60_000 // len(x_train))  # few images need more rounds for the same number of steps

# %% [markdown]
# ## Narrow: the encoder
#
# Two convolutions with `strides=2` look at every other place only, so each halves the height and
# the width: 28, 14, 7. A dense layer turns what is left into two numbers, the *code*.

# %%
image = keras.Input((28, 28, 1))
h = layers.Conv2D(16, 3, strides=2, padding="same", activation="relu")(image)
h = layers.Conv2D(32, 3, strides=2, padding="same", activation="relu")(h)
h = layers.Flatten()(h)
h = layers.Dense(64, activation="relu")(h)
code = layers.Dense(2, name="code")(h)
encoder = keras.Model(image, code, name="encoder")
encoder.summary()

# %% [markdown]
# This is the *functional* way to write a model: call a layer on a tensor that has a shape but no
# values yet, and get the next such tensor. `Model` then collects all that lies between an input and
# an output.
#
# ## Wide again: the decoder
#
# The same steps backwards. `Conv2DTranspose` with `strides=2` is the opposite of a convolution with
# strides: it writes its filter onto every other place of an image twice as large, and adds up where
# they overlap. The last layer is a sigmoid, because pixels lie between 0 and 1.

# %%
given = keras.Input((2,))
h = layers.Dense(64, activation="relu")(given)
h = layers.Dense(7 * 7 * 32, activation="relu")(h)
h = layers.Reshape((7, 7, 32))(h)
h = layers.Conv2DTranspose(16, 3, strides=2, padding="same", activation="relu")(h)
drawn = layers.Conv2DTranspose(1, 3, strides=2, padding="same", activation="sigmoid")(h)
decoder = keras.Model(given, drawn, name="decoder")
print([layer.output.shape for layer in decoder.layers])

# %% [markdown]
# A model can be called like a layer. The autoencoder is the decoder of the encoder, and shares
# their weights: training it trains both.

# %%
autoencoder = keras.Model(image, decoder(encoder(image)), name="autoencoder")
autoencoder.compile(keras.optimizers.Adam(0.003), loss="mse")
history = autoencoder.fit(
    x_train, x_train, batch_size=64, epochs=epochs, validation_data=(x_test, x_test), verbose=2
)
assert sum(w.size for w in autoencoder.get_weights()) == (
    encoder.count_params() + decoder.count_params()
)

# %% [markdown]
# Note the call: the images are both the input and the target.
#
# ## What is left of a digit
#
# The upper row are test images, the lower row is what the network makes of them after squeezing
# each into two numbers.

# %%
copies = autoencoder.predict(x_test, verbose=0)
viz.images(
    np.concatenate([x_test[:16], copies[:16]]), columns=16, path=pictures / "05_copies.png"
)  # fmt: skip

# %% [markdown]
# Blurred, and some are taken for another digit, but 784 numbers have become two. How good is that?
# The classical answer to the same question is *principal component analysis*: the best code of two
# numbers that a straight, linear map can give.

# %%
flat, flat_test = x_train.reshape(-1, 784), x_test.reshape(-1, 784)
mean = flat.mean(axis=0)
_, _, directions = np.linalg.svd(flat[:5000] - mean, full_matrices=False)
two = directions[:2]
linear = (flat_test - mean) @ two.T @ two + mean

error = np.mean((copies - x_test) ** 2)
linear_error = np.mean((linear - flat_test) ** 2)
print(f"mean squared error: two principal components {linear_error:.4f}, autoencoder {error:.4f}")
assert error < linear_error

# %% [markdown]
# ## The plane of digits
#
# Every test image is a point: its code. Here its label stands there, which the network has never
# seen. Still the digits form islands, because images that look alike are cheapest to store close to
# each other.

# %%
codes = encoder.predict(x_test, verbose=0)


def draw_plane(points, labels):
    figure, axes = plt.subplots(figsize=(6, 5), layout="constrained")
    for digit in range(10):
        axes.scatter(*points[labels == digit].T, marker=f"${digit}$", s=20, linewidths=0.1)
    axes.set(xlabel="first number", ylabel="second number")
    return figure


draw_plane(codes, y_test).savefig(pictures / "05_plane.png", dpi=150)

# %% [markdown]
# Is it only our eyes that see islands? Ask for each point whether its nearest neighbour is the same
# digit. If codes said nothing about digits, it would be one time in ten.

# %%
distances = ((codes[:, None] - codes[None]) ** 2).sum(axis=-1)
np.fill_diagonal(distances, np.inf)
same = np.mean(y_test[distances.argmin(axis=1)] == y_test)
print(f"the nearest neighbour is the same digit: {same:.0%}")
assert same > 0.2

# %% [markdown]
# ## Draw new digits
#
# The decoder draws a picture for *any* two numbers. Here it is asked at the points of a grid that
# covers the plane.

# %%
low, high = np.percentile(codes, [5, 95], axis=0)
across = np.linspace(low[0], high[0], 16)
down = np.linspace(high[1], low[1], 10)
grid = np.array([(i, j) for j in down for i in across], "float32")
atlas = decoder.predict(grid, verbose=0)
viz.images(atlas, n=len(atlas), columns=16, path=pictures / "05_atlas.png")

# %% [markdown]
# One digit turns into the next without a jump. In between are shapes that are no digit: nothing
# told the network to use all of its plane well. *Variational* autoencoders add just that.
#
# ## Take away noise
#
# Now let the input differ from the target: the input is noisy, the target is clean. To get from one
# to the other, the network must know what digits look like. This *denoising autoencoder* needs no
# narrow middle, so it is convolutional throughout.
#
# The loss is the cross-entropy of each pixel. With the squared error, this network gets stuck at a
# black picture: most pixels are 0, so the sigmoid is soon close to 0 everywhere, and there its
# slope is close to 0, too, and with it the gradient. The logarithm in the cross-entropy cancels
# that slope.

# %%
rng = np.random.default_rng(0)


def noisy(x):
    return np.clip(x + 0.5 * rng.normal(size=x.shape), 0, 1).astype("float32")


denoiser = keras.Sequential(
    [
        keras.Input((28, 28, 1)),
        layers.Conv2D(16, 3, strides=2, padding="same", activation="relu"),
        layers.Conv2D(32, 3, strides=2, padding="same", activation="relu"),
        layers.Conv2DTranspose(16, 3, strides=2, padding="same", activation="relu"),
        layers.Conv2DTranspose(1, 3, strides=2, padding="same", activation="sigmoid"),
    ],
    name="denoiser",
)
denoiser.compile(keras.optimizers.Adam(0.002), loss="binary_crossentropy")
noisy_train, noisy_test = noisy(x_train), noisy(x_test)
denoiser.fit(
    noisy_train, x_train, batch_size=64, epochs=max(2, epochs // 4), verbose=2,
    validation_data=(noisy_test, x_test),
)  # fmt: skip

# %%
cleaned = denoiser.predict(noisy_test, verbose=0)
rows = np.concatenate([x_test[:16], noisy_test[:16], cleaned[:16]])
viz.images(rows, columns=16, path=pictures / "05_denoised.png")

# %% [markdown]
# From above: the clean image, with noise, and what the network makes of the noisy one. It has
# smoothed the strokes and emptied the paper. Compare the error with that of a filter that knows
# nothing about digits, the mean of each pixel and its eight neighbours:

# %%
padded = np.pad(noisy_test, ((0, 0), (1, 1), (1, 1), (0, 0)))
smoothed = sum(padded[:, i : i + 28, j : j + 28] for i in range(3) for j in range(3)) / 9
before, simple, after = (np.mean((x - x_test) ** 2) for x in (noisy_test, smoothed, cleaned))
print(f"mean squared error: noisy {before:.4f}, smoothed {simple:.4f}, denoised {after:.4f}")
assert after < simple < before

# %% [markdown]
# This is how such networks are used on data that matter: pairs of short and long exposures, coarse
# and fine simulations, or damaged and complete measurements.
#
# ## Go on
#
# - Give the code 16 numbers. How do the copies look? How would you draw the plane now?
# - Use the error of the copy to find odd images: which test digits are copied worst?
# - Train the denoiser on one kind of noise and test it with another.
# - Give the denoiser `loss="mse"` and watch it get stuck. Does a smaller learning rate help?
