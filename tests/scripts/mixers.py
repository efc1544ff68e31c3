"""Attention's rivals: MLP-Mixer, FNet, gMLP, ConvMixer; a Perceiver; layers dropped at random."""

import keras
import numpy as np
from keras import layers, ops
from side_by_side import alike

rng = np.random.default_rng(0)
x = rng.random((16, 16, 16, 3)).astype("float32")
y = rng.integers(0, 3, 16)
PATCHES, WIDTH = 16, 8


class Patches(layers.Layer):
    def __init__(self, patch_size, **kwargs):
        super().__init__(**kwargs)
        self.patch_size = patch_size

    def call(self, images):
        patches = ops.image.extract_patches(images, self.patch_size)
        n, rows, columns, depth = ops.shape(patches)
        return ops.reshape(patches, (n, rows * columns, depth))


class MLPMixerLayer(layers.Layer):
    def __init__(self, num_patches, hidden_units, dropout_rate, **kwargs):
        super().__init__(**kwargs)
        self.mlp1, self.mlp2 = (
            keras.Sequential([
                layers.Dense(units=num_patches, activation="gelu"),
                layers.Dense(units=units),
                layers.Dropout(rate=dropout_rate),
            ])
            for units in (num_patches, hidden_units)
        )  # fmt: skip
        self.normalize = layers.LayerNormalization(epsilon=1e-6)

    def build(self, input_shape):
        return super().build(input_shape)

    def call(self, inputs):
        channels = ops.transpose(self.normalize(inputs), axes=(0, 2, 1))
        x = ops.transpose(self.mlp1(channels), axes=(0, 2, 1)) + inputs
        return x + self.mlp2(self.normalize(x))


class FNetLayer(layers.Layer):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.ffn = keras.Sequential([layers.Dense(units, activation="gelu"), layers.Dense(units)])
        self.normalize1 = layers.LayerNormalization(epsilon=1e-6)
        self.normalize2 = layers.LayerNormalization(epsilon=1e-6)

    def call(self, inputs):
        real_part, _ = ops.fft2((inputs, ops.zeros_like(inputs)))
        x = self.normalize1(real_part / 16.0 + inputs)
        return self.normalize2(x + self.ffn(x))


class GMLPLayer(layers.Layer):
    def __init__(self, num_patches, units, **kwargs):
        super().__init__(**kwargs)
        self.project = layers.Dense(units=units * 2, activation="gelu")
        self.channel_projection = layers.Dense(units=units)
        self.spatial_projection = layers.Dense(units=num_patches, bias_initializer="Ones")
        self.normalize1 = layers.LayerNormalization(epsilon=1e-6)
        self.normalize2 = layers.LayerNormalization(epsilon=1e-6)

    def call(self, inputs):
        u, v = ops.split(self.project(self.normalize1(inputs)), indices_or_sections=2, axis=2)
        v = ops.transpose(self.normalize2(v), axes=(0, 2, 1))
        v = ops.transpose(self.spatial_projection(v), axes=(0, 2, 1))
        return inputs + self.channel_projection(u * v)


class StochasticDepth(layers.Layer):
    def __init__(self, drop_prob, **kwargs):
        super().__init__(**kwargs)
        self.drop_prob = drop_prob
        self.seed_generator = keras.random.SeedGenerator(1337)

    def call(self, x, training=None):
        if training:
            keep_prob = 1 - self.drop_prob
            shape = (ops.shape(x)[0],) + (1,) * (len(x.shape) - 1)
            drawn = keep_prob + keras.random.uniform(shape, 0, 1, seed=self.seed_generator)
            return (x / keep_prob) * ops.floor(drawn)
        return x


def classifier(blocks):
    inputs = keras.Input(shape=(16, 16, 3))
    z = layers.Dense(WIDTH)(Patches(4)(layers.Rescaling(2.0, -1.0)(inputs)))
    z = StochasticDepth(0.0)(blocks(z))
    z = layers.GlobalAveragePooling1D()(z)
    return keras.Model(inputs=inputs, outputs=layers.Dense(3)(z))


def conv_mixer():
    inputs = keras.Input((16, 16, 3))
    z = layers.Activation("gelu")(layers.Conv2D(WIDTH, kernel_size=4, strides=4)(inputs))
    x0 = z
    z = layers.DepthwiseConv2D(kernel_size=3, padding="same")(z)
    z = layers.Add()([layers.Activation("gelu")(z), x0])
    z = layers.Activation("gelu")(layers.Conv2D(WIDTH, kernel_size=1)(z))
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAvgPool2D()(z)))


class Perceiver(keras.Model):
    def __init__(self, latents):
        super().__init__()
        self.latents = latents
        self.patches, self.project = Patches(4), layers.Dense(WIDTH)
        self.positions = layers.Embedding(PATCHES, WIDTH)
        self.cross = layers.MultiHeadAttention(1, WIDTH)
        self.blocks = [layers.MultiHeadAttention(2, 4), layers.LayerNormalization()]
        self.head = layers.Dense(3)

    def build(self, input_shape):
        self.latent_array = self.add_weight(
            shape=(self.latents, WIDTH), initializer="random_normal", trainable=True, name="array"
        )
        super().build(input_shape)

    def call(self, inputs):
        data = self.project(self.patches(inputs)) + self.positions(ops.arange(PATCHES))
        z = ops.repeat(ops.expand_dims(self.latent_array, 0), ops.shape(inputs)[0], axis=0)
        z = self.cross(z, data)
        attention, normalize = self.blocks
        return self.head(ops.mean(normalize(z + attention(z, z)), axis=1))


models = {
    "mixer": classifier(keras.Sequential([MLPMixerLayer(PATCHES, WIDTH, 0.0) for _ in range(2)])),
    "fnet": classifier(keras.Sequential([FNetLayer(WIDTH)])),
    "gmlp": classifier(keras.Sequential([GMLPLayer(PATCHES, WIDTH) for _ in range(2)])),
    "conv_mixer": conv_mixer(),
    "perceiver": Perceiver(4),
}
models["perceiver"](x[:1])
results = {}
for name, model in models.items():
    alike(model)
    model.compile(
        optimizer=keras.optimizers.AdamW(learning_rate=5e-3, weight_decay=1e-4),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="acc")],
    )
    history = model.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0).history
    results[name] = [history, model.predict(x[:2], verbose=0)]
    print(name, model.count_params(), [w.path for w in model.weights][-3:])
    model.save_weights(f"{name}.weights.h5")
    model.load_weights(f"{name}.weights.h5")
models["mixer"].summary(expand_nested=True)
