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
# # 9. Recurrent networks
#
# A recurrent network reads a sequence one step at a time and keeps a *state*: a few numbers that
# stand for what it has read so far. It was made for sequences of any length, such as measurements
# that come in while the network runs.
#
# We write one by hand, see why its memory is short, and let an LSTM read digits row by row and tell
# us after each row what it believes.

# %%
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from minitorch_ciml import Tensor, datasets, keras, viz
from minitorch_ciml.keras import layers
from minitorch_ciml.keras.ops import convert_to_numpy as to_numpy
from minitorch_ciml.ops import matmul, tanh

pictures = Path(os.environ.get("TUTORIAL_PICTURES", "."))
plt.style.use("tableau-colorblind10")  # colours that everybody can tell apart
samples = int(os.environ.get("TUTORIAL_SAMPLES", 20_000))

# %% [markdown]
# ## By hand
#
# The new state is a mixture of the input and the old state, squashed: $h \leftarrow \tanh(x W + h U
# + b)$. The same $W$, $U$ and $b$ serve every step. Keras' name for it is `SimpleRNN`, and with its
# weights we get its numbers.

# %%
keras.utils.set_random_seed(0)
sequence = np.random.default_rng(0).normal(size=(1, 30, 3)).astype("float32")
layer = layers.SimpleRNN(16)
expected = to_numpy(layer(sequence))
w, u, b = layer.get_weights()

steps = [Tensor(sequence[:, t], requires_grad=True) for t in range(30)]
h = np.zeros((1, 16), "float32")
for x in steps:
    h = tanh(matmul(x, w) + matmul(h, u) + b)

assert np.allclose(h.numpy(), expected, atol=1e-5)
print("by hand and by layer agree")

# %% [markdown]
# ## A short memory
#
# How much does the last state depend on each step? One call of `backward` tells. The way back to
# the first step leads through 30 products and 30 `tanh`, each of which makes the gradient smaller:
# the same as with [deep networks](06_residual_connections.py), because a recurrent network *is* a
# deep one, with a layer for each step.

# %%
h.sum().backward()
simple = [float(abs(x.grad.numpy()).mean()) for x in steps]
assert simple[0] < 0.2 * simple[-1]

# %% [markdown]
# The *LSTM* (Hochreiter and Schmidhuber, 1997) has a second state that is only ever multiplied by a
# number close to 1 and added to: a shortcut through time. *Gates*, sigmoids of their own, decide
# what is kept, what is written and what is shown. Keras starts the gate that keeps with a bias of
# 1.


# %%
def memory(layer):
    """The size of d last state / d step, for each step."""
    x = Tensor(sequence, requires_grad=True)
    layer(x).sum().backward()
    return abs(x.grad.numpy())[0].mean(axis=1)


long = memory(layers.LSTM(16))

figure, axes = plt.subplots(figsize=(6.5, 2.8), layout="constrained")
axes.semilogy(simple, "o-", markersize=3, label="simple")
axes.semilogy(long, "o-", markersize=3, label="LSTM")
axes.set(xlabel="step", ylabel="|d last state / d step|", title="Before any training")
axes.spines[["top", "right"]].set_visible(False)
axes.legend(frameon=False)
figure.savefig(pictures / "09_memory.png", dpi=150)

# %% [markdown]
# Both forget before they have learned anything: what is long ago counts for less and less. What an
# LSTM gains is that it can *learn* how fast to forget, by its gates, and forget one thing and keep
# another.
#
# ## Read digits row by row
#
# An image is a sequence of 28 rows. The network sees them from the top, one after the other, and
# must remember what it needs. Two kinds of layers, with the same state of 64 numbers:

# %%
(x_train, y_train), (x_test, y_test) = datasets.digits(samples, 2000)
x_train, x_test = x_train.astype("float32") / 255, x_test.astype("float32") / 255
epochs = max(3, 16_000 // len(x_train))


def reader(kind):
    keras.utils.set_random_seed(1)
    rows = keras.Input((28, 28))
    states = kind(64, return_sequences=True, name="states")(rows)
    answers = layers.Dense(10, activation="softmax", name="answer")(states)
    return keras.Model(rows, answers[:, -1])


runs, models = {}, {}
for name, kind in (("simple", layers.SimpleRNN), ("LSTM", layers.LSTM)):
    models[name] = reader(kind)
    models[name].compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    runs[name] = models[name].fit(
        x_train, y_train, batch_size=32, epochs=epochs, verbose=2,
        validation_data=(x_test, y_test),
    )  # fmt: skip
viz.compare(runs, "val_accuracy", path=pictures / "09_readers.png")

# %%
best = {name: max(run.history["val_accuracy"]) for name, run in runs.items()}
print({name: f"{accuracy:.1%}" for name, accuracy in best.items()})
assert best["LSTM"] > 0.8

# %% [markdown]
# With `return_sequences=True` the layer returns the state after *every* row, and the dense layer
# makes an answer of each. The training has only used the last one (`answers[:, -1]`).
#
# ## What it believes after each row
#
# But the others are there, and we can ask for them: a second model with the same layers ends before
# the last answer is picked out.

# %%
lstm = models["LSTM"]
opinions = keras.Model(lstm.inputs, lstm.get_layer("answer").output)
shown = [np.flatnonzero(y_test == digit)[0] for digit in (2, 4, 7, 8)]
beliefs = opinions.predict(x_test[shown], verbose=0)
print(beliefs.shape)  # images, rows, digits

figure, grid = plt.subplots(2, 4, figsize=(10, 5.2), layout="constrained")
for (above, below), image, belief in zip(grid.T, x_test[shown], beliefs):
    above.imshow(image.T, cmap="gray", aspect="auto")
    above.set_axis_off()
    below.imshow(belief.T, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    below.set(xlabel="row", yticks=range(10))
grid[1, 0].set_ylabel("digit")
figure.savefig(pictures / "09_beliefs.png", dpi=150)

# %%
assert np.allclose(beliefs.sum(axis=-1), 1, atol=1e-4)
assert np.allclose(beliefs[:, -1], lstm.predict(x_test[shown], verbose=0), atol=1e-5)

# %% [markdown]
# Above each map is the image, lying on its side, so that its rows stand above the steps at which
# they are read. As long as there is only paper, the network has no reason to prefer a digit. Watch
# where the belief changes: often at the row that tells two digits apart.
#
# How early can one know? The accuracy of the answer after each row, over all test images:

# %%
everything = opinions.predict(x_test, batch_size=500, verbose=0)
by_row = (everything.argmax(axis=-1) == y_test[:, None]).mean(axis=0)

figure, axes = plt.subplots(figsize=(6, 2.6), layout="constrained")
axes.plot(by_row, "o-", color="#0072b2", markersize=3)
axes.set(xlabel="row", ylabel="accuracy", ylim=(0, 1))
axes.spines[["top", "right"]].set_visible(False)
figure.savefig(pictures / "09_by_row.png", dpi=150)

# %%
assert by_row[2] < 0.4 and by_row[-1] > 0.8

# %% [markdown]
# Nobody asked for good answers in the middle, so these are not the best possible. Train on all
# twenty-eight answers, if you want a network that may be interrupted at any time.
#
# ## Go on
#
# - Let the network read columns instead of rows (`np.swapaxes`). Is that easier?
# - `layers.Bidirectional` reads from both ends. Why can it not work on data that are still coming
#   in?
# - Train on all rows: give every image its label 28 times (`np.repeat`), and leave out `[:, -1]`.
# - `layers.GRU` has two gates instead of three. Compare accuracy and time.
