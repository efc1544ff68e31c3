"""One network for two images, their distance, a contrastive loss; then a triplet loss."""

import keras
import numpy as np
from keras import layers, ops
from side_by_side import alike


def distance(pair):
    a, b = pair
    return ops.sqrt(ops.maximum(ops.sum((a - b) ** 2, axis=1, keepdims=True), 1e-7))


def contrastive(margin):
    def loss(y_true, y_pred):  # gets (N,) and (N, 1), which must not become (N, N)
        apart = ops.maximum(margin - y_pred, 0.0)
        return ops.mean((1 - y_true) * y_pred**2 + y_true * apart**2)

    return loss


image = keras.Input((14, 14, 1))
x = layers.Conv2D(4, 5, activation="tanh")(image)
x = layers.BatchNormalization()(layers.Flatten()(layers.AveragePooling2D(2)(x)))
embed = keras.Model(image, layers.Dense(10, activation="tanh")(x), name="embed")
left, right = keras.Input((14, 14, 1), name="left"), keras.Input((14, 14, 1), name="right")
apart = layers.Lambda(distance, output_shape=(1,))([embed(left), embed(right)])
model = keras.Model([left, right], layers.Dense(1, activation="sigmoid")(apart))
alike(model)
model.compile("rmsprop", contrastive(1.0), metrics=["accuracy"])
rng = np.random.default_rng(0)
a, b = rng.random((2, 32, 14, 14, 1)).astype("float32")
y = rng.integers(0, 2, 32).astype("float32")
pairs = model.fit([a, b], y, batch_size=8, epochs=3, shuffle=False, verbose=0).history
scores = model.evaluate({"left": a, "right": b}, y, verbose=0)


class Triplet(keras.Model):
    def __init__(self, net, margin):
        super().__init__()
        self.net, self.margin = net, margin

    def call(self, inputs, training=None):
        return [self.net(x, training=training) for x in inputs]

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
        anchor, positive, negative = y_pred
        near, far = (ops.sum((anchor - z) ** 2, axis=-1) for z in (positive, negative))
        return ops.mean(ops.maximum(near - far + self.margin, 0.0))


triplet = Triplet(embed, 0.5)
alike(embed)
triplet.compile("adam")
three = [a, b, a[::-1].copy()]
triplets = triplet.fit(three, epochs=2, batch_size=8, shuffle=False, verbose=0).history
print(sorted(triplets), triplet.evaluate(three, verbose=0) > 0)
results = {"pairs": pairs, "scores": scores, "triplets": triplets, "w": embed.get_weights()[:2]}
