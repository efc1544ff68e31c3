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
# # 8. Transfer learning
#
# You have a hundred labelled examples. Somebody else has a million of something similar, and a
# network trained on it. The edges, strokes and corners that their network has learned to see are
# useful to you, too: keep them, and learn only the last step.
#
# Here "something similar" are the digits 0 to 4, of which we have plenty, and "yours" are the
# digits 5 to 9, with a handful of labels.

# %%
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from minitorch_ciml import datasets, keras
from minitorch_ciml.keras import layers

pictures = Path(os.environ.get("TUTORIAL_PICTURES", "."))
plt.style.use("tableau-colorblind10")  # colours that everybody can tell apart
samples = int(os.environ.get("TUTORIAL_SAMPLES", 60_000))

# %% [markdown]
# ## Two tasks
#
# The labels of the second task are counted from 0 again, since its network answers with one of five
# classes.

# %%
(x, y), (x_test, y_test) = datasets.digits(samples, 4000)
x, x_test = (a[..., None].astype("float32") / 255 for a in (x, x_test))

x_many, y_many = x[y < 5], y[y < 5]
x_few, y_few = x[y >= 5], y[y >= 5] - 5
x_new, y_new = x_test[y_test >= 5], y_test[y_test >= 5] - 5
print("0 to 4, to learn from:", len(x_many), "  5 to 9, to test with:", len(x_new))


def choose(per_class, seed):
    """`per_class` labelled images of each of the digits 5 to 9."""
    rng = np.random.default_rng(seed)
    places = [rng.choice(np.flatnonzero(y_few == k), per_class, replace=False) for k in range(5)]
    return x_few[np.concatenate(places)], y_few[np.concatenate(places)]


# %% [markdown]
# ## The network of somebody else
#
# Convolutions that see, and a *head* that decides.


# %%
def network():
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(16, 3, activation="relu", name="conv_1"),
            layers.MaxPooling2D(2, name="pool_1"),
            layers.Conv2D(32, 3, activation="relu", name="conv_2"),
            layers.MaxPooling2D(2, name="pool_2"),
            layers.Flatten(name="flat"),
            layers.Dense(64, activation="relu", name="features"),
            layers.Dense(5, activation="softmax", name="head"),
        ]
    )


keras.utils.set_random_seed(1)
old = network()
old.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
epochs = max(2, 20_000 // len(x_many))
old.fit(x_many, y_many, batch_size=64, epochs=epochs, verbose=2)

# %% [markdown]
# ## Weights in a file
#
# A `.weights.h5` file holds the weights, and nothing else: whoever loads it must build the same
# network first. (A `.keras` file holds both.) Keras 3 reads and writes the same files, so the
# network may just as well come from there.

# %%
old.save_weights(pictures / "08_old.weights.h5")

keras.utils.set_random_seed(99)
copy = network()
assert not np.array_equal(copy.get_weights()[0], old.get_weights()[0])
copy.load_weights(pictures / "08_old.weights.h5")
assert all(np.array_equal(a, b) for a, b in zip(copy.get_weights(), old.get_weights()))
print("the copy has the same", copy.count_params(), "weights")

# %% [markdown]
# ## Cut it
#
# A model may end at any layer. This one ends behind the convolutions, at `flat`: 800 numbers that
# say what is where in the image. `trainable = False` freezes its weights.

# %%
body = keras.Model(copy.inputs, copy.get_layer("flat").output, name="body")
body.trainable = False
print("trained:", len(body.trainable_weights), "weights; frozen:", len(body.non_trainable_weights))

# %% [markdown]
# ## A new head
#
# A new layer decides among the digits 5 to 9, and its weights are all that is trained.
# `training=False` is for bodies with dropout or batch normalisation: they should go on as they do
# in `predict`, although the head is being trained.


# %%
def with_new_head(body, seed):
    keras.utils.set_random_seed(seed)
    image = keras.Input((28, 28, 1))
    answer = layers.Dense(5, activation="softmax")(body(image, training=False))
    return keras.Model(image, answer)


def compiled(model, rate=0.003):
    optimizer = keras.optimizers.Adam(rate)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


model = compiled(with_new_head(body, seed=1))
model.summary()
assert len(model.trainable_weights) == 2

# %%
x_ten, y_ten = choose(10, seed=0)
frozen = body.get_weights()
model.fit(x_ten, y_ten, batch_size=10, epochs=30, verbose=0)
_, reused = model.evaluate(x_new, y_new, batch_size=500, verbose=0)
print(f"50 labelled images: {reused:.1%} of {len(x_new)} new digits are right")

assert all(np.array_equal(a, b) for a, b in zip(body.get_weights(), frozen))  # frozen indeed

# %% [markdown]
# ## Compute the features once
#
# The body is frozen, so it gives the same numbers for an image in every epoch. Compute them once,
# and train the head on them alone: the result is the same, and the epochs cost nothing.


# %%
def head_alone(x, y, seed):
    keras.utils.set_random_seed(seed)
    head = keras.Sequential([keras.Input(x.shape[1:]), layers.Dense(5, activation="softmax")])
    compiled(head).fit(x, y, batch_size=10, epochs=30, verbose=0)
    return head


def features(body, x):
    return body.predict(x, batch_size=500, verbose=0)


head = head_alone(features(body, x_ten), y_ten, seed=1)
_, again = head.evaluate(features(body, x_new), y_new, verbose=0)
print(f"the head alone: {again:.1%}")
assert abs(again - reused) < 0.02

# %% [markdown]
# ## Was it worth it, and where to cut?
#
# Compare with a network that has to learn everything from the same few images. And compare with
# another cut, one layer later, at `features`: the 64 numbers from which the old head decided. Each
# training is repeated with other images, because with so few it matters which ones you got.

# %%
later = keras.Model(copy.inputs, copy.get_layer("features").output)
new = {"flat": features(body, x_new), "features": features(later, x_new)}


def from_scratch(x, y, seed):
    keras.utils.set_random_seed(seed)
    model = compiled(network())
    model.fit(x, y, batch_size=10, epochs=15, verbose=0)
    return model.evaluate(x_new, y_new, batch_size=500, verbose=0)[1]


def cut_at(name, model):
    def score(x, y, seed):
        return head_alone(features(model, x), y, seed).evaluate(new[name], y_new, verbose=0)[1]

    return score


numbers = [1, 3, 10, 30]
ways = {
    "cut at flat": cut_at("flat", body),
    "from scratch": from_scratch,
    "cut at features": cut_at("features", later),
}
scores = {
    way: np.array([[score(*choose(n, seed), seed) for seed in range(4)] for n in numbers])
    for way, score in ways.items()
}

# %%
figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
for way, found in scores.items():
    axes.plot(numbers, found.mean(axis=1), "o-", label=way)
    axes.fill_between(numbers, found.min(axis=1), found.max(axis=1), alpha=0.2)
axes.set(xscale="log", xlabel="labelled images of each digit", ylabel="accuracy on new digits")
axes.set_xticks(numbers, [str(n) for n in numbers])
axes.minorticks_off()
axes.spines[["top", "right"]].set_visible(False)
axes.legend(frameon=False)
figure.savefig(pictures / "08_few_labels.png", dpi=150)

# %%
for way, found in scores.items():
    print(f"{way:16}", *(f"{score:6.1%}" for score in found.mean(axis=1)))
assert scores["cut at flat"][1].mean() > scores["from scratch"][1].mean()
assert scores["cut at flat"].mean() > scores["cut at features"].mean()

# %% [markdown]
# The band is the range over the repetitions. With few labels the borrowed convolutions are ahead,
# and they cost next to no time. With many, the network that learns everything catches up.
#
# The later cut is worse than nothing. To tell 0 to 4 apart, the last layers have thrown away
# whatever does not serve that, and a 7 may need just this. *The closer a layer is to the answer,
# the more it belongs to its own task.* Where to cut is a hyperparameter.
#
# ## Fine-tuning
#
# Between the two: start from the borrowed weights, train the head, then *unfreeze* and train all of
# it a little, with small steps, so that what was learned from many images is not forgotten in a few
# large ones. After changing `trainable`, call `compile` again: the optimizer is told there what to
# train.

# %%
x_tune, y_tune = choose(100, seed=0)
model = compiled(with_new_head(body, seed=1))
model.fit(x_tune, y_tune, batch_size=10, epochs=10, verbose=0)
_, before = model.evaluate(x_new, y_new, batch_size=500, verbose=0)

body.trainable = True
compiled(model, rate=0.001).fit(x_tune, y_tune, batch_size=10, epochs=10, verbose=0)
_, after = model.evaluate(x_new, y_new, batch_size=500, verbose=0)

print(f"500 labelled images: frozen {before:.1%}, fine-tuned {after:.1%}")
assert after > before - 0.03

# %% [markdown]
# How much this gains depends on how different the two tasks are. Between digits and digits there is
# little to adapt. From photographs to microscope images it can decide everything.
#
# ## What did it cost?
#
# The body has adapted to the new digits. Does it still serve the old ones? The second half of the
# old network is a model, too: from `flat` to its answer.

# %%
rest = keras.Model(old.get_layer("flat").output, old.get_layer("head").output)
x_old, y_old = x_test[y_test < 5], y_test[y_test < 5]


def old_score():
    answers = rest.predict(features(body, x_old), batch_size=500, verbose=0)
    return np.mean(answers.argmax(axis=1) == y_old)


_, then = old.evaluate(x_old, y_old, batch_size=500, verbose=0)
print(f"digits 0 to 4: {then:.1%} before the fine-tuning, {old_score():.1%} after it")

# %% [markdown]
# Strokes are strokes: the adapted convolutions serve the old digits, too. Now the same with steps
# that are ten times as large:

# %%
compiled(model, rate=0.01).fit(x_tune, y_tune, batch_size=10, epochs=10, verbose=0)
print(f"digits 0 to 4: {old_score():.1%}")
assert old_score() < then

# %% [markdown]
# The old task begins to suffer. In bodies with more freedom, and after longer training, little of
# it may be left: *catastrophic forgetting*. If you need both tasks, keep both files.
#
# ## Go on
#
# - Cut still earlier, at `pool_1`. Why is that not better?
# - Freeze the first convolution only: `trainable` works for each layer by itself.
# - Train the old network with dropout before its head. Is the cut at `features` still as bad?
# - Use the encoder of [the fifth tutorial](05_autoencoder.py), which needed no labels at all, as
#   the body.
