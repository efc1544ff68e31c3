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
# # 1. The scalar engine
#
# Deep learning needs one piece of mathematics, the chain rule, and one piece of bookkeeping: to
# remember which operations were done. This page shows both on single numbers, where every step
# can be looked at. Tensors work in exactly the same way, with the same code.
#
# Run it as a script (`python 01_scalar_engine.py`) or cell by cell in an editor that knows `# %%`.
# Pictures are saved in the current folder, or in the one that the environment variable
# `TUTORIAL_PICTURES` names.

# %%
import os
import random
from pathlib import Path

import numpy as np

from minitorch_ciml.autograd import Scalar, Tensor
from minitorch_ciml.ops import tanh

pictures = Path(os.environ.get("TUTORIAL_PICTURES", "."))

# %% [markdown]
# ## Record
#
# A `Scalar` is a number that remembers how it was computed. Here is one artificial neuron: it
# weighs two inputs, adds a bias, and squashes the sum to the range from -1 to 1. We would like its
# answer to be 1, so the square of the difference is the *loss*: how wrong it is.
#
# Inputs are data and need no gradient. Weights and bias do: they are what we can change.

# %%
x1 = Scalar(0.5, requires_grad=False, name="x1")
x2 = Scalar(-1.0, requires_grad=False, name="x2")
w1, w2, b = Scalar(0.3, name="w1"), Scalar(-0.7, name="w2"), Scalar(0.1, name="b")

y = tanh(w1 * x1 + w2 * x2 + b)
y.name = "y"
loss = (y - 1) ** 2
loss.name = "loss"

print(loss.graph())

# %% [markdown]
# Every line is one operation, the oldest first. Names that we did not give were made up: `t1`,
# `t2`, ... Nothing else is recorded, and nothing else is needed.
#
# ## Draw
#
# A *gradient* says how much the loss changes when a value changes a little: d loss / d value.
# `Graph.backward` computes it for every value in the graph, so that we can look at them.

# %%
graph = loss.graph().backward()
graph.draw(pictures / "01_neuron.png")
graph

# %% [markdown]
# Read it from right to left. The loss changes by 1 when the loss changes by 1. The gradient of `y`
# is negative: a larger `y` means a smaller loss. And so on, back to the weights.
#
# ## Backpropagate, step by step
#
# Each operation knows one thing: how to turn the gradient of its result into gradients of its
# inputs. For `y = tanh(t)` it is `g * (1 - y * y)`. With `trace=True`, `backward` shows each of
# these rules, in names and in numbers, as it applies them.

# %%
loss.backward(trace=True)

# %% [markdown]
# `backward` leaves the gradients at the leaves, in `.grad`, and forgets the records: they are used
# up. (`backward(retain_graph=True)` keeps them.)

# %%
print("d loss / d w1 =", w1.grad, " d loss / d w2 =", w2.grad, " d loss / d b =", b.grad)

# %% [markdown]
# ## Check against a finite difference
#
# Do not believe it: measure. Change one weight by a tiny bit, compute the loss again, and divide.


# %%
def loss_of(w1, w2, b):
    return (tanh(w1 * 0.5 + w2 * -1.0 + b) - 1) ** 2


step = 1e-6
difference = (
    loss_of(Scalar(0.3 + step), -0.7, 0.1) - loss_of(Scalar(0.3 - step), -0.7, 0.1)
).item()
measured = difference / (2 * step)
print(f"measured {measured:.9f}, computed {w1.grad.item():.9f}")
assert abs(measured - w1.grad.item()) < 1e-8

# %% [markdown]
# Measuring needs two more runs of the program *per weight*. The chain rule gives all gradients in
# one walk back, however many weights there are. That is why networks with millions of weights can
# be trained.
#
# ## The same with tensors
#
# A `Tensor` holds an array instead of a number. It records with the same operations and is
# differentiated by the same code, so the numbers agree.

# %%
x = Tensor([0.5, -1.0], name="x")
w = Tensor([0.3, -0.7], requires_grad=True, name="w")
y = tanh((w * x).sum() + 0.1)
loss = (y - 1) ** 2
loss.name = "loss"
graph = loss.graph().backward()
graph.draw(pictures / "01_tensors.png")
loss.backward()
print(w.grad)
assert np.allclose(w.grad, [w1.grad.item(), w2.grad.item()], atol=1e-6)
graph

# %% [markdown]
# ## Learn
#
# A single neuron draws one straight line between yes and no. The exclusive or (XOR: exactly one of
# two inputs is on) needs two lines, so it needs neurons behind neurons: here 2 inputs, 8 hidden
# neurons and 1 output, 33 weights in all, every one a single number.
#
# To train is to repeat: compute the loss, ask for its gradients, move each weight a little against
# its gradient.

# %%
random.seed(2)
hidden = [[Scalar(random.gauss(0, 1)) for _ in range(3)] for _ in range(8)]
output = [Scalar(random.gauss(0, 0.5)) for _ in range(9)]
weights = [w for neuron in hidden for w in neuron] + output


def neuron(weights, inputs):
    *ws, bias = weights
    return tanh(sum((w * x for w, x in zip(ws, inputs)), bias))


def network(inputs):
    return neuron(output, [neuron(ws, inputs) for ws in hidden])


table = [((-1, -1), -1), ((-1, 1), 1), ((1, -1), 1), ((1, 1), -1)]  # off is -1, on is 1
losses = []
for _ in range(200):
    loss = sum((network(inputs) - answer) ** 2 for inputs, answer in table)
    for w in weights:
        w.zero_grad()
    loss.backward()
    for w in weights:
        w.value -= 0.1 * w.grad.value
    losses.append(loss.value)

for inputs, answer in table:
    print(inputs, "->", round(network(inputs).value, 2), "should be", answer)
assert losses[-1] < 0.1

# %%
import matplotlib.pyplot as plt

figure, axes = plt.subplots(figsize=(5, 2.6), layout="constrained")
axes.semilogy(losses, color="#0072b2")
axes.set(xlabel="step", ylabel="loss", title="Learning the exclusive or")
axes.spines[["top", "right"]].set_visible(False)
figure.savefig(pictures / "01_learning.png", dpi=150)

# %% [markdown]
# ## How little it is
#
# What you have just used is `minitorch_ciml/autograd/engine.py`: variables, operations, records,
# and one function that walks them back. Open it and read it from the top; comments included it is
# a few hundred lines, and everything else in the package is built on it.

# %%
import minitorch_ciml.autograd.engine as engine

source = Path(engine.__file__).read_text().splitlines()
print(len(source), "lines, of which", sum(1 for line in source if not line.strip()), "are empty")
