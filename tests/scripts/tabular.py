"""Tables: gated networks that choose features, a TabTransformer, a cross network, trees."""

import keras
import numpy as np
from keras import layers, ops
from side_by_side import alike

rng = np.random.default_rng(0)
numbers = rng.random((32, 4)).astype("float32")
kinds = rng.integers(0, 3, (32, 2))
y = (numbers.sum(1) + kinds.sum(1) > 4).astype("float32")
data = {f"n{i}": numbers[:, i] for i in range(4)} | {f"k{i}": kinds[:, i] for i in range(2)}


class GatedLinearUnit(layers.Layer):
    def __init__(self, units):
        super().__init__()
        self.linear = layers.Dense(units)
        self.sigmoid = layers.Dense(units, activation="sigmoid")

    def call(self, inputs):
        return self.linear(inputs) * self.sigmoid(inputs)


class GatedResidualNetwork(layers.Layer):
    def __init__(self, units, dropout_rate):
        super().__init__()
        self.units = units
        self.elu_dense = layers.Dense(units, activation="elu")
        self.linear_dense = layers.Dense(units)
        self.dropout = layers.Dropout(dropout_rate)
        self.gated_linear_unit = GatedLinearUnit(units)
        self.layer_norm = layers.LayerNormalization()
        self.project = layers.Dense(units)

    def call(self, inputs):
        x = self.dropout(self.linear_dense(self.elu_dense(inputs)))
        if inputs.shape[-1] != self.units:
            inputs = self.project(inputs)
        return self.layer_norm(inputs + self.gated_linear_unit(x))


class VariableSelection(layers.Layer):
    def __init__(self, num_features, units, dropout_rate):
        super().__init__()
        self.grns = [GatedResidualNetwork(units, dropout_rate) for _ in range(num_features)]
        self.grn_concat = GatedResidualNetwork(units, dropout_rate)
        self.softmax = layers.Dense(units=num_features, activation="softmax")

    def call(self, inputs):
        v = self.grn_concat(layers.concatenate(inputs))
        v = ops.expand_dims(self.softmax(v), axis=-1)
        x = ops.stack([grn(i) for grn, i in zip(self.grns, inputs)], axis=1)
        return ops.squeeze(ops.matmul(ops.transpose(v, axes=(0, 2, 1)), x), axis=1)


class NeuralDecisionTree(keras.Model):
    def __init__(self, depth, used_features, num_classes):
        super().__init__()
        self.depth, self.num_leaves = depth, 2**depth
        self.used_features_mask = np.eye(4, dtype="float32")[used_features]
        self.pi = self.add_weight(
            shape=[self.num_leaves, num_classes], initializer="random_normal", trainable=True
        )
        self.decision_fn = layers.Dense(self.num_leaves, activation="sigmoid", name="decision")

    def call(self, features):
        batch_size = ops.shape(features)[0]
        features = ops.matmul(features, ops.transpose(self.used_features_mask))
        decisions = ops.expand_dims(self.decision_fn(features), axis=2)
        decisions = layers.concatenate([decisions, 1 - decisions], axis=2)
        mu = ops.ones([batch_size, 1, 1])
        begin_idx, end_idx = 1, 2
        for level in range(self.depth):
            mu = ops.tile(ops.reshape(mu, [batch_size, -1, 1]), (1, 1, 2))
            mu = mu * decisions[:, begin_idx:end_idx, :]
            begin_idx, end_idx = end_idx, end_idx + 2 ** (level + 1)
        mu = ops.reshape(mu, [batch_size, self.num_leaves])
        return ops.matmul(mu, keras.activations.softmax(self.pi))


def new_inputs():
    inputs = {f"n{i}": keras.Input((1,), name=f"n{i}") for i in range(4)}
    return inputs | {f"k{i}": keras.Input((), dtype="int64", name=f"k{i}") for i in range(2)}


def selecting():
    inputs = new_inputs()
    encoded = [layers.Dense(5)(inputs[f"n{i}"]) for i in range(4)]
    encoded += [layers.Embedding(3, 5)(inputs[f"k{i}"]) for i in range(2)]
    x = VariableSelection(6, 5, 0.0)(encoded)
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x))


def tab_transformer():
    inputs = new_inputs()
    table = layers.Embedding(3, 4, name="table")
    x = ops.stack([table(inputs[f"k{i}"]) for i in range(2)], axis=1)
    attended = layers.MultiHeadAttention(2, 4, name="attention")(x, x)
    x = layers.LayerNormalization(epsilon=1e-6)(layers.Add(name="skip1")([attended, x]))
    forward = layers.Dense(4, activation="gelu")(x)
    x = layers.LayerNormalization(epsilon=1e-6)(layers.Add(name="skip2")([forward, x]))
    numerical = layers.concatenate([inputs[f"n{i}"] for i in range(4)])
    numerical = layers.LayerNormalization(epsilon=1e-6)(numerical)
    x = layers.concatenate([layers.Flatten()(x), numerical])
    x = layers.Dense(8, activation=keras.activations.selu)(layers.BatchNormalization()(x))
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x))


def deep_and_cross():
    inputs = new_inputs()
    codes = [layers.CategoryEncoding(num_tokens=3, output_mode="one_hot") for _ in range(2)]
    kinds = [code(ops.expand_dims(inputs[f"k{i}"], -1)) for i, code in enumerate(codes)]
    x0 = cross = layers.concatenate([*[inputs[f"n{i}"] for i in range(4)], *kinds])
    for _ in range(2):
        cross = x0 * layers.Dense(cross.shape[-1])(cross) + cross
    deep = layers.ReLU()(layers.BatchNormalization()(layers.Dense(8)(x0)))
    merged = layers.concatenate([layers.BatchNormalization()(cross), deep])
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(merged))


results = {}
how = {"batch_size": 8, "shuffle": False, "verbose": 0}
for make in (selecting, tab_transformer, deep_and_cross):
    model = make()
    alike(model)
    model.compile(
        optimizer=keras.optimizers.AdamW(learning_rate=0.003, weight_decay=1e-4),
        loss=keras.losses.BinaryCrossentropy(),
        metrics=[keras.metrics.BinaryAccuracy(name="accuracy")],
    )
    history = model.fit(data, y, epochs=2, class_weight={0: 1.0, 1: 3.0}, **how).history
    results[make.__name__] = [history, model.predict(data, verbose=0)[:4]]
    print(make.__name__, model.count_params(), sorted(model.input))
inputs = keras.Input((4,))
tree = NeuralDecisionTree(3, [0, 2, 3], 2)
forest = keras.Model(inputs, tree(layers.BatchNormalization()(inputs)))
alike(forest)
forest.compile("adam", "sparse_categorical_crossentropy")
results["tree"] = forest.fit(numbers, y, epochs=2, **how).history
