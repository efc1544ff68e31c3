"""Learning-rate schedules, by themselves and in fit, with optimizers of several kinds."""

import keras
import numpy as np
from keras import layers
from keras.optimizers import schedules
from side_by_side import alike

S = dict(
    exp=schedules.ExponentialDecay(0.1, 10, 0.5),
    inv=schedules.InverseTimeDecay(0.1, 5, 0.5),
    cos=schedules.CosineDecay(0.0, 20, warmup_target=0.1, warmup_steps=5, alpha=0.1),
    restarts=schedules.CosineDecayRestarts(0.1, 6),
    poly=schedules.PolynomialDecay(0.1, 10, 0.01, power=2.0, cycle=True),
    pieces=schedules.PiecewiseConstantDecay([5, 10], [0.1, 0.01, 0.001]),
)
results = {k: [float(s(i)) for i in range(0, 30, 3)] for k, s in S.items()}


class Noam(schedules.LearningRateSchedule):
    def __init__(self, d_model, warmup_steps=4):
        super().__init__()
        self.d_model = d_model
        self.warmup_steps = warmup_steps

    def __call__(self, step):
        step = keras.ops.cast(step, dtype="float32") + 1
        arg1 = 1 / keras.ops.sqrt(step)
        arg2 = step * (self.warmup_steps**-1.5)
        return self.d_model**-0.5 * keras.ops.minimum(arg1, arg2)

    def get_config(self):
        return {"d_model": self.d_model, "warmup_steps": self.warmup_steps}


rng = np.random.default_rng(0)
x = rng.normal(size=(40, 5)).astype("float32")
y = x.sum(1, keepdims=True)
for name, opt in dict(
    noam=keras.optimizers.Adam(Noam(16), beta_1=0.9, beta_2=0.98, epsilon=1e-9),
    adamw=keras.optimizers.AdamW(S["cos"], weight_decay=0.01),
    sgd=keras.optimizers.SGD(S["pieces"], momentum=0.9, clipvalue=0.5),
    nadam=keras.optimizers.Nadam(0.01),
    ema=keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.9),
    acc=keras.optimizers.Adam(0.01, gradient_accumulation_steps=2),
).items():
    m = keras.Sequential([keras.Input((5,)), layers.Dense(4, "swish"), layers.Dense(1)])
    alike(m)
    m.compile(opt, "mse")
    h = m.fit(x, y, epochs=3, batch_size=8, shuffle=False, verbose=0)
    results["h_" + name] = h.history
    results["w_" + name] = m.get_weights()
    print(
        name,
        int(m.optimizer.iterations),
        float(keras.ops.convert_to_numpy(m.optimizer.learning_rate)),
        m.optimizer.get_config()["name"],
    )
