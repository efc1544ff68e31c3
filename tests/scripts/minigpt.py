"""A small GPT: causal masks, two outputs of which one has a loss, texts drawn while it learns."""

import keras
import numpy as np
from keras import layers, ops
from side_by_side import alike

VOCABULARY, LENGTH, WIDTH = 20, 10, 8
rng = np.random.default_rng(0)
tokens = (rng.integers(0, 3, (48, LENGTH + 1)).cumsum(1) % VOCABULARY).astype("int32")


def causal_attention_mask(batch_size, n_dest, n_src, dtype):
    i = ops.arange(n_dest)[:, None]
    j = ops.arange(n_src)
    mask = ops.reshape(ops.cast(i >= j - n_src + n_dest, dtype), [1, n_dest, n_src])
    return ops.tile(mask, (batch_size, 1, 1))


class TransformerBlock(layers.Layer):
    def __init__(self, embed_dim, num_heads, ff_dim, rate=0.0):
        super().__init__()
        self.att = layers.MultiHeadAttention(num_heads, embed_dim)
        self.ffn = keras.Sequential(
            [layers.Dense(ff_dim, activation="relu"), layers.Dense(embed_dim)]
        )
        self.layernorm1 = layers.LayerNormalization(epsilon=1e-6)
        self.layernorm2 = layers.LayerNormalization(epsilon=1e-6)
        self.dropout1 = layers.Dropout(rate)
        self.dropout2 = layers.Dropout(rate)

    def call(self, inputs):
        batch_size, seq_len = ops.shape(inputs)[:2]
        mask = causal_attention_mask(batch_size or 1, seq_len, seq_len, "bool")
        attention_output = self.att(inputs, inputs, attention_mask=mask)
        out1 = self.layernorm1(inputs + self.dropout1(attention_output))
        return self.layernorm2(out1 + self.dropout2(self.ffn(out1)))


class TokenAndPositionEmbedding(layers.Layer):
    def __init__(self, maxlen, vocab_size, embed_dim):
        super().__init__()
        self.token_emb = layers.Embedding(input_dim=vocab_size, output_dim=embed_dim)
        self.pos_emb = layers.Embedding(input_dim=maxlen, output_dim=embed_dim)

    def call(self, x):
        positions = ops.arange(0, ops.shape(x)[-1], 1)
        return self.token_emb(x) + self.pos_emb(positions)


class TextGenerator(keras.callbacks.Callback):
    """Draws after every epoch: the likeliest of the k likeliest, cooled, and a share of them."""

    def __init__(self, max_tokens, start_tokens, top_k=3):
        self.max_tokens, self.start_tokens, self.k = max_tokens, start_tokens, top_k
        self.probabilities = []

    def sample_from(self, logits):
        logits, indices = ops.top_k(logits, k=self.k, sorted=True)
        indices = np.asarray(indices).astype("int32")
        preds = keras.activations.softmax(ops.expand_dims(logits, 0))[0]
        preds = ops.convert_to_numpy(preds).astype("float32")
        self.probabilities.append(preds)
        return int(indices[np.argmax(preds ** (1 / 0.7))])

    def on_epoch_end(self, epoch, logs=None):
        sequence = list(self.start_tokens)
        while len(sequence) <= self.max_tokens:
            pad_len = LENGTH - len(sequence)
            x = np.array([sequence + [0] * pad_len])
            y, _ = self.model.predict(x, verbose=0)
            sequence.append(self.sample_from(y[0][len(sequence) - 1]))
        print("generated:", sequence)


inputs = keras.Input(shape=(LENGTH,), dtype="int32")
x = TokenAndPositionEmbedding(LENGTH, VOCABULARY, WIDTH)(inputs)
x = TransformerBlock(WIDTH, 2, 16)(x)
outputs = layers.Dense(VOCABULARY)(x)
model = keras.Model(inputs=inputs, outputs=[outputs, x])
alike(model)
loss_fn = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(keras.optimizers.Adam(0.01), loss=[loss_fn, None])
model.summary()
writer = TextGenerator(8, [1, 2])
history = model.fit(
    tokens[:, :-1], tokens[:, 1:], epochs=3, batch_size=16, shuffle=False, verbose=0,
    callbacks=[writer],
).history  # fmt: skip
logits, states = model.predict(tokens[:2, :-1], verbose=0)
changed = tokens[:2, :-1].copy()
changed[:, 6:] = 0  # what comes later changes nothing before
print(np.allclose(model.predict(changed, verbose=0)[0][:, :6], logits[:, :6], atol=1e-5))
results = {
    "history": history, "logits": logits, "states": states, "drawn": writer.probabilities[:6],
}  # fmt: skip
