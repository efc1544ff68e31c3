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
# # 7. Attention
#
# A convolution looks at neighbours. Attention lets every step of a sequence look at every other
# one, and *learns* where to look. It is what large language models are made of, and it fits in
# three lines. First by hand on four steps, then in Keras' words on a task whose answer can be seen
# in the picture, then on digits, read row by row.

# %%
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from minitorch_ciml import Tensor, datasets, keras, viz
from minitorch_ciml.keras import layers
from minitorch_ciml.keras.ops import convert_to_numpy as to_numpy
from minitorch_ciml.ops import matmul, softmax

pictures = Path(os.environ.get("TUTORIAL_PICTURES", "."))
samples = int(os.environ.get("TUTORIAL_SAMPLES", 20_000))


def draw_weights(name, weights, numbers=False):
    """Attention weights (T, S) as a picture: row t shows where step t looks."""
    figure, axes = plt.subplots(figsize=(4.4, 3.8), layout="constrained")
    shown = axes.imshow(weights, cmap="Blues", vmin=0, vmax=max(1e-6, weights.max()))
    figure.colorbar(shown, label="weight")
    axes.set(xlabel="step that is looked at", ylabel="step that is looking")
    axes.set(xticks=range(weights.shape[1]), yticks=range(weights.shape[0]))
    if numbers:
        for (t, s), w in np.ndenumerate(weights):
            colour = "white" if w > 0.4 else "black"
            axes.text(s, t, f"{w:.2f}", ha="center", va="center", color=colour)
    figure.savefig(pictures / f"07_{name}.png", dpi=150)


# %% [markdown]
# ## By hand
#
# A sequence of four steps, each described by three numbers. Every step is used in three ways:
#
# - its *query* says what it is looking for,
# - its *key* says what it has to offer to those who look,
# - its *value* is what they get.
#
# To begin with, all three are the step itself. How well a query fits a key is their dot product:
# large if both point in the same direction. We divide by the square root of the number of features,
# so that the numbers do not grow with it.

# %%
x = Tensor(
    [
        [1.0, 0.0, 0.2],
        [0.0, 1.0, 0.1],
        [0.9, 0.1, 0.8],
        [0.1, 0.9, 0.5],
    ],
    requires_grad=True,
    name="x",
)
scores = matmul(2 * x, (2 * x).T) / np.sqrt(3)
print(scores.numpy().round(2))

# %% [markdown]
# Softmax makes each row positive with a sum of 1: these are the *attention weights*. The result of
# a step is the mean of all values, weighted by its row. That is all.

# %%
weights = softmax(scores, axis=-1)
y = matmul(weights, x)
draw_weights("by_hand", weights.numpy(), numbers=True)

# %%
assert np.allclose(weights.numpy().sum(axis=1), 1)
print(y.numpy().round(2))

# %% [markdown]
# Steps 0 and 2 resemble each other, and so do 1 and 3: each looks at its like. Because everything
# is a product, a sum or a softmax, it can be differentiated. Ask one number of the first result
# which steps it depends on:

# %%
y[0, 0].backward()
dependence = abs(x.grad.numpy()).sum(axis=1)
print("step 0 depends on the steps", dependence.round(2))
assert (dependence > 0).all()  # on every step, however far away: no path is longer than one

# %% [markdown]
# A recurrent network needs a hundred steps to carry something over a hundred places, and the
# gradient fades on the way. Here every two places are neighbours.
#
# ## Learned projections
#
# Instead of the step itself, three learned matrices make query, key and value from it. Several such
# sets side by side are *heads*, each of which can look for something else. This is
# `MultiHeadAttention`. We take its weights out and do the same by hand, for two heads.

# %%
keras.utils.set_random_seed(0)
steps = np.random.default_rng(0).normal(size=(1, 5, 8)).astype("float32")
attention = layers.MultiHeadAttention(num_heads=2, key_dim=4)
result, shares = attention(steps, steps, return_attention_scores=True)

by_name = dict(zip(("wq", "bq", "wk", "bk", "wv", "bv", "wo", "bo"), attention.get_weights()))
print({name: w.shape for name, w in by_name.items()})

# %%
w = by_name
total = w["bo"]
for head in range(2):
    q = steps[0] @ w["wq"][:, head] + w["bq"][head]
    k = steps[0] @ w["wk"][:, head] + w["bk"][head]
    v = steps[0] @ w["wv"][:, head] + w["bv"][head]
    share = softmax(q @ k.T / np.sqrt(4), axis=-1).numpy()
    assert np.allclose(share, to_numpy(shares)[0, head], atol=1e-6)
    total = total + share @ v @ w["wo"][head]
assert np.allclose(total, to_numpy(result)[0], atol=1e-5)
print("by hand and by layer agree")

# %% [markdown]
# ## Where am I?
#
# There is one thing that attention does not know: the order. Swap two steps, and their results are
# swapped, nothing else.

# %%
swapped = to_numpy(attention(steps[:, [1, 0, 2, 3, 4]], steps[:, [1, 0, 2, 3, 4]]))
assert np.allclose(swapped[:, [1, 0, 2, 3, 4]], to_numpy(result), atol=1e-5)

# %% [markdown]
# So each step is told its place: a learned vector for each position is added to it. This is a layer
# of our own, with one weight.


# %%
class Position(layers.Layer):
    """x + p, where p is one learned vector for each step."""

    def build(self, input_shape):
        self.table = self.add_weight(input_shape[1:], initializer="uniform", name="table")

    def call(self, inputs):
        return inputs + self.table


# %% [markdown]
# ## A task whose answer can be seen
#
# Given ten digits, return them in reverse order. To answer for the first place, the network has to
# look at the last one, and so on. Nobody tells it: it sees sequences and their reversals.

# %%
length = 10
rng = np.random.default_rng(1)
sequences = rng.integers(0, 10, (4000, length))
reversed_ = sequences[:, ::-1].copy()

keras.utils.set_random_seed(2)
given = keras.Input((length,), dtype="int32")
h = Position()(layers.Embedding(10, 32)(given))
attention = layers.MultiHeadAttention(num_heads=1, key_dim=32)
found, shares = attention(h, h, return_attention_scores=True)
answer = layers.Dense(10, activation="softmax")(layers.Add()([h, found]))
model = keras.Model(given, answer, name="reverse")
model.compile(
    keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"]
)  # fmt: skip
history = model.fit(
    sequences, reversed_, batch_size=64, epochs=4, validation_split=0.1, verbose=2
)  # fmt: skip
assert history.history["val_accuracy"][-1] > 0.95

# %% [markdown]
# The layer has returned its attention weights, too. A second model with the same layers ends there,
# so we can look at them.

# %%
look = keras.Model(given, shares)
seen = look.predict(sequences[:1], verbose=0)[0, 0]
draw_weights("reverse", seen)

# %%
assert (seen.argmax(axis=1) == np.arange(length)[::-1]).mean() >= 0.8

# %% [markdown]
# The dark line runs from the upper right to the lower left: place 0 looks at place 9, place 1 at
# place 8, and so on. The network has found the rule, and we can read it in its weights. In larger
# networks, be careful with such readings: what a step looks at need not be what the answer depends
# on.
#
# ## A transformer block
#
# Vaswani and others (2017) surround attention with what we know from [the sixth
# tutorial](06_residual_connections.py): shortcuts and a normalisation. (`LayerNormalization` works
# on the features of one step, so it does not need a batch.) Two dense layers follow, for each step
# by itself. Such blocks are stacked, in large models a hundred times.


# %%
def block(x, heads, size):
    h = layers.LayerNormalization()(x)
    h, shares = layers.MultiHeadAttention(heads, size // heads)(
        h, h, return_attention_scores=True
    )  # fmt: skip
    x = layers.Add()([x, h])
    h = layers.LayerNormalization()(x)
    h = layers.Dense(2 * size, activation="relu")(h)
    h = layers.Dense(size)(h)
    return layers.Add()([x, h]), shares


# %% [markdown]
# ## Digits, row by row
#
# An image of 28 rows is a sequence of 28 steps with 28 numbers each. Where would *you* look to know
# what the digit is?

# %%
(x_train, y_train), (x_test, y_test) = datasets.digits(samples, 2000)
x_train, x_test = x_train.astype("float32") / 255, x_test.astype("float32") / 255

keras.utils.set_random_seed(3)
rows = keras.Input((28, 28))
h = Position()(layers.Dense(32)(rows))
h, first = block(h, heads=4, size=32)
h, second = block(h, heads=4, size=32)
h = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(h))
digit = layers.Dense(10, activation="softmax")(h)
reader = keras.Model(rows, digit, name="reader")
reader.compile(
    keras.optimizers.Adam(0.003), "sparse_categorical_crossentropy", metrics=["accuracy"]
)  # fmt: skip
history = reader.fit(
    x_train, y_train, batch_size=64, epochs=max(3, 20_000 // len(x_train)), verbose=2,
    validation_data=(x_test, y_test),
)  # fmt: skip
viz.history(history, path=pictures / "07_history.png")

# %%
assert history.history["val_accuracy"][-1] > 0.75

# %% [markdown]
# ## Where it looks
#
# The four heads of the first block, for one image. Each row of a map belongs to a row of the image,
# and shows which other rows it draws from.

# %%
look = keras.Model(rows, first)
maps = look.predict(x_test[:1], verbose=0)[0]
figure, row = plt.subplots(1, 5, figsize=(11, 2.6), layout="constrained")
row[0].imshow(x_test[0], cmap="gray")
row[0].set_title("image", size=10)
for head, axes in enumerate(row[1:]):
    axes.imshow(maps[head], cmap="Blues")
    axes.set_title(f"head {head}", size=10)
    axes.set_xlabel("row that is looked at", size=8)
figure.savefig(pictures / "07_heads.png", dpi=150)

# %%
assert maps.shape == (4, 28, 28) and np.allclose(maps.sum(axis=-1), 1, atol=1e-5)

# %% [markdown]
# A vertical stripe is a row that many others draw from, wherever they stand themselves. A diagonal
# would be a head that looks at its neighbours. The heads differ, although nobody gave them
# different tasks, only different random numbers to start from.
#
# ## Go on
#
# - Let the first network sort its ten digits instead of reversing them. What does the map show now?
# - Take `Position` away from the reader. How good can a network be that sees the rows as a bag?
# - Use `use_causal_mask=True`: no step may look at later ones, as in a language model.
# - The work grows with the square of the length. Read 196 patches of 2 x 2 pixels instead of 28
#   rows and measure the time of an epoch.
