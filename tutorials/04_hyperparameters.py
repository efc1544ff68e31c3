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
# # 4. Hyperparameters
#
# Training finds the weights. Everything else is up to you: how large the steps are, how many images
# make a batch, how wide the layers are. These are *hyperparameters*. This page turns one knob at a
# time, looks at the learning curves, and then lets a random search turn all of them.
#
# Every number here comes from a small network on few images, so that each training takes about a
# second. What you learn about the curves holds for large ones; the best values do not.

# %%
import os
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from minitorch_ciml import datasets, keras, viz
from minitorch_ciml.keras import layers

pictures = Path(os.environ.get("TUTORIAL_PICTURES", "."))
plt.style.use("tableau-colorblind10")  # colours that everybody can tell apart

# %% [markdown]
# ## Three sets of data
#
# - The *training* set is what the weights are fitted to.
# - The *validation* set is what you choose hyperparameters by.
# - The *test* set is used once, at the very end.
#
# Why three? If you try fifty settings and keep the one that scores best, its score is partly luck.
# Only data that no decision has seen can tell how good you really are.

# %%
n = 1000
(x, y), (x_test, y_test) = datasets.digits(n + 2000, 2000)
x, x_test = x.astype("float32") / 255, x_test.astype("float32") / 255
x_train, y_train, x_val, y_val = x[:n], y[:n], x[n:], y[n:]
print("train", x_train.shape, "validate", x_val.shape, "test", x_test.shape)

# %% [markdown]
# ## One function to train
#
# Everything that we are going to change is an argument. The seed is one of them: with the same seed
# two trainings start from the same weights and see the images in the same order, so what differs
# between them is the knob that we turned.


# %%
def network(width=64, dropout=0.0, decay=0.0):
    return keras.Sequential(
        [
            keras.Input((28, 28)),
            layers.Flatten(),
            layers.Dense(width, activation="relu", kernel_regularizer=keras.regularizers.L2(decay)),
            layers.Dropout(dropout),
            layers.Dense(10, activation="softmax"),
        ]
    )


def train(optimizer, batch_size=32, epochs=10, callbacks=None, seed=0, **choices):
    keras.utils.set_random_seed(seed)
    model = network(**choices)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(
        x_train, y_train, batch_size, epochs, verbose=0, callbacks=callbacks,
        validation_data=(x_val, y_val),
    )  # fmt: skip
    return model, history.history


# %% [markdown]
# ## The learning rate
#
# A step of gradient descent is $w \leftarrow w - \eta\, \partial L/\partial w$. The *learning rate*
# $\eta$ is the knob to turn first, and to turn by factors of ten.

# %%
runs = {}
for rate in (0.0003, 0.003, 0.03, 0.3, 3.0):
    _, runs[rate] = train(keras.optimizers.SGD(rate))

viz.compare(runs, "loss", path=pictures / "04_learning_rate.png")

# %%
last = {rate: run["loss"][-1] for rate, run in runs.items()}
assert last[0.0003] > last[0.003] > last[0.03] > last[0.3]  # too small: it has hardly begun
assert not last[3.0] < 1  # too large: no better than guessing

# %% [markdown]
# Too small, and the loss creeps down; it would arrive in some hundred epochs. Too large, and a step
# jumps over the valley that it should go down into: the loss stays high, or becomes `nan`. The best
# rate is often just below the one at which training breaks.
#
# ## Find the edge in one run
#
# There is a trick to see both ends in a single training: raise the rate a little after every batch
# and write down the loss. A *callback* is an object whose methods `fit` calls at such moments. This
# one is a dozen lines.


# %%
class RateFinder(keras.callbacks.Callback):
    def __init__(self, low, high, steps):
        super().__init__()
        self.rates = np.geomspace(low, high, steps)
        self.losses = []

    def on_train_batch_begin(self, batch, logs=None):
        self.model.reset_metrics()  # so that `loss` is that of this batch, not a mean so far
        self.model.optimizer.learning_rate = self.rates[len(self.losses)]

    def on_train_batch_end(self, batch, logs=None):
        self.losses.append(logs["loss"])
        self.model.stop_training = len(self.losses) == len(self.rates)


finder = RateFinder(1e-4, 10, steps=120)
train(keras.optimizers.SGD(), epochs=4, callbacks=[finder])

figure, axes = plt.subplots(figsize=(6, 2.8), layout="constrained")
axes.plot(finder.rates[: len(finder.losses)], finder.losses, color="#0072b2")
axes.set(xscale="log", xlabel="learning rate", ylabel="loss of the batch", ylim=(0, 5))
axes.spines[["top", "right"]].set_visible(False)
figure.savefig(pictures / "04_rate_finder.png", dpi=150)

# %% [markdown]
# The loss falls fastest somewhere between 0.1 and 1, and then explodes. A good choice is a rate on
# the steep part, some way to the left of the explosion.
#
# ## The batch size
#
# A gradient over 8 images is a rough guess of the gradient over all of them, but it costs a
# hundredth of it. Small batches make many rough steps, large batches few good ones. With the same
# number of *epochs*, that is, after having seen the same number of images:

# %%
runs = {}
for batch_size in (8, 32, 128, 512):
    start = time.perf_counter()
    _, runs[batch_size] = train(keras.optimizers.SGD(0.1), batch_size)
    steps = -(-n // batch_size)
    print(f"batch {batch_size:3}: {steps:3} steps an epoch, {time.perf_counter() - start:.1f} s")

viz.compare(runs, "val_loss", path=pictures / "04_batch_size.png")

# %%
last = {size: run["loss"][-1] for size, run in runs.items()}
assert last[8] < last[32] < last[128] < last[512]

# %% [markdown]
# The large batch looks worse, but it made 64 times fewer steps, each with a smaller error in its
# direction. It can afford a larger one. A rule of thumb (Goyal and others, 2017) is to multiply the
# learning rate by the same factor as the batch size. It works until the rate reaches the edge.

# %%
_, scaled = train(keras.optimizers.SGD(0.4), 128)
print(f"batch 128, rate 0.1: {last[128]:.3f};  rate 0.4: {scaled['loss'][-1]:.3f}")
print(f"batch  32, rate 0.1: {last[32]:.3f}")
assert abs(scaled["loss"][-1] - last[32]) < abs(last[128] - last[32])

# %% [markdown]
# Remember this when you train on several GPUs: the batch is shared among them, so to keep them busy
# it must grow.
#
# ## The width
#
# More neurons can represent more. From here on we use the optimizer *Adam*, which scales the step
# of each weight by the size of its recent gradients, and needs less care with the rate.

# %%
runs, sizes = {}, {}
for width in (2, 8, 32, 128, 256):
    model, runs[width] = train(keras.optimizers.Adam(0.001), width=width, epochs=20)
    sizes[width] = model.count_params()

figure, axes = plt.subplots(figsize=(6, 2.8), layout="constrained")
axes.plot(sizes.values(), [r["accuracy"][-1] for r in runs.values()], "o-", label="training")
axes.plot(sizes.values(), [r["val_accuracy"][-1] for r in runs.values()], "s-", label="validation")
axes.set(xscale="log", xlabel="number of weights", ylabel="accuracy")
axes.spines[["top", "right"]].set_visible(False)
axes.legend(frameon=False)
figure.savefig(pictures / "04_width.png", dpi=150)

# %%
assert runs[2]["accuracy"][-1] < runs[8]["accuracy"][-1] < runs[128]["accuracy"][-1]
gap = runs[256]["accuracy"][-1] - runs[256]["val_accuracy"][-1]
print(f"width 256: {runs[256]['accuracy'][-1]:.1%} in training, {gap:.1%} less in validation")
assert gap > 0.02

# %% [markdown]
# Two neurons are too few: both curves are low. This is *underfitting*, and the cure is a larger
# model or a longer training. Further to the right the training accuracy reaches 100%: the network
# has 200,000 weights for 1,000 images, and can learn them by heart. What remains between the curves
# is *overfitting*.
#
# ## Reading learning curves
#
# Look at a single training over more epochs. The training loss goes down and down. The validation
# loss turns round: from there on, the network learns what is special about these 1,000 images and
# not what is common to all digits.

# %%
model, plain = train(keras.optimizers.Adam(0.003), width=256, epochs=30)
viz.history(plain, path=pictures / "04_overfitting.png")

# %%
best = int(np.argmin(plain["val_loss"]))
assert best < 20 and plain["val_loss"][-1] > 1.05 * plain["val_loss"][best]
assert plain["loss"][-1] < 0.1 * plain["loss"][0]

# %% [markdown]
# What the curves tell you:
#
# | you see | it means | you try |
# |---|---|---|
# | both losses high and flat | rate too small, or model too small | a larger rate, a wider model |
# | the loss jumps about, or is `nan` | rate too large | a tenth of the rate |
# | both still falling at the end | not finished | more epochs |
# | training falls, validation rises | overfitting | the next three sections, or more data |
# | validation better than training | dropout, or a mean over the epoch: often harmless | nothing |
#
# ## Dropout and weight decay
#
# *Dropout* switches off a random half of the neurons in every step, so that none of them can rely
# on one other. In `predict` and `evaluate` all of them work. An *L2 penalty* adds the sum of the
# squared weights to the loss, so that a weight must earn its size. Both make it harder to learn by
# heart.

# %%
_, dropped = train(keras.optimizers.Adam(0.003), width=256, dropout=0.5, epochs=30)
_, decayed = train(keras.optimizers.Adam(0.003), width=256, decay=0.0001, epochs=30)
regularised = {"nothing": plain, "dropout 0.5": dropped, "L2 0.0001": decayed}
viz.compare(regularised, "val_loss", path=pictures / "04_regularised.png")

# %%
for name, run in regularised.items():
    print(f"{name:12} loss {run['loss'][-1]:.3f}, accuracy {run['accuracy'][-1]:.1%} in training,"
          f" {run['val_accuracy'][-1]:.1%} in validation")  # fmt: skip
assert dropped["loss"][-1] > plain["loss"][-1]  # training is harder,
assert min(dropped["val_loss"]) < min(plain["val_loss"])  # and the best loss better

# %% [markdown]
# The accuracies differ less than the losses. What overfitting spoils first is not which digit the
# network answers, but how sure it is when it is wrong.
#
# Careful with the last curve: its loss *includes the penalty*, so it is not comparable with the
# others. The accuracies are. A loss can mean different things in two trainings; always ask what is
# in it.
#
# ## Early stopping
#
# If the validation loss turns round, stop there. `EarlyStopping` waits for `patience` epochs
# without a new best, and can put back the weights of the best epoch.

# %%
stopper = keras.callbacks.EarlyStopping(
    monitor="val_loss", patience=3, restore_best_weights=True
)  # fmt: skip
model, stopped = train(keras.optimizers.Adam(0.003), width=256, epochs=30, callbacks=[stopper])
loss, accuracy = model.evaluate(x_val, y_val, verbose=0)
print(f"stopped after {len(stopped['loss'])} epochs, of 30; validation accuracy {accuracy:.1%}")

assert len(stopped["loss"]) < 30
assert np.isclose(loss, min(stopped["val_loss"]), rtol=1e-4)  # these are the best epoch's weights

# %% [markdown]
# It is also the cheapest regulariser: it saves the time of the epochs that would have done harm.
#
# ## Schedules
#
# Large steps find the valley, small steps find its bottom. A *schedule* makes the rate a function
# of the step, and goes where the learning rate goes.

# %%
total = 15 * -(-n // 32)  # 15 epochs of batches of 32
schedules = {
    "constant": 0.3,
    "exponential decay": keras.optimizers.schedules.ExponentialDecay(0.3, total // 5, 0.5),
    "cosine": keras.optimizers.schedules.CosineDecay(0.3, total),
    "warm-up and cosine": keras.optimizers.schedules.CosineDecay(
        0.0, total - total // 10, warmup_target=0.3, warmup_steps=total // 10
    ),
}

figure, axes = plt.subplots(figsize=(6, 2.6), layout="constrained")
for (name, schedule), style in zip(schedules.items(), ["-", "--", "-.", ":"]):
    rates = [float(schedule(step)) if callable(schedule) else schedule for step in range(total)]
    axes.plot(rates, label=name, linestyle=style)
axes.set(xlabel="step", ylabel="learning rate")
axes.spines[["top", "right"]].set_visible(False)
figure.legend(loc="outside right", frameon=False)
figure.savefig(pictures / "04_schedules.png", dpi=150)

# %%
runs = {name: train(keras.optimizers.SGD(s), epochs=15)[1] for name, s in schedules.items()}
viz.compare(runs, "val_loss", path=pictures / "04_scheduled.png")

# %% [markdown]
# In the early epochs the constant rate keeps up; towards the end, decaying rates make the curve
# calm. The *warm-up* does not matter for a network as small as this one. Large ones, and trainings
# on many GPUs, often break without it.
#
# Where you do not know how long the training will be, `ReduceLROnPlateau` lowers the rate whenever
# the validation loss has not improved for a while.

# %%
lower = keras.callbacks.ReduceLROnPlateau(monitor="val_loss", factor=0.3, patience=2)
_, adaptive = train(keras.optimizers.Adam(0.003), width=256, epochs=20, callbacks=[lower])
print([f"{rate:.2g}" for rate in adaptive["learning_rate"]])
assert adaptive["learning_rate"][-1] < 0.003

# %% [markdown]
# ## Random search
#
# Knobs interact, so turning one at a time is not enough. A grid over five knobs with four values
# each is 1,024 trainings. *Random search* (Bergstra and Bengio, 2012) draws each value at random,
# and is better than a grid of the same cost: usually only one or two knobs matter, and of those it
# tries a new value every time.
#
# Learning rates and penalties are drawn on a logarithmic scale. The generator has a seed, so the
# search can be repeated, and every setting is written down.

# %%
rng = np.random.default_rng(0)
trials = []
for _ in range(16):
    choice = {
        "rate": float(10 ** rng.uniform(-4, -1)),
        "batch_size": int(rng.choice([16, 32, 64, 128])),
        "width": int(rng.choice([32, 64, 128, 256])),
        "dropout": float(rng.choice([0.0, 0.25, 0.5])),
        "decay": float(10 ** rng.uniform(-6, -3)),
    }
    rate = choice.pop("rate")
    _, run = train(keras.optimizers.Adam(rate), epochs=8, **choice)
    trials.append({"score": max(run["val_accuracy"]), "rate": rate, **choice})

trials.sort(key=lambda trial: -trial["score"])
print("accuracy      rate  batch  width  dropout     decay")
for t in trials:
    print(f"{t['score']:8.1%} {t['rate']:9.2g} {t['batch_size']:6} {t['width']:6}"
          f" {t['dropout']:8} {t['decay']:9.2g}")  # fmt: skip

# %%
figure, row = plt.subplots(1, 3, figsize=(9, 2.8), sharey=True, layout="constrained")
for axes, knob in zip(row, ("rate", "width", "dropout")):
    axes.scatter([t[knob] for t in trials], [t["score"] for t in trials], color="#0072b2")
    axes.set(xlabel=knob, xscale="log" if knob == "rate" else "linear")
    axes.spines[["top", "right"]].set_visible(False)
row[0].set_ylabel("validation accuracy")
figure.savefig(pictures / "04_search.png", dpi=150)

# %% [markdown]
# One knob decides: trials with the wrong learning rate are bad whatever else they have. The others
# make small differences, which brings us to the last question.
#
# ## Is it luck?
#
# Train the best setting again with other seeds. Other initial weights and another order of the same
# images give another score.

# %%
best = {k: v for k, v in trials[0].items() if k not in ("score", "rate")}
scores, tests = [], []
for seed in range(1, 6):
    optimizer = keras.optimizers.Adam(trials[0]["rate"])
    model, run = train(optimizer, epochs=8, seed=seed, **best)
    scores.append(run["val_accuracy"][-1])
    tests.append(model.evaluate(x_test, y_test, verbose=0)[1])
print(f"validation {np.mean(scores):.1%}, give or take {np.std(scores, ddof=1):.1%}")

# %% [markdown]
# Settings whose scores differ by less than this spread are equally good, as far as we can know.
# Report the mean and the spread, not the best of five.
#
# And only now, once, the test set. It may well be lower than the validation score: that is what we
# chose by, and these digits were written by other people.

# %%
print(f"test {np.mean(tests):.1%}, give or take {np.std(tests, ddof=1):.1%}")
assert np.mean(tests) > 0.8

# %% [markdown]
# ## Go on
#
# - Use 20,000 images instead of 1,000 (`n`). Which conclusions hold, and which do not?
# - Add `momentum=0.9` to SGD. Where is the edge of the learning rate now?
# - Replace the dense network with the one of [the third tutorial](03_mnist_cnn.py).
# - Trials do not depend on each other. On a cluster, run one per job: put the number of the trial
#   on the command line.
