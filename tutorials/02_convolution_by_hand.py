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
# # 2. Convolution by hand
#
# A network that looks at pictures slides small *filters* over them. Here we do it with loops on a
# patch of 5 x 6 pixels, then let `ops.conv` and `ops.max_pool` do the same, and then ask what the
# gradient of a filter means.

# %%
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from minitorch_ciml import Parameter, Tensor
from minitorch_ciml.ops import conv, max_pool

pictures = Path(os.environ.get("TUTORIAL_PICTURES", "."))


def show(name, **arrays):
    """Draws arrays side by side, each number in its cell: blue is negative, red is positive."""
    widths = [array.shape[1] for array in arrays.values()]
    size = (0.6 * sum(widths) + 0.6 * len(widths), 3.8)
    figure, row = plt.subplots(1, len(arrays), figsize=size, width_ratios=widths)
    for axes, (title, array) in zip(row, arrays.items()):
        limit = 1.6 * abs(array).max()
        axes.pcolormesh(array, cmap="RdBu_r", vmin=-limit, vmax=limit, edgecolors="white", lw=2)
        axes.set(aspect="equal", ylim=(array.shape[0], 0))
        for (i, j), number in np.ndenumerate(array):
            axes.text(j + 0.5, i + 0.5, f"{number:.2g}", ha="center", va="center", size=9)
        axes.set_title(f"{title}\n{array.shape[0]} x {array.shape[1]}", size=10)
        axes.set_axis_off()
    figure.savefig(pictures / f"02_{name}.png", dpi=150, bbox_inches="tight")


# %% [markdown]
# ## A patch and a filter
#
# The patch shows a bright stroke (9) on a dark ground (0), as in a scanned digit. The filter has
# three equal rows, -1 0 +1: it subtracts what is on the left from what is on the right.

# %%
patch = np.array(
    [
        [0, 0, 9, 9, 0, 0],
        [0, 0, 9, 9, 0, 0],
        [0, 0, 9, 9, 0, 0],
        [0, 0, 0, 9, 9, 0],
        [0, 0, 0, 9, 9, 0],
    ],
    dtype="float32",
)
edge = np.array([[-1, 0, 1]] * 3, dtype="float32")

show("patch_and_filter", patch=patch, filter=edge)

# %% [markdown]
# ## Slide it
#
# At each place, multiply the nine numbers of the filter with the nine pixels below it, and add up.
# A window of 3 pixels has 4 places in a row of 6, and 3 in a column of 5, so the result is 3 x 4.

# %%
edges = np.zeros((3, 4), dtype="float32")
for row in range(3):
    for column in range(4):
        total = 0.0
        for i in range(3):
            for j in range(3):
                total += edge[i, j] * patch[row + i, column + j]
        edges[row, column] = total

print(edges)
show("edges", patch=patch, filter=edge, result=edges)

# %% [markdown]
# Large where it gets brighter from left to right, negative where it gets darker, and zero where
# nothing changes sideways. The filter is an *edge detector*: the result says where, and how much.
#
# ## Keep the strongest
#
# *Max pooling* keeps the largest number of each 2 x 2 window and moves on by 2. Whether the edge
# was a pixel further left does not matter any more, and there are fewer numbers to go on with. (The
# windows at the lower border have only one row left; NumPy's slices stop there by themselves.)

# %%
pooled = np.zeros((2, 2), dtype="float32")
for row in range(2):
    for column in range(2):
        pooled[row, column] = edges[2 * row : 2 * row + 2, 2 * column : 2 * column + 2].max()

show("pooled", edges=edges, pooled=pooled)

# %% [markdown]
# ## The same with ops
#
# Images come in batches and in colours, so they have four dimensions: (images, rows, columns,
# channels). A kernel is (rows, columns, channels in, channels out): many filters at once. We have
# one of each.

# %%
image = Tensor(patch.reshape(1, 5, 6, 1), name="image")
kernel = Parameter(edge.reshape(3, 3, 1, 1), name="filter")

z = conv(image, kernel)
z.name = "edges"
p = max_pool(z, 2, padding="same")
p.name = "pooled"

assert np.array_equal(z.numpy()[0, :, :, 0], edges)
assert np.array_equal(p.numpy()[0, :, :, 0], pooled)
print("the loops and the ops agree")
print(p.graph())

# %% [markdown]
# ## What the gradient of a filter means
#
# Ask for one number of the pooled result, the upper left one: how does it change when the filter
# changes? It is the sum of filter times pixels at the place that won the maximum, so its gradient
# for each number of the filter is the pixel below that number. The gradient *is the piece of the
# image that the filter looked at*.

# %%
only_one = np.zeros((1, 2, 2, 1), dtype="float32")
only_one[0, 0, 0, 0] = 1
p.backward(only_one, trace=True)

seen = kernel.grad.numpy()[:, :, 0, 0]
row, column = np.unravel_index(edges[:2, :2].argmax(), (2, 2))
assert np.array_equal(seen, patch[row : row + 3, column : column + 3])
show("gradient", filter=edge, gradient=seen)

# %% [markdown]
# So a step along the gradient makes the filter look more like what it should respond to, and a step
# against it less so. In training, the gradients of all places and all images add up.
#
# ## Learn the filter
#
# Do we have to invent edge detectors? No. Show the answers, and let the gradient find the filter:
# we start from nothing (zeros), filter a noisy image, compare with what the edge detector gave, and
# move against the gradient of the mean squared difference.

# %%
noise = Tensor(np.random.default_rng(0).normal(size=(1, 16, 16, 1)).astype("float32"))
wanted = conv(noise, edge.reshape(3, 3, 1, 1))
learned = Parameter(np.zeros((3, 3, 1, 1), "float32"), name="learned")

for _ in range(60):
    difference = conv(noise, learned) - wanted
    learned.zero_grad()
    difference.backward(2 * difference.numpy() / difference.size)  # d mean(difference^2)
    learned.assign_sub(0.2 * learned.grad.numpy())

found = learned.numpy()[:, :, 0, 0]
assert np.allclose(found, edge, atol=0.01)
show("learned", wanted=edge, learned=found.round(2) + 0)

# %% [markdown]
# Nobody told it to subtract left from right. A convolutional network learns all of its filters in
# this way, hundreds at once.
