"""The mean of several models as a model, votes, and a small model that learns from the mean."""

import keras
import numpy as np
from keras import layers, ops
from side_by_side import alike

rng = np.random.default_rng(0)
x = rng.normal(size=(48, 5)).astype("float32")
y = x[:, :3].argmax(1)


def member(name, units):
    model = keras.Sequential(
        [keras.Input((5,)), layers.Dense(units, "relu"), layers.Dense(3)], name=name
    )
    alike(model)
    return model


members = [member(f"m{i}", 4 + i) for i in range(3)]
for model in members:
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x, y, epochs=2, batch_size=16, shuffle=False, verbose=0)
inputs = keras.Input((5,))
ensemble = keras.Model(inputs, layers.Average()([m(inputs) for m in members]), name="ensemble")
votes = np.stack([m.predict(x, verbose=0).argmax(-1) for m in members])


class Pupil(keras.Model):
    """Learns a mixture of the labels and of what the teacher says, softened."""

    def __init__(self, net, teacher, heat=5.0):
        super().__init__()
        self.net, self.teacher, self.heat = net, teacher, heat
        self.teacher.trainable = False
        self.agreement = keras.metrics.Mean(name="agreement")

    def call(self, x):
        return self.net(x)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, allow_empty=False):
        told = self.teacher(x, training=False)
        hard = keras.losses.sparse_categorical_crossentropy(y, y_pred, from_logits=True)
        soft = keras.losses.kl_divergence(
            ops.softmax(told / self.heat), ops.softmax(y_pred / self.heat)
        )
        same = ops.equal(ops.argmax(told, -1), ops.argmax(y_pred, -1))
        self.agreement.update_state(ops.cast(same, "float32"))
        return ops.mean(0.1 * hard + 0.9 * self.heat**2 * soft)


pupil = Pupil(member("small", 2), ensemble)
pupil.compile(keras.optimizers.Adam(0.01), metrics=[keras.metrics.SparseCategoricalAccuracy()])
history = pupil.fit(x, y, epochs=3, batch_size=16, shuffle=False, verbose=0).history
scores = pupil.evaluate(x, y, verbose=0)
print(len(pupil.trainable_weights), len(pupil.weights), sorted(history))
results = {"p": ensemble.predict(x, verbose=0), "votes": votes, "h": history, "scores": scores}
