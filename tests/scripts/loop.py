"""A training loop of one's own with stateful optimizers and metrics; gradients by the backend."""

import keras
import numpy as np
from keras import layers
from side_by_side import alike, gradients_of

rng = np.random.default_rng(0)
x = rng.normal(size=(64, 10)).astype("float32")
y = rng.integers(0, 3, 64)
inputs = keras.Input(shape=(10,), name="digits")
z = layers.Dense(
    16, activation="relu", name="dense_1", kernel_regularizer=keras.regularizers.L2(1e-3)
)(inputs)
outputs = layers.Dense(3, name="predictions")(z)
model = keras.Model(inputs=inputs, outputs=outputs)
alike(model)
schedule = keras.optimizers.schedules.ExponentialDecay(0.05, 4, 0.9, staircase=True)
optimizer = keras.optimizers.SGD(schedule, momentum=0.9)
loss_fn = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
train_acc = keras.metrics.SparseCategoricalAccuracy()
losses = []
for _epoch in range(2):
    for step in range(4):
        xb, yb = x[step * 16 : step * 16 + 16], y[step * 16 : step * 16 + 16]
        logits = model(xb, training=True)
        loss_value = loss_fn(yb, logits) + sum(model.losses)
        gradients = gradients_of(loss_value, model.trainable_weights)
        optimizer.apply(gradients, model.trainable_weights)
        train_acc.update_state(yb, logits)
        losses.append(float(loss_value))
        if step % 2 == 0:
            print(f"Training loss (for 1 batch) at step {step}: {float(loss_value):.4f}")
    print(f"Training acc over epoch: {float(train_acc.result()):.4f}")
    train_acc.reset_state()
print(int(optimizer.iterations), float(optimizer.learning_rate))
results = dict(
    losses=losses,
    w=model.get_weights(),
    o=[np.asarray(keras.ops.convert_to_numpy(v)) for v in optimizer.variables],
)
