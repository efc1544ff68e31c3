"""A vision transformer and a mixer: patches, a class token, weight decay with exceptions."""

import keras
import numpy as np
from keras import layers, ops
from side_by_side import alike

results = {}
rng = np.random.default_rng(0)
x = rng.random((32, 12, 12, 3)).astype("float32")
y = rng.integers(0, 4, 32)


class Patches(layers.Layer):
    def __init__(self, patch_size, **kwargs):
        super().__init__(**kwargs)
        self.patch_size = patch_size

    def call(self, images):
        input_shape = ops.shape(images)
        batch_size, height, width, channels = (
            input_shape[0],
            input_shape[1],
            input_shape[2],
            input_shape[3],
        )
        patches = ops.image.extract_patches(images, size=self.patch_size)
        return ops.reshape(
            patches,
            (
                batch_size,
                (height // self.patch_size) * (width // self.patch_size),
                self.patch_size * self.patch_size * channels,
            ),
        )

    def get_config(self):
        config = super().get_config()
        config.update({"patch_size": self.patch_size})
        return config


class PatchEncoder(layers.Layer):
    def __init__(self, num_patches, projection_dim):
        super().__init__()
        self.num_patches = num_patches
        self.projection = layers.Dense(units=projection_dim)
        self.position_embedding = layers.Embedding(input_dim=num_patches, output_dim=projection_dim)

    def call(self, patch):
        positions = ops.expand_dims(ops.arange(start=0, stop=self.num_patches, step=1), axis=0)
        return self.projection(patch) + self.position_embedding(positions)

    def get_config(self):
        config = super().get_config()
        config.update({"num_patches": self.num_patches})
        return config


class ClassToken(layers.Layer):
    def build(self, input_shape):
        self.token = self.add_weight(shape=(1, 1, input_shape[-1]), initializer="zeros", name="cls")
        super().build(input_shape)

    def call(self, x):
        token = ops.broadcast_to(self.token, (ops.shape(x)[0], 1, ops.shape(x)[-1]))
        return ops.concatenate([token, x], axis=1)


def mlp(x, hidden_units, dropout_rate):
    for units in hidden_units:
        x = layers.Dense(units, activation=keras.activations.gelu)(x)
        x = layers.Dropout(dropout_rate)(x)
    return x


def vit():
    inputs = keras.Input(shape=(12, 12, 3))
    normal = layers.Normalization(mean=[0.5, 0.4, 0.6], variance=[0.1, 0.2, 0.1])(inputs)
    patches = Patches(4)(normal)
    encoded = PatchEncoder(9, 8)(patches)
    encoded = ClassToken()(encoded)
    for _ in range(2):
        x1 = layers.LayerNormalization(epsilon=1e-6)(encoded)
        a = layers.MultiHeadAttention(num_heads=2, key_dim=4, dropout=0.0)(x1, x1)
        x2 = layers.Add()([a, encoded])
        x3 = layers.LayerNormalization(epsilon=1e-6)(x2)
        x3 = mlp(x3, hidden_units=[16, 8], dropout_rate=0.0)
        encoded = layers.Add()([x3, x2])
    representation = layers.LayerNormalization(epsilon=1e-6)(encoded)
    features = layers.Flatten()(representation[:, 1:])
    logits = layers.Dense(4)(ops.concatenate([features, representation[:, 0]], axis=-1))
    return keras.Model(inputs=inputs, outputs=logits)


model = vit()
alike(model)
optimizer = keras.optimizers.AdamW(
    learning_rate=keras.optimizers.schedules.CosineDecay(
        0.0, 12, warmup_target=1e-2, warmup_steps=4
    ),
    weight_decay=0.05,
)
optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
model.compile(
    optimizer=optimizer,
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=[
        keras.metrics.SparseCategoricalAccuracy(name="accuracy"),
        keras.metrics.SparseTopKCategoricalAccuracy(3, name="top-3-accuracy"),
    ],
)
checkpoint = keras.callbacks.ModelCheckpoint(
    "vit.weights.h5", monitor="val_accuracy", save_best_only=True, save_weights_only=True
)
history = model.fit(
    x,
    y,
    batch_size=8,
    epochs=3,
    validation_split=0.25,
    callbacks=[checkpoint],
    shuffle=False,
    verbose=0,
)
results["history"] = history.history
model.load_weights("vit.weights.h5")
results["best"] = model.evaluate(x, y, verbose=0)
attention = next(x for x in model.layers if isinstance(x, layers.MultiHeadAttention))
scores = keras.Model(model.input, attention.input[0]).predict(x[:2], verbose=0)
_, weights = attention(scores, scores, return_attention_scores=True)
results["attention"] = ops.convert_to_numpy(weights)


class Mixer(layers.Layer):
    def __init__(self, num_patches, hidden_units, dropout_rate, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.mlp1 = keras.Sequential(
            [
                layers.Dense(units=num_patches, activation="gelu"),
                layers.Dense(units=num_patches),
                layers.Dropout(rate=dropout_rate),
            ]
        )
        self.mlp2 = keras.Sequential(
            [
                layers.Dense(units=num_patches, activation="gelu"),
                layers.Dense(units=hidden_units),
                layers.Dropout(rate=dropout_rate),
            ]
        )
        self.normalize = layers.LayerNormalization(epsilon=1e-6)

    def build(self, input_shape):
        return super().build(input_shape)

    def call(self, inputs):
        x = self.normalize(inputs)
        x_channels = ops.transpose(x, axes=(0, 2, 1))
        mlp1_outputs = self.mlp1(x_channels)
        mlp1_outputs = ops.transpose(mlp1_outputs, axes=(0, 2, 1))
        x = mlp1_outputs + inputs
        x_patches = self.normalize(x)
        return x + self.mlp2(x_patches)


class FNet(layers.Layer):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.ffn = keras.Sequential(
            [layers.Dense(units=units, activation="gelu"), layers.Dense(units=units)]
        )
        self.normalize1 = layers.LayerNormalization(epsilon=1e-6)
        self.normalize2 = layers.LayerNormalization(epsilon=1e-6)

    def call(self, inputs):
        real = inputs
        im = ops.zeros_like(inputs)
        x = ops.fft2((real, im))[0]
        x = self.normalize1(x + inputs)
        return self.normalize2(self.ffn(x) + x)


blocks = keras.Sequential([Mixer(9, 8, 0.0), FNet(8)])
inputs = keras.Input((12, 12, 3))
h = PatchEncoder(9, 8)(Patches(4)(inputs))
h = blocks(h)
outputs = layers.Dense(4)(layers.GlobalAveragePooling1D()(h))
mixer = keras.Model(inputs, outputs)
alike(mixer)
mixer.compile(
    keras.optimizers.AdamW(1e-2, weight_decay=1e-3),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["acc"],
)
plateau = keras.callbacks.ReduceLROnPlateau(
    monitor="val_loss", factor=0.5, patience=0, min_delta=0.5
)
results["mixer"] = mixer.fit(
    x,
    y,
    batch_size=8,
    epochs=3,
    validation_split=0.25,
    callbacks=[plateau],
    shuffle=False,
    verbose=0,
).history
mixer.summary()
print(len(model.trainable_weights), model.count_params())
