"""Sequence to sequence: teacher forcing, an encoder's states, models made of the parts."""

import keras
import numpy as np
from keras import layers, ops
from side_by_side import alike

results = {}
rng = np.random.default_rng(0)
n, t_in, t_out, v_in, v_out, units = 40, 7, 6, 9, 8, 12
encoder_data = keras.utils.to_categorical(rng.integers(0, v_in, (n, t_in)), v_in)
targets = rng.integers(2, v_out, (n, t_out))
decoder_in = np.concatenate([np.ones((n, 1), int), targets[:, :-1]], axis=1)
decoder_data = keras.utils.to_categorical(decoder_in, v_out)
target_data = keras.utils.to_categorical(targets, v_out)

encoder_inputs = keras.Input(shape=(None, v_in), name="encoder_inputs")
encoder = layers.LSTM(units, return_state=True, name="encoder")
encoder_outputs, state_h, state_c = encoder(encoder_inputs)
encoder_states = [state_h, state_c]
decoder_inputs = keras.Input(shape=(None, v_out), name="decoder_inputs")
decoder_lstm = layers.LSTM(units, return_sequences=True, return_state=True, name="decoder")
decoder_outputs, _, _ = decoder_lstm(decoder_inputs, initial_state=encoder_states)
decoder_dense = layers.Dense(v_out, activation="softmax", name="words")
decoder_outputs = decoder_dense(decoder_outputs)
model = keras.Model([encoder_inputs, decoder_inputs], decoder_outputs)
alike(model)
model.compile(optimizer="rmsprop", loss="categorical_crossentropy", metrics=["accuracy"])
history = model.fit(
    [encoder_data, decoder_data],
    target_data,
    batch_size=16,
    epochs=3,
    validation_split=0.2,
    shuffle=False,
    verbose=0,
)
results["history"] = history.history
model.save("s2s.keras")
model = keras.models.load_model("s2s.keras")
results["again"] = model.evaluate([encoder_data, decoder_data], target_data, verbose=0)

# as in keras.io: the models for sampling are made of what was loaded
encoder_inputs = model.input[0]
encoder_outputs, state_h_enc, state_c_enc = model.layers[2].output
encoder_model = keras.Model(encoder_inputs, [state_h_enc, state_c_enc])
decoder_inputs = model.input[1]
state_inputs = [keras.Input(shape=(units,)), keras.Input(shape=(units,))]
decoder_lstm = model.layers[3]
decoder_outputs, h, c = decoder_lstm(decoder_inputs, initial_state=state_inputs)
decoder_outputs = model.layers[4](decoder_outputs)
decoder_model = keras.Model([decoder_inputs] + state_inputs, [decoder_outputs, h, c])


def decode(sequence):
    states = encoder_model.predict(sequence, verbose=0)
    word = np.zeros((1, 1, v_out))
    word[0, 0, 1] = 1
    out = []
    for _ in range(t_out):
        y, h, c = decoder_model.predict([word] + states, verbose=0)
        best = int(np.argmax(y[0, -1]))
        out.append(best)
        word = np.zeros((1, 1, v_out))
        word[0, 0, best] = 1
        states = [h, c]
    return out


results["decoded"] = [decode(encoder_data[i : i + 1]) for i in range(4)]
print([layer.name for layer in model.layers], [len(layer.weights) for layer in model.layers])


# the same with GRU, embeddings, masks and attention, in a subclass
class Translator(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.embed_in = layers.Embedding(v_in + 1, 6, mask_zero=True)
        self.embed_out = layers.Embedding(v_out + 1, 6, mask_zero=True)
        self.encoder = layers.Bidirectional(layers.GRU(5, return_sequences=True, return_state=True))
        self.bridge = layers.Dense(10, activation="tanh")
        self.decoder = layers.GRU(10, return_sequences=True, return_state=True)
        self.attention = layers.AdditiveAttention()
        self.out = layers.Dense(v_out + 1)

    def encode(self, words):
        x, forward, backward = self.encoder(self.embed_in(words))
        return x, self.bridge(ops.concatenate([forward, backward], axis=-1))

    def call(self, inputs, training=None):
        source, target = inputs
        seen, state = self.encode(source)
        x, _ = self.decoder(self.embed_out(target), initial_state=state)
        context = self.attention([x, seen], mask=[None, ops.not_equal(source, 0)])
        return self.out(ops.concatenate([x, context], axis=-1))


source = rng.integers(1, v_in + 1, (n, t_in)).astype("int32")
source[:, 5:] *= rng.integers(0, 2, (n, 1)).astype("int32")
target = np.concatenate([decoder_in + 1, np.zeros((n, 1), int)], axis=1).astype("int32")[:, :-1]
answer = (targets + 1).astype("int32")
answer[: n // 2, -2:] = 0
model = Translator()
model([source[:2], target[:2]])
alike(model)


def masked_loss(y_true, y_pred):
    loss = keras.losses.sparse_categorical_crossentropy(y_true, y_pred, from_logits=True)
    mask = ops.cast(ops.not_equal(y_true, 0), loss.dtype)
    return ops.sum(loss * mask) / ops.maximum(ops.sum(mask), 1.0)


def masked_acc(y_true, y_pred):
    best = ops.cast(ops.argmax(y_pred, axis=-1), y_true.dtype)
    hit = ops.cast(ops.equal(y_true, best), "float32")
    mask = ops.cast(ops.not_equal(y_true, 0), "float32")
    return ops.sum(hit * mask) / ops.sum(mask)


model.compile(
    keras.optimizers.Adam(0.01, clipnorm=1.0), masked_loss, metrics=[masked_acc, masked_loss]
)
results["translator"] = model.fit(
    (source, target),
    answer,
    epochs=2,
    batch_size=8,
    shuffle=False,
    verbose=0,
    validation_data=((source[:8], target[:8]), answer[:8]),
).history
seen, state = model.encode(source[:3])
token, words, finished = np.full((3, 1), 2, "int32"), [], ops.zeros((3, 1), dtype="bool")
for _ in range(5):
    x, state = model.decoder(model.embed_out(token), initial_state=state)
    x = ops.concatenate(
        [x, model.attention([x, seen], mask=[None, ops.not_equal(source[:3], 0)])], axis=-1
    )
    token = ops.argmax(model.out(x), axis=-1)
    finished = ops.logical_or(finished, token == 1)
    token = ops.where(finished, 0, token)
    words.append(ops.convert_to_numpy(token))
results["words"] = np.concatenate(words, axis=1)
model.summary()
