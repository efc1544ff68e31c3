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
# can be looked at, and ends with a network that learns. Tensors work in exactly the same way, with
# the same code.
#
# Run it as a script (`python 01_scalar_engine.py`) or cell by cell in an editor that knows `# %%`.
# Pictures are saved in the current folder, or in the one that the environment variable
# `TUTORIAL_PICTURES` names.

# %%
import math
import os
import random
from pathlib import Path

import numpy as np

from minitorch_ciml import GraphError, Scalar, Tensor, no_grad
from minitorch_ciml.ops import tanh

pictures = Path(os.environ.get("TUTORIAL_PICTURES", "."))

# %% [markdown]
# ## The question
#
# Here is one artificial neuron. It weighs two inputs, adds a bias, and squashes the sum to the
# range from -1 to 1. We would like its answer to be 1, so the square of the difference is the
# *loss*: how wrong it is. The inputs are data. The weights and the bias are knobs: *which way, and
# how strongly, does each knob move the loss?* Turn each a little and look.


# %%
def loss_of(w1, w2, b, x1=0.5, x2=-1.0):
    return (math.tanh(w1 * x1 + w2 * x2 + b) - 1) ** 2


step = 1e-6
knobs = {"w1": 0.3, "w2": -0.7, "b": 0.1}
measured = {}
for knob, value in knobs.items():
    more = loss_of(**knobs | {knob: value + step})
    less = loss_of(**knobs | {knob: value - step})
    measured[knob] = (more - less) / (2 * step)
    print(f"{knob}: the loss changes {measured[knob]:+.6f} times as much as the knob")

# %% [markdown]
# These numbers are the *gradient*, d loss / d knob. Raising `w2` makes it worse; raising the other
# two makes it better. But measuring took two runs of the program *per knob*, and networks have
# millions. There is a way to get all of them from one run forward and one walk back.
#
# ## Remember
#
# A `Scalar` is a number that remembers how it was computed. The same neuron again:

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
# ## Rates multiply
#
# A chain of gears: if the second wheel turns 3 times as fast as the first, and the third twice as
# fast as the second, the third turns 6 times as fast as the first. That is the chain rule. From
# `t4` to `loss` there are three steps, and school mathematics knows the rate of each:

# %%
rate_of_tanh = 1 - y.value**2  # y = tanh(t4): d y / d t4
rate_of_minus = 1.0  # t5 = y - 1
rate_of_square = 2 * (y.value - 1)  # loss = t5 ** 2
along = rate_of_square * rate_of_minus * rate_of_tanh
print(f"{rate_of_square:.4f} * {rate_of_minus} * {rate_of_tanh:.4f} = {along:.4f}")
assert abs(along - measured["b"]) < 1e-6  # t4 = t3 + b: the rate of a sum is 1

# %% [markdown]
# ## Watch it
#
# *Backpropagation* is this product, taken from the end: start with d loss / d loss = 1, and at each
# operation multiply by its rate. The product so far is the gradient of the value that was reached,
# and whatever lies behind it needs only that one number.

# %%
film = loss.graph().film(pictures / "01_backward.gif")
film

# %% [markdown]
# The same in one picture, to be read from right to left:

# %%
graph = loss.graph().backward()
graph.draw(pictures / "01_neuron.png")
graph

# %% [markdown]
# And in words. Each operation knows one thing, its *rule*: how to turn the gradient `g` of its
# result into gradients of its inputs. With `trace=True`, `backward` shows each rule, in names and
# in numbers, as it applies it.

# %%
loss.backward(trace=True)

# %% [markdown]
# `backward` leaves the gradients at the leaves, in `.grad`, and forgets the records: they are used
# up. (`backward(retain_graph=True)` keeps them.) They are what we have measured:

# %%
for knob, weight in {"w1": w1, "w2": w2, "b": b}.items():
    print(f"{knob}: computed {weight.grad.item():+.9f}, measured {measured[knob]:+.9f}")
    assert abs(weight.grad.item() - measured[knob]) < 1e-8

# %% [markdown]
# ## Ways add
#
# One thing is missing. A value may be used more than once, and then it moves the loss in several
# ways. Its gradient is the sum over all ways, along each of which rates multiply. Here `a` reaches
# the end in three ways: through either factor of the product, and directly.

# %%
a = Scalar(3.0, name="a")
end = a * a + a
film = end.graph().film(pictures / "01_ways.gif")
end.backward()
print("d (a * a + a) / d a = 3 + 3 + 1 =", a.grad.item())
assert a.grad.item() == 7
film

# %% [markdown]
# So a value's gradient is complete only when everything that used it has been visited. An order in
# which that is always so: from the youngest value to the oldest, since a result is younger than
# what it was made from.
#
# ## Build it yourself
#
# That is all. Here is a complete engine, and it knows everything you have read so far.


# %%
class Value:
    count = 0

    def __init__(self, value, made_from=()):
        self.value, self.grad = value, 0.0
        self.made_from = made_from  # pairs: an input, and the rate at which it moves this value
        Value.count = self.age = Value.count + 1

    def __add__(self, other):
        return Value(self.value + other.value, [(self, 1.0), (other, 1.0)])

    def __mul__(self, other):
        return Value(self.value * other.value, [(self, other.value), (other, self.value)])

    def tanh(self):
        y = math.tanh(self.value)
        return Value(y, [(self, 1 - y**2)])

    def backward(self):
        self.grad = 1.0
        to_visit = {self}
        while to_visit:
            youngest = max(to_visit, key=lambda v: v.age)
            to_visit.remove(youngest)
            for x, rate in youngest.made_from:
                x.grad += youngest.grad * rate  # rates multiply, ways add
                to_visit.add(x)


u1, u2, c = Value(0.3), Value(-0.7), Value(0.1)
wrong = (u1 * Value(0.5) + u2 * Value(-1.0) + c).tanh() + Value(-1.0)
(wrong * wrong).backward()
print(u1.grad, u2.grad, c.grad)
assert np.allclose([u1.grad, u2.grad, c.grad], list(measured.values()))

# %% [markdown]
# The package's engine differs in one idea: its rules are not numbers but formulas, written with
# the operations themselves. So the walk back is a program like any other, which can be recorded,
# printed, run on a GPU, and differentiated again.
#
# Try it: give `Value` an `exp`, and check it by measuring.
#
# ## Two mistakes that everybody makes
#
# Gradients *add* to what is in `.grad`, here to the 7 from above. Who forgets to clear them follows
# the sum of all steps:

# %%
for _ in range(2):
    (a * a).backward()
    print("a.grad =", a.grad.item())
a.zero_grad()
assert a.grad is None

# %% [markdown]
# And records are used up by `backward`. Whoever wants them again is told:

# %%
end = a * a
end.backward()
try:
    end.backward()
except GraphError as error:
    print(error)

# %% [markdown]
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

# %% [markdown]
# What has it learned? Ask it for every point of the plane, not only the four that it was shown. The
# white bands, where it does not know, are drawn by its hidden neurons together.
#
# And how? For a long time it seems to learn nothing: a loss of 4 is that of answering 0 to all four
# questions. Then the hidden neurons begin to differ, and it falls. A flat curve is not always the
# end.

# %%
import matplotlib.pyplot as plt

line = np.linspace(-1.6, 1.6, 25)
with no_grad():  # nothing is to be differentiated, so nothing is recorded
    answers = [[network((float(i), float(j))).value for i in line] for j in line]

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
left.semilogy(losses, color="#0072b2")
left.set(xlabel="step", ylabel="loss", title="Learning the exclusive or")
left.spines[["top", "right"]].set_visible(False)
shown = right.contourf(line, line, answers, np.linspace(-1.25, 1.25, 11), cmap="RdBu")
for (i, j), answer in table:
    right.plot(
        i, j, "o" if answer > 0 else "s", color="black", markersize=8, markerfacecolor="none"
    )
right.set(xlabel="first input", ylabel="second input", title="Its answer: circles 1, squares -1")
right.set_aspect("equal")
figure.colorbar(shown, ax=right, ticks=[-1, 0, 1])
figure.savefig(pictures / "01_learning.png", dpi=150)

# %% [markdown]
# ## How little it is
#
# What you have just used are two files in `minitorch_ciml/autograd`: `engine.py`, variables and
# operations that leave records, and `backward.py`, which walks them back. Open them and read: they
# are a few hundred lines, comments included, and everything else in the package is built on them.

# %%
from minitorch_ciml.autograd import backward, engine

source = [
    line for part in (engine, backward) for line in Path(part.__file__).read_text().splitlines()
]
print(len(source), "lines, of which", sum(1 for line in source if not line.strip()), "are empty")
