"""A small network learns from a large one: temperature, `compute_loss`, two losses at once."""

import keras
import numpy as np
from keras import layers, ops
from side_by_side import alike

rng = np.random.default_rng(0)
x = rng.random((80, 10, 10, 1)).astype("float32")
y = (x[:, :5].mean((1, 2, 3)) > x[:, 5:].mean((1, 2, 3))).astype("int32") + (x[:, 0, 0, 0] > 0.8)


def network(filters, name):
    return keras.Sequential(
        [
            keras.Input((10, 10, 1)),
            layers.Conv2D(filters, 3, strides=2, padding="same"),
            layers.LeakyReLU(negative_slope=0.2),
            layers.MaxPooling2D(2, strides=1, padding="same"),
            layers.Conv2D(2 * filters, 3, strides=2, padding="same"),
            layers.Flatten(),
            layers.Dense(3),
        ],
        name=name,
    )


class Distiller(keras.Model):
    def __init__(self, student, teacher):
        super().__init__()
        self.teacher = teacher
        self.student = student

    def compile(self, optimizer, metrics, student_loss_fn, distillation_loss_fn, alpha=0.1,
                temperature=3):  # fmt: skip
        super().compile(optimizer=optimizer, metrics=metrics)
        self.student_loss_fn = student_loss_fn
        self.distillation_loss_fn = distillation_loss_fn
        self.alpha = alpha
        self.temperature = temperature

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, allow_empty=False, training=True
    ):
        teacher_pred = self.teacher(x, training=False)
        student_loss = self.student_loss_fn(y, y_pred)
        distillation_loss = self.distillation_loss_fn(
            ops.softmax(teacher_pred / self.temperature, axis=1),
            ops.softmax(y_pred / self.temperature, axis=1),
        ) * (self.temperature**2)
        return self.alpha * student_loss + (1 - self.alpha) * distillation_loss

    def call(self, x):
        return self.student(x)


teacher, student, alone = network(8, "teacher"), network(2, "student"), network(2, "alone")
alike(teacher, student, alone)
cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
how = {"epochs": 2, "batch_size": 16, "shuffle": False, "verbose": 0}
teacher.compile("adam", cross_entropy, metrics=[keras.metrics.SparseCategoricalAccuracy()])
taught = teacher.fit(x, y, **how).history
before = teacher.get_weights()
distiller = Distiller(student=student, teacher=teacher)
distiller.compile(
    optimizer=keras.optimizers.Adam(),
    metrics=[keras.metrics.SparseCategoricalAccuracy()],
    student_loss_fn=cross_entropy,
    distillation_loss_fn=keras.losses.KLDivergence(),
    alpha=0.1,
    temperature=10,
)
teacher.trainable = False
distilled = distiller.fit(x, y, **how).history
print(sorted(distilled), all(np.array_equal(a, b) for a, b in zip(before, teacher.get_weights())))
scores = distiller.evaluate(x, y, verbose=0)
alone.compile("adam", cross_entropy, metrics=["accuracy"])
by_itself = alone.fit(x, y, validation_split=0.2, **how).history
print(len(distiller.trainable_weights), len(distiller.weights), distiller.student.name)
results = {"taught": taught, "distilled": distilled, "scores": scores, "by_itself": by_itself}
