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
# # 6. Residual connections
#
# More layers can compute more. For twenty years nobody could train them: somewhere beyond ten
# layers, deeper networks became *worse*, on the training data, too. One plus sign changed that.
# This page shows with single numbers why gradients vanish, then looks at the gradients of real
# networks, and builds a small residual network.

# %%
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from minitorch_ciml import Scalar, datasets, grad, keras, viz
from minitorch_ciml.keras import layers
from minitorch_ciml.keras.ops import convert_to_numpy as to_numpy
from minitorch_ciml.ops import tanh

pictures = Path(os.environ.get("TUTORIAL_PICTURES", "."))
plt.style.use("tableau-colorblind10")  # colours that everybody can tell apart
samples = int(os.environ.get("TUTORIAL_SAMPLES", 20_000))

# %% [markdown]
# ## A product of small factors
#
# Send a number through one layer after another, each `tanh(0.7 * x)`. The chain rule multiplies the
# slopes of all layers, and each of them is at most 0.7. Ten layers leave little of the gradient.

# %%
x = Scalar(0.5, name="x")
y = x
for _ in range(10):
    y = tanh(0.7 * y)
y.backward()
plain = x.grad.item()
print("d y / d x =", plain)
assert plain < 0.7**10

# %% [markdown]
# ## One plus sign
#
# Now let each layer *add* to what comes in: `x + tanh(0.7 * x)`. Its slope is 1 plus the old one.
# It cannot be smaller than 1, so the product cannot vanish, however many layers there are.

# %%
x = Scalar(0.5, name="x")
y = x
for _ in range(3):
    y = y + tanh(0.7 * y)
y.name = "y"
graph = y.graph().backward()
graph.draw(pictures / "06_shortcuts.png")
y.backward()
print("d y / d x =", x.grad.item())
assert x.grad.item() > 1
graph

# %% [markdown]
# Follow the picture from `y` back to `x`: there is a way that passes through nothing but circles
# with a plus, and along it the gradient never gets smaller. An addition hands its gradient on as it
# is. This is the *shortcut*, or *residual connection*: the layer only has to compute what is
# missing, the residual.
#
# Such a product can *grow*, though, and the numbers with it, since every layer adds to them.
# Something has to keep them in bounds.
#
# ## Batch normalisation
#
# `BatchNormalization` (Ioffe and Szegedy, 2015) brings every neuron to mean 0 and standard
# deviation 1 over the batch, then scales and shifts it by two learned numbers.
#
# There is a catch: for one image alone there is no batch to average over. In training the layer
# therefore keeps a running mean and variance, and uses these when it is not training. So it has
# four numbers for each neuron, of which two are not trained.

# %%
layer = layers.BatchNormalization(momentum=0.9)
data = np.random.default_rng(0).normal(5.0, 3.0, size=(256, 1)).astype("float32")
layer.build(data.shape)
before = to_numpy(layer(data, training=False))
for _ in range(50):
    during = to_numpy(layer(data, training=True))
after = to_numpy(layer(data, training=False))

for weight, value in zip(layer.weights, layer.get_weights()):
    print(f"{weight.name:16} {value[0]:.2f}")
for name, values in (("before", before), ("in training", during), ("after", after)):
    print(f"{name:12} mean {values.mean():5.2f}, standard deviation {values.std():.2f}")
assert abs(before.mean() - 5) < 0.5 and abs(during.mean()) < 1e-4 and abs(after.mean()) < 0.1

# %% [markdown]
# That is why `training=True` and `training=False` exist. `fit` says the first, `evaluate` and
# `predict` the second. If a network is good in training and poor in `evaluate` after very few
# steps, its running averages have not caught up yet.
#
# ## Three deep networks
#
# The same in Keras' words. Thirty dense layers of 32 neurons: bare, with batch normalisation, and
# with a shortcut around each as well. A functional model is the natural way to write the last one,
# since its tensors no longer form a single line.


# %%
def deep(depth, kind):
    keras.utils.set_random_seed(1)
    image = keras.Input((28, 28))
    h = layers.Flatten()(image)
    h = layers.Dense(32, name="first")(h)
    for i in range(depth):
        new = layers.Dense(32, activation="relu", name=f"dense_{i + 1}")(h)
        if kind != "plain":
            new = layers.BatchNormalization()(new)
        h = layers.Add()([h, new]) if kind == "shortcuts" else new
    digit = layers.Dense(10, activation="softmax", name="last")(h)
    return keras.Model(image, digit, name=kind.replace(" ", "_"))


(x_train, y_train), (x_test, y_test) = datasets.digits(samples, 2000)
x_train, x_test = x_train.astype("float32") / 255, x_test.astype("float32") / 255

networks = {kind: deep(30, kind) for kind in ("plain", "batch norm", "shortcuts")}
for kind, network in networks.items():
    print(f"{kind:10} {network.count_params():,} weights")

# %% [markdown]
# ## Look at the gradients
#
# How strongly does the loss pull at each layer, before any training? The gradient of a bias is the
# gradient of what its neuron computes, so it tells how much has arrived there. `grad` gives the
# gradients of the loss for a list of weights. (Keras itself leaves this to its backend.)


# %%
def gradients(model, x, y):
    loss = model.compute_loss(x=x, y=y, y_pred=model(x, training=True))
    return grad(loss, model.trainable_weights)


def biases(model):
    """The size of the gradient that arrives at each dense layer, the first one first."""
    found = zip(model.trainable_weights, gradients(model, x_train[:128], y_train[:128]))
    return [float(abs(np.asarray(g)).mean()) for w, g in found if w.path.endswith("/bias")]


flow = {}
for kind, network in networks.items():
    network.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    flow[kind] = biases(network)

figure, axes = plt.subplots(figsize=(6.5, 3), layout="constrained")
for kind, sizes in flow.items():
    axes.semilogy(sizes, "o-", markersize=3, label=kind)
axes.set(xlabel="layer, from the image to the answer", ylabel="mean |gradient|")
axes.spines[["top", "right"]].set_visible(False)
axes.legend(frameon=False)
figure.savefig(pictures / "06_gradient_flow.png", dpi=150)

# %%
for kind, sizes in flow.items():
    print(f"{kind:10} first {sizes[0]:.2g}, last {sizes[-1]:.2g}")
assert flow["plain"][0] < 1e-3 * flow["plain"][-1]  # vanishes
assert flow["batch norm"][0] > 10 * flow["batch norm"][-1]  # grows
assert 0.1 < flow["shortcuts"][0] / flow["shortcuts"][-1] < 100

# %% [markdown]
# Read the picture from right to left, as the gradient flows. In the plain network it shrinks with
# every layer: a straight line on a logarithmic scale is a product of equal factors. Each ReLU lets
# only half of it pass. The first layers get next to nothing. Batch normalisation keeps the
# *numbers* at their size, but to do so it enlarges the small ones, and the gradients with them: now
# they grow on the way back. With shortcuts, the first and the last layers get about the same.
#
# `viz.gradient_flow` draws the gradients of any model, weight by weight. The last few of the plain
# network:

# %%
found = gradients(networks["plain"], x_train[:128], y_train[:128])[-12:]
names = [w.path for w in networks["plain"].trainable_weights[-12:]]
viz.gradient_flow(names, [np.asarray(g) for g in found], path=pictures / "06_by_weight.png")

# %% [markdown]
# The kernels are worse off than the biases. The gradient of a kernel is what arrives from the right
# *times* what came in from the left, and that has shrunk in every layer, too, on its way forward.
# So even the last kernel, next to the loss, gets almost nothing.

# %% [markdown]
# ## What that means for training
#
# All three have the same number of dense layers, start from the same seed and see the same images.

# %%
runs = {}
for kind, network in networks.items():
    runs[kind] = network.fit(
        x_train[:2000], y_train[:2000], batch_size=32, epochs=6, verbose=0,
        validation_data=(x_test, y_test),
    )  # fmt: skip
viz.compare(runs, "accuracy", path=pictures / "06_training.png")

# %%
for kind, run in runs.items():
    print(f"{kind:10} accuracy {run.history['accuracy'][-1]:.1%} in training,"
          f" {run.history['val_accuracy'][-1]:.1%} in validation")  # fmt: skip
assert runs["shortcuts"].history["accuracy"][-1] > runs["plain"].history["accuracy"][-1] + 0.2

# %% [markdown]
# Two of them cannot even fit their training data. That is not overfitting: the gradients are of no
# use. The network with shortcuts learns as if it were shallow.
#
# ## A residual network
#
# He and others (2015) put both together: convolutions, each followed by batch normalisation, and a
# shortcut around every two. Where the number of channels changes, the shortcut gets a convolution
# of 1 x 1 pixel to match.
#
# Our training is short, so the running averages must be quick: with `momentum=0.9` each step brings
# in a tenth of the new batch, with Keras' default of 0.99 a hundredth.


# %%
def norm():
    return layers.BatchNormalization(momentum=0.9)


def block(x, filters, strides=1):
    """Two convolutions and the way around them."""
    shortcut = x
    h = layers.Conv2D(filters, 3, strides, padding="same", use_bias=False)(x)
    h = norm()(h)
    h = layers.ReLU()(h)
    h = layers.Conv2D(filters, 3, padding="same", use_bias=False)(h)
    h = norm()(h)
    if strides > 1 or x.shape[-1] != filters:
        shortcut = layers.Conv2D(filters, 1, strides, use_bias=False)(x)
        shortcut = norm()(shortcut)
    return layers.ReLU()(layers.Add()([h, shortcut]))


keras.utils.set_random_seed(1)
image = keras.Input((28, 28, 1))
h = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(image)
h = layers.ReLU()(norm()(h))
h = block(h, 8)
h = block(h, 16, strides=2)
h = block(h, 32, strides=2)
h = layers.GlobalAveragePooling2D()(h)
digit = layers.Dense(10, activation="softmax")(h)
resnet = keras.Model(image, digit, name="resnet")
print(f"{resnet.count_params():,} weights in {len(resnet.layers)} layers")

# %% [markdown]
# `plot_model` draws models: a box for every layer, with the shape of its output. Coloured boxes
# have weights. This is the second block, with its way around.

# %%
entry = keras.Input((14, 14, 8))
one_block = keras.Model(entry, block(entry, 16, strides=2))
keras.utils.plot_model(one_block, pictures / "06_block.png", show_shapes=True)

# %%
resnet.compile(
    keras.optimizers.Adam(0.003), "sparse_categorical_crossentropy", metrics=["accuracy"]
)
history = resnet.fit(
    x_train[..., None], y_train, batch_size=64, epochs=max(2, 20_000 // len(x_train)), verbose=2,
    validation_data=(x_test[..., None], y_test),
)  # fmt: skip
viz.history(history, path=pictures / "06_history.png")

# %%
assert history.history["val_accuracy"][-1] > 0.8

# %% [markdown]
# ## Go on
#
# - Leave out batch normalisation in `deep`, but keep the shortcuts. Look at the loss before the
#   first step. What has happened?
# - Use "tanh" instead of "relu" in the plain network. Keras' initial weights are made for it.
# - Remove the shortcuts from `block`. How much deeper can you go before the training suffers?
# - Plot the gradient flow again after training.
