"""Second derivatives: a network that obeys a differential equation, and a WGAN with a penalty."""

import keras
import numpy as np
from keras import layers, ops
from side_by_side import alike, gradients_of, watched

rng = np.random.default_rng(0)

# u'' = -u with u(0) = 0 and u'(0) = 1: the sine.
net = keras.Sequential(
    [keras.Input((1,)), layers.Dense(10, "tanh"), layers.Dense(10, "tanh"), layers.Dense(1)]
)
alike(net)
optimizer = keras.optimizers.Adam(0.02)
losses = []
for _step in range(6):
    t = watched(keras, np.linspace(0, 3, 20, dtype="float32")[:, None])
    u = net(t)
    (du,) = gradients_of(ops.sum(u), [t], create_graph=True)
    (ddu,) = gradients_of(ops.sum(du), [t], create_graph=True)
    equation = ops.mean(ops.square(ddu + u))
    start = ops.square(u[0, 0]) + ops.square(du[0, 0] - 1)
    loss = equation + start
    weights = net.trainable_weights
    optimizer.apply(gradients_of(loss, weights), weights)
    losses.append(float(ops.convert_to_numpy(loss)))
print(losses[-1] < losses[0], len(losses))

critic = keras.Sequential(
    [keras.Input((2,)), layers.Dense(8), layers.LeakyReLU(0.2), layers.Dense(1)], name="critic"
)
generator = keras.Sequential([keras.Input((3,)), layers.Dense(8, "elu"), layers.Dense(2)])


class WGANGP(keras.Model):
    def __init__(self, critic, generator, penalty=10.0):
        super().__init__()
        self.critic, self.generator, self.penalty = critic, generator, penalty
        self.draws = np.random.default_rng(5)
        self.built = True

    def compile(self, c_optimizer, g_optimizer):
        super().compile()
        self.c_optimizer, self.g_optimizer = c_optimizer, g_optimizer

    def noise(self, n):
        return self.draws.normal(size=(n, 3)).astype("float32")

    def gradient_penalty(self, real, fake):
        share = self.draws.random((len(real), 1)).astype("float32")
        between = watched(keras, share * real + (1 - share) * fake)
        (g,) = gradients_of(ops.sum(self.critic(between)), [between], create_graph=True)
        norm = ops.sqrt(ops.sum(ops.square(g), axis=1) + 1e-12)
        return ops.mean((norm - 1.0) ** 2)

    def train_step(self, real):
        real = ops.convert_to_numpy(real)
        n = len(real)
        for _ in range(2):
            fake = ops.convert_to_numpy(self.generator(self.noise(n)))
            c_loss = ops.mean(self.critic(fake)) - ops.mean(self.critic(real))
            c_loss = c_loss + self.penalty * self.gradient_penalty(real, fake)
            weights = self.critic.trainable_weights
            self.c_optimizer.apply(gradients_of(c_loss, weights), weights)
        g_loss = -ops.mean(self.critic(self.generator(self.noise(n))))
        weights = self.generator.trainable_weights
        self.g_optimizer.apply(gradients_of(g_loss, weights), weights)
        return {"c_loss": c_loss, "g_loss": g_loss}


alike(critic, generator)
gan = WGANGP(critic, generator)
gan.compile(*(keras.optimizers.Adam(0.01, beta_1=0.5, beta_2=0.9) for _ in range(2)))
real = (rng.normal(size=(32, 2)) + [2, -1]).astype("float32")
history = gan.fit(real, batch_size=8, epochs=2, shuffle=False, verbose=0).history
print(sorted(history))
results = {"losses": losses, "history": history, "u": net.predict(np.ones((2, 1)), verbose=0)}
