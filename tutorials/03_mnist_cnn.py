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
# # 3. Handwritten digits
#
# A network of 76,570 weights learns to read digits in a minute or two. The script is written in
# Keras' words: change its import to `import keras`, leave out the pictures, and Keras runs it too.
#
# `TUTORIAL_SAMPLES=2000` in the environment makes it faster and the network worse.

# %%
import os
from pathlib import Path

import numpy as np

from minitorch_ciml import datasets, keras, viz
from minitorch_ciml.keras import layers

pictures = Path(os.environ.get("TUTORIAL_PICTURES", "."))
samples = int(os.environ.get("TUTORIAL_SAMPLES", 60_000))
keras.utils.set_random_seed(1)  # the same random numbers, hence the same network, in every run

# %% [markdown]
# ## Data
#
# MNIST is 70,000 scanned digits of 28 x 28 pixels: 60,000 to learn from, and 10,000 that we keep
# back to see what was learned. Pixels are bytes, 0 for paper and 255 for ink. Networks like numbers
# around 1, so we divide, and a convolution wants to know the number of colours, so we add an axis.
#
# Where there is neither MNIST nor a network, the package draws digits itself.

# %%
(x_train, y_train), (x_test, y_test) = datasets.digits(samples, min(samples, 10_000))
x_train = x_train[..., None].astype("float32") / 255
x_test = x_test[..., None].astype("float32") / 255
print("to learn from:", x_train.shape, "to test with:", x_test.shape)

viz.images(x_train[:48], y_train[:48], path=pictures / "03_digits.png")

# %% [markdown]
# ## The model
#
# Two convolutions look for small patterns, and for patterns of these. Pooling keeps the strongest
# answer of each 2 x 2 pixels. Two dense layers turn what was found into ten numbers, and *softmax*
# makes these a probability for each digit.

# %%
model = keras.Sequential(
    [
        keras.Input((28, 28, 1)),
        layers.Conv2D(16, (3, 3), activation="relu"),
        layers.Conv2D(16, (3, 3), activation="relu"),
        layers.MaxPooling2D((2, 2)),
        layers.Flatten(),
        layers.Dense(32, activation="relu"),
        layers.Dense(10, activation="softmax"),
    ],
    name="digits",
)
model.summary()

# %% [markdown]
# What the numbers mean:
#
# - `None` is the number of images. The model takes any.
# - `26` is 28 - 3 + 1: a window of 3 pixels has 26 places in a row of 28. (The second convolution
#   leaves 24, and pooling half of that, 12.)
# - `16` is the number of filters, each of which makes one picture of its own: a *channel*.
# - The first convolution has 3 x 3 x 1 weights in each of 16 filters, and 16 biases: 160. A filter
#   of the second sees all 16 channels of the first: 3 x 3 x 16 x 16 + 16 = 2,320.
# - Flattened, 12 x 12 x 16 pixels are 2,304 numbers. A dense layer has a weight from each of these
#   to each of its 32 neurons, and a bias for each: 2,304 x 32 + 32 = 73,760. That is nearly the
#   whole model: convolutions are cheap, because one filter serves all places.
# - A weight is a `float32`, 4 bytes: 76,570 x 4 bytes are 299.1 KB.

# %%
assert [layer.count_params() for layer in model.layers] == [
    3 * 3 * 1 * 16 + 16, 3 * 3 * 16 * 16 + 16, 0, 0, 12 * 12 * 16 * 32 + 32, 32 * 10 + 10,
]  # fmt: skip

# %% [markdown]
# ## Before it has learned anything
#
# The loss is the *cross-entropy*: minus the logarithm of the probability that was given to the
# right digit. A network that knows nothing gives about 0.1 to each of the ten, so its loss is about
# -ln 0.1 = 2.3. It is always worth a look whether a training starts there.

# %%
model.compile(
    optimizer=keras.optimizers.Adam(learning_rate=0.001),
    loss="sparse_categorical_crossentropy",  # sparse: the labels are numbers, not rows of 0 and 1
    metrics=["accuracy"],
)
before, accuracy = model.evaluate(x_test, y_test, batch_size=1000, verbose=0)
print(f"loss {before:.2f}, accuracy {accuracy:.0%}")
assert abs(before - np.log(10)) < 0.2

# %% [markdown]
# ## Training
#
# `fit` takes 128 images at a time, computes the loss, asks for its gradients and moves every weight
# a little: one *step*. When all images were used it is the end of an *epoch*, and the test images
# are scored. In a terminal the line is a bar that moves, with the time that is left.

# %%
epochs = 3
history = model.fit(
    x_train, y_train, batch_size=128, epochs=epochs, validation_data=(x_test, y_test), verbose=2
)

# %%
viz.history(history, path=pictures / "03_history.png")

# %% [markdown]
# The training curve is an average over the epoch, while the network was still getting better; the
# validation curve is taken at the end of the epoch. That is why the first can be worse than the
# second, although the network has seen the training images and not the others. If the training
# curve goes on to improve while the validation curve turns back, the network has started to learn
# its images by heart: *overfitting*.

# %%
assert history.history["val_loss"][-1] < 0.5 * before

# %% [markdown]
# ## What the filters became
#
# Red weights ask for ink, blue weights for paper. Filters that are red on one side and blue on the
# other answer to edges, as the one that we made by hand in
# [the second tutorial](02_convolution_by_hand.py). Nobody put them there.

# %%
kernel, bias = model.layers[0].get_weights()
print(kernel.shape)  # rows, columns, channels in, filters
viz.filters(kernel, path=pictures / "03_filters.png")

# %% [markdown]
# ## What the layers see
#
# A `Model` can end anywhere: this one has the same layers and the same weights, but returns what
# comes out of the first three. Bright is a strong answer. Some channels like horizontal strokes,
# others one side of a stroke, and a few keep silent for this digit.

# %%
first_three = model.layers[:3]
inner = keras.Model(model.inputs, [layer.output for layer in first_three])
maps = inner.predict(x_test[:1], verbose=0)
print([m.shape for m in maps])
viz.feature_maps(
    x_test[0], maps, [layer.name for layer in first_three], path=pictures / "03_feature_maps.png"
)

# %% [markdown]
# ## What it gets wrong
#
# `predict` returns the ten probabilities of each image; the digit is the largest. The mistakes of
# which the network was most certain come first. Some of them you would not have read either.

# %%
probabilities = model.predict(x_test, batch_size=1000, verbose=0)
y_pred = probabilities.argmax(axis=1)
print(f"{np.mean(y_pred == y_test):.2%} right")
viz.mistakes(x_test, y_test, y_pred, probabilities, path=pictures / "03_mistakes.png")

# %% [markdown]
# The *confusion matrix* counts them all: one row for each true digit, one column for each answer.
# Off the diagonal you find which digits are taken for which.

# %%
viz.confusion_matrix(y_test, y_pred, path=pictures / "03_confusion.png")

# %% [markdown]
# ## Save and load
#
# A `.keras` file holds the architecture, the weights, and the state of the optimizer, so a training
# can go on where it stopped. Keras 3 reads the same file.

# %%
model.save(pictures / "03_digits.keras")
loaded = keras.models.load_model(pictures / "03_digits.keras")
again = loaded.predict(x_test, batch_size=1000, verbose=0)
assert np.array_equal(again, probabilities)
print("the same answers")

# %% [markdown]
# ## Go on
#
# - Take away the convolutions. How many weights does a dense network need to be as good?
# - Add `layers.Dropout(0.5)` before the last layer and train for 20 epochs: compare the curves.
# - Train on 1,000 images. How good can you get? What does the history show?
# - Rotate the test images by 90 degrees (`np.rot90`) and look at the confusion matrix.
#
# `python -m minitorch_ciml train` does what this page does, from the command line.
