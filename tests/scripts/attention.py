"""Attention from scratch with a causal mask, and a transformer block in a layer of its own."""

import keras
import numpy as np
from keras import layers, ops
from side_by_side import alike


class SelfAttention(layers.Layer):
    def __init__(self, units, causal=False, **kwargs):
        super().__init__(**kwargs)
        self.units, self.causal = units, causal
        self.q, self.k, self.v = (layers.Dense(units, use_bias=False) for _ in range(3))

    def call(self, x, return_scores=False):
        q, k, v = self.q(x), self.k(x), self.v(x)
        scores = q @ ops.transpose(k, (0, 2, 1)) / ops.sqrt(ops.cast(self.units, "float32"))
        if self.causal:
            steps = ops.arange(ops.shape(x)[1])
            scores = ops.where(steps[:, None] >= steps, scores, -1e9)
        weights = ops.softmax(scores)
        return (weights @ v, weights) if return_scores else weights @ v


class Block(layers.Layer):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, heads, width, hidden):
        super().__init__()
        self.attend = layers.MultiHeadAttention(heads, width // heads)
        self.mlp = keras.Sequential([layers.Dense(hidden, activation="gelu"), layers.Dense(width)])
        self.norms = [layers.LayerNormalization(epsilon=1e-6) for _ in range(2)]

    def call(self, x):
        y = self.norms[0](x)
        x = x + self.attend(y, y)
        return x + self.mlp(self.norms[1](x))


class Places(layers.Layer):
    """Vectors of words plus vectors of their places."""

    def __init__(self, words, places, width):
        super().__init__()
        self.words, self.places = layers.Embedding(words, width), layers.Embedding(places, width)

    def call(self, x):
        return self.words(x) + self.places(ops.arange(ops.shape(x)[-1]))


inputs = layers.Input((12,), dtype="int32")
x = Places(30, 12, 8)(inputs)
x = Block(2, 8, 16)(x)
x = SelfAttention(8, causal=True, name="causal")(x)
x = layers.GlobalAveragePooling1D()(x)
model = keras.Model(inputs, layers.Dense(2, activation="softmax")(x))
alike(model)
rng = np.random.default_rng(0)
tokens = rng.integers(0, 30, (48, 12))
labels = (tokens[:, 0] > 14).astype(int)
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
history = model.fit(tokens, labels, batch_size=16, epochs=3, shuffle=False, verbose=0).history
causal = model.get_layer("causal")
out, scores = causal(rng.normal(size=(1, 5, 8)).astype("float32"), return_scores=True)
print(model.count_params(), [layer.name for layer in model.layers][:3])
results = {
    "history": history,
    "out": ops.convert_to_numpy(out),
    "scores": ops.convert_to_numpy(scores),
}
