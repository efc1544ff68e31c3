"""A transformer of one's own layers, that are saved and loaded: positions, blocks, causal masks."""

import keras
import numpy as np
from keras import layers, ops
from side_by_side import alike


@keras.saving.register_keras_serializable(package="course")
class TokenAndPosition(layers.Layer):
    def __init__(self, maxlen, vocabulary, size, **kwargs):
        super().__init__(**kwargs)
        self.maxlen, self.vocabulary, self.size = maxlen, vocabulary, size
        self.tokens = layers.Embedding(vocabulary, size)
        self.positions = layers.Embedding(maxlen, size)

    def call(self, x):
        return self.tokens(x) + self.positions(ops.arange(0, ops.shape(x)[-1]))

    def get_config(self):
        config = super().get_config()
        config.update({"maxlen": self.maxlen, "vocabulary": self.vocabulary, "size": self.size})
        return config


@keras.saving.register_keras_serializable(package="course")
class Block(layers.Layer):
    def __init__(self, size, heads, inner, rate=0.0, causal=False, **kwargs):
        super().__init__(**kwargs)
        self.size, self.heads, self.inner, self.rate, self.causal = size, heads, inner, rate, causal
        self.attention = layers.MultiHeadAttention(num_heads=heads, key_dim=size // heads)
        self.ffn = keras.Sequential([layers.Dense(inner, activation="gelu"), layers.Dense(size)])
        self.norm1, self.norm2 = (layers.LayerNormalization(epsilon=1e-6) for _ in range(2))
        self.drop1, self.drop2 = layers.Dropout(rate), layers.Dropout(rate)

    def build(self, input_shape):
        self.attention.build(input_shape, input_shape)
        self.ffn.build(input_shape)
        self.norm1.build(input_shape)
        self.norm2.build(input_shape)
        super().build(input_shape)

    def call(self, inputs, training=None):
        y = self.attention(inputs, inputs, use_causal_mask=self.causal)
        x = self.norm1(inputs + self.drop1(y, training=training))
        return self.norm2(x + self.drop2(self.ffn(x), training=training))

    def get_config(self):
        mine = {name: getattr(self, name) for name in ("size", "heads", "inner", "rate", "causal")}
        return {**super().get_config(), **mine}

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable(package="course")
def last_step(x):
    return x[:, -1]


def classifier():
    inputs = keras.Input((10,), dtype="int32")
    x = TokenAndPosition(10, 30, 8, name="embed")(inputs)
    x = Block(8, 2, 16, name="block")(x)
    x = layers.GlobalAveragePooling1D()(x)
    x = layers.Dropout(0.0)(x)
    return keras.Model(inputs, layers.Dense(2, activation="softmax")(x), name="classifier")


def language_model():
    inputs = keras.Input((None,), dtype="int32")
    x = TokenAndPosition(10, 30, 8)(inputs)
    x = Block(8, 2, 16, causal=True)(Block(8, 4, 16, causal=True)(x))
    every = layers.Dense(30, name="every")(x)
    last = layers.Lambda(last_step, name="last", output_shape=(30,))(every)
    return keras.Model(inputs, [every, last], name="language")


rng = np.random.default_rng(0)
x = rng.integers(0, 30, (48, 10)).astype("int32")
y = (x[:, :5].sum(1) > x[:, 5:].sum(1)).astype("int32")
model = classifier()
alike(model)
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
first = model.fit(x, y, batch_size=16, epochs=2, validation_split=0.25, shuffle=False, verbose=0)
model.save("classifier.keras")
again = keras.models.load_model("classifier.keras")
print(type(again.layers[1]).__name__, again.get_layer("block").get_config()["inner"])
print(np.allclose(again.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-6))
second = again.fit(x, y, batch_size=16, epochs=1, shuffle=False, verbose=0)
print([w.path for w in model.weights][:3], len(model.weights), model.count_params())

language = language_model()
alike(language)
language.compile(
    keras.optimizers.AdamW(0.003, weight_decay=0.01, global_clipnorm=1.0),
    loss=[keras.losses.SparseCategoricalCrossentropy(from_logits=True), None],
)
third = language.fit(x[:, :-1], x[:, 1:], batch_size=16, epochs=2, shuffle=False, verbose=0)
language.save("language.keras")
language = keras.models.load_model("language.keras")
text = x[:1, :3]
for _ in range(5):
    _, scores = language.predict(text, verbose=0)
    text = np.concatenate([text, scores.argmax(-1)[:, None].astype("int32")], axis=1)
print(text.shape, sorted(third.history))
results = {
    "first": first.history, "second": second.history, "third": third.history, "text": text,
}  # fmt: skip
