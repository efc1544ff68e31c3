"""Actor and critic, Q-learning with a target network, and a network on a graph by segment sums."""

import keras
import numpy as np
from keras import layers, ops
from side_by_side import alike, gradients_of

rng = np.random.default_rng(0)
results = {}


class Corridor:
    """Six places in a row: a step to the right is worth more the farther it leads."""

    def reset(self):
        self.place = 2
        return self.observation()

    def observation(self):
        return np.eye(6, dtype="float32")[self.place]

    def step(self, action):
        self.place = int(np.clip(self.place + (1 if action else -1), 0, 5))
        return self.observation(), float(self.place) - 2.0, self.place in (0, 5)


def actor_critic(episodes=4, gamma=0.99):
    inputs = layers.Input(shape=(6,))
    common = layers.Dense(8, activation="relu")(inputs)
    action = layers.Dense(2, activation="softmax")(common)
    model = keras.Model(inputs=inputs, outputs=[action, layers.Dense(1)(common)])
    alike(model)
    optimizer = keras.optimizers.Adam(learning_rate=0.05)
    huber_loss = keras.losses.Huber()
    env, eps, found = Corridor(), np.finfo(np.float32).eps.item(), []
    for _ in range(episodes):
        log_probs, values, rewards = [], [], []
        state, done = env.reset(), False
        while not done and len(rewards) < 6:
            probs, value = model(ops.expand_dims(ops.convert_to_tensor(state), 0))
            values.append(value[0, 0])
            chosen = int(np.argmax(ops.convert_to_numpy(probs)[0]))  # not drawn: alike in both
            log_probs.append(ops.log(probs[0, chosen]))
            state, reward, done = env.step(chosen)
            rewards.append(reward)
        returns, discounted = [], 0
        for reward in rewards[::-1]:
            discounted = reward + gamma * discounted
            returns.insert(0, discounted)
        returns = np.array(returns)
        returns = ((returns - returns.mean()) / (returns.std() + eps)).tolist()
        actor, critic = [], []
        for log_prob, value, ret in zip(log_probs, values, returns):
            actor.append(-log_prob * (ret - value))
            critic.append(huber_loss(ops.expand_dims(value, 0), ops.expand_dims(ret, 0)))
        loss_value = sum(actor) + sum(critic)
        grads = gradients_of(loss_value, model.trainable_variables)
        optimizer.apply_gradients(zip(grads, model.trainable_variables))
        found.append([float(ops.convert_to_numpy(loss_value)), sum(rewards)])
    return found


def q_learning(updates=6, gamma=0.9):
    def create_q_model():
        return keras.Sequential([
            keras.Input((6,)),
            layers.Dense(8, activation="relu"),
            layers.Dense(2, activation="linear"),
        ])  # fmt: skip

    model, target = create_q_model(), create_q_model()
    alike(model)
    target.set_weights(model.get_weights())
    optimizer = keras.optimizers.Adam(learning_rate=0.01, clipnorm=1.0)
    loss_function = keras.losses.Huber()
    env, memory, losses = Corridor(), [], []
    for action in rng.integers(0, 2, 40):
        if not memory or memory[-1][-1]:
            state = env.reset()
        state_next, reward, done = env.step(action)
        memory.append((state, action, reward, state_next, done))
        state = state_next
    for update in range(updates):
        batch = [memory[i] for i in rng.choice(len(memory), 16)]
        states, actions, rewards, nexts, dones = map(np.array, zip(*batch))
        best = ops.amax(ops.convert_to_tensor(target.predict(nexts, verbose=0)), axis=1)
        wanted = ops.convert_to_numpy(best) * gamma * (1 - dones) + rewards
        masks = ops.one_hot(actions, 2)
        q_action = ops.sum(ops.multiply(model(states), masks), axis=1)
        loss = loss_function(wanted.astype("float32"), q_action)
        grads = gradients_of(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(grads, model.trainable_variables))
        losses.append(float(ops.convert_to_numpy(loss)))
        for a, b in zip(target.weights, model.weights):
            a.assign(b * 0.1 + a * 0.9)
        if update % 3 == 2:
            target.set_weights(model.get_weights())
    return [losses, target.get_weights()[1], model.predict(np.eye(6), verbose=0)]


class GraphConvLayer(layers.Layer):
    def __init__(self, units, normalize=True, **kwargs):
        super().__init__(**kwargs)
        self.normalize = normalize
        self.ffn_prepare = keras.Sequential([layers.Dense(units, activation="gelu")])
        self.update_fn = layers.Dense(units)

    def call(self, inputs):
        nodes, edges, weights = inputs
        node_indices, neighbours = edges[0], edges[1]
        messages = self.ffn_prepare(ops.take(nodes, neighbours, axis=0))
        messages = messages * ops.expand_dims(weights, -1)
        received = ops.segment_sum(messages, node_indices, num_segments=nodes.shape[0])
        updated = self.update_fn(ops.concatenate([nodes, received], axis=1))
        return ops.normalize(updated, axis=-1, order=2) if self.normalize else updated


class GNNNodeClassifier(keras.Model):
    def __init__(self, node_features, edges, classes, **kwargs):
        super().__init__(**kwargs)
        self.node_features, self.edges = ops.convert_to_tensor(node_features), edges
        weights = ops.ones(shape=edges.shape[1])
        self.edge_weights = weights / ops.sum(weights)
        self.preprocess = layers.Dense(4, activation="gelu", name="preprocess")
        self.conv1, self.conv2 = GraphConvLayer(4, name="conv1"), GraphConvLayer(4, name="conv2")
        self.compute_logits = layers.Dense(units=classes, name="logits")

    def call(self, input_node_indices):
        x = self.preprocess(self.node_features)
        x = self.conv1((x, self.edges, self.edge_weights)) + x
        x = self.conv2((x, self.edges, self.edge_weights)) + x
        return self.compute_logits(ops.take(x, input_node_indices, axis=0))


results["actor_critic"] = actor_critic()
results["q_learning"] = q_learning()
nodes = rng.random((12, 5)).astype("float32")
edges = np.stack([np.sort(rng.integers(0, 12, 40)), rng.integers(0, 12, 40)])
gnn = GNNNodeClassifier(nodes, edges, 3, name="gnn_model")
print(tuple(gnn(np.array([1, 10, 4])).shape), gnn.count_params())
alike(gnn)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
gnn.compile(keras.optimizers.Adam(0.01), loss, metrics=["acc"])
ids, kinds = np.arange(12), np.arange(12) % 3
how = {"batch_size": 4, "shuffle": False, "verbose": 0}
results["graph"] = gnn.fit(ids, kinds, epochs=3, validation_data=(ids, kinds), **how).history
gnn.save_weights("gnn.weights.h5")
other = GNNNodeClassifier(nodes, edges, 3)
other(ids)
other.load_weights("gnn.weights.h5")
results["again"] = other.predict(ids, verbose=0)
gnn.summary()
