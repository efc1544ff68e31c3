"""Regularizers, constraints, initializers, noise-free dropout, spectral things."""

import keras
import numpy as np
from keras import constraints, initializers, layers, regularizers
from side_by_side import alike

rng = np.random.default_rng(0)
x = rng.normal(size=(40, 6)).astype("float32")
y = rng.integers(0, 3, 40)


class Orthogonal(regularizers.Regularizer):
    def __init__(self, s=0.01):
        self.s = s

    def __call__(self, w):
        return self.s * keras.ops.sum(keras.ops.square(keras.ops.matmul(keras.ops.transpose(w), w)))

    def get_config(self):
        return {"s": self.s}


class Clip(constraints.Constraint):
    def __call__(self, w):
        return keras.ops.clip(w, -0.5, 0.5)


m = keras.Sequential(
    [
        keras.Input((6,)),
        layers.Dense(
            8,
            "relu",
            kernel_regularizer=regularizers.l1_l2(l1=1e-3, l2=1e-3),
            bias_regularizer="l2",
            activity_regularizer=regularizers.L2(1e-3),
            name="a",
        ),
        layers.Dense(
            8,
            "relu",
            kernel_constraint=constraints.MaxNorm(1.0),
            bias_constraint="non_neg",
            kernel_regularizer=Orthogonal(),
            name="b",
        ),
        layers.Dense(8, kernel_constraint=Clip(), use_bias=False, name="c"),
        layers.Dense(
            3,
            "softmax",
            kernel_constraint=constraints.UnitNorm(axis=0),
            kernel_initializer=initializers.RandomNormal(stddev=0.1),
            name="d",
        ),
    ]
)
alike(m)
m.compile(keras.optimizers.SGD(0.5), "sparse_categorical_crossentropy", metrics=["accuracy"])
h = m.fit(x, y, epochs=3, batch_size=8, shuffle=False, verbose=0)
print(len(m.losses))
print([round(float(v), 4) for v in m.losses])
b = m.get_layer("b").get_weights()[0]
print(np.linalg.norm(b, axis=0).max() < 1.0001, abs(m.get_layer("c").get_weights()[0]).max() <= 0.5)
print(
    m.get_layer("a").kernel_regularizer.get_config(),
    m.get_layer("b").kernel_constraint.get_config(),
)
results = dict(h=h.history, w=m.get_weights())
