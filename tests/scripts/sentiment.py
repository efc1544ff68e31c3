"""Texts: a vocabulary by hand, padded numbers, given word vectors, masks, class weights."""

import re
from collections import Counter

import keras
import numpy as np
from keras import layers
from keras.preprocessing.sequence import pad_sequences
from keras.utils import to_categorical
from side_by_side import alike

good, bad = "great fine lovely moving brilliant".split(), "dull poor awful boring weak".split()
filler = "the a film plot actor scene was and it of with very".split()
rng = np.random.default_rng(0)


def review(words):
    parts = rng.choice(filler, rng.integers(4, 12)).tolist() + rng.choice(words, 2).tolist()
    rng.shuffle(parts)
    return " ".join(parts).capitalize() + "!"


labels = (rng.random(60) < 0.3).astype("int32")
texts = [review(good if label else bad) for label in labels]


def tokens(text):
    return re.findall(r"[a-z]+", text.lower())


counts = Counter(word for text in texts for word in tokens(text))
vocabulary = {word: i + 2 for i, (word, _) in enumerate(sorted(counts.items()))}  # 0, 1: see below
size, length = len(vocabulary) + 2, 12
numbers = [[vocabulary.get(word, 1) for word in tokens(text)] for text in texts]
x = pad_sequences(numbers, maxlen=length, padding="post", truncating="post")
print(x.shape, x.dtype, x.min(), size)

vectors = rng.normal(size=(size, 6)).astype("float32") * 0.3  # as if read from a file
vectors[0] = 0


def make(kind):
    inputs = keras.Input((length,), dtype="int32")
    z = layers.Embedding(
        size, 6, mask_zero=True, trainable=False, name="words",
        embeddings_initializer=keras.initializers.Constant(vectors),
    )(inputs)  # fmt: skip
    if kind == "lstm":
        z = layers.Bidirectional(layers.LSTM(5, dropout=0.0), merge_mode="concat")(z)
    elif kind == "gru":
        z = layers.GRU(6, return_sequences=True)(z)
        z = layers.GRU(4, go_backwards=True)(z)
    elif kind == "average":
        z = layers.GlobalAveragePooling1D()(z)
    else:
        z = layers.Conv1D(6, 3, activation="relu")(z)
        z = layers.GlobalMaxPooling1D()(z)
    z = layers.Dense(8, activation="relu")(z)
    model = keras.Model(inputs, layers.Dense(1, activation="sigmoid")(z), name=kind)
    alike(model, weights="trainable_weights")
    return model


counted = np.bincount(labels)
class_weight = {i: len(labels) / (2 * n) for i, n in enumerate(counted)}
results = {}
for kind in ("lstm", "gru", "average", "conv"):
    model = make(kind)
    frozen = model.get_layer("words").get_weights()[0]
    model.compile(
        optimizer=keras.optimizers.RMSprop(0.01),
        loss=keras.losses.BinaryCrossentropy(label_smoothing=0.05),
        metrics=[
            "accuracy",
            keras.metrics.Precision(thresholds=0.5, name="precision"),
            keras.metrics.Recall(name="recall"),
            keras.metrics.AUC(curve="PR", name="pr"),
            keras.metrics.F1Score(threshold=0.5, average="micro", name="f1"),
        ],
    )
    history = model.fit(
        x, labels.reshape(-1, 1).astype("float32"), epochs=3, batch_size=12, shuffle=False,
        verbose=0, class_weight=class_weight,
    ).history  # fmt: skip
    scores = model.predict(x, verbose=0)
    print(kind, scores.shape, sorted(history), np.array_equal(frozen, vectors))
    print(kind, model.count_params(), len(model.trainable_weights))
    results[kind] = {"history": history, "scores": scores[:8]}

# Stars from 1 to 5 as classes, with the words trained.
stars = (labels * 3 + rng.integers(0, 2, 60)).astype("int32")
model = keras.Sequential(
    [
        keras.Input((length,)),
        layers.Embedding(size, 8, mask_zero=True),
        layers.LSTM(8, return_sequences=True),
        layers.LSTM(6),
        layers.Dense(5, activation="softmax"),
    ]
)
alike(model)
model.compile("adam", "categorical_crossentropy", metrics=["categorical_accuracy", "mse"])
codes = to_categorical(stars, 5)
results["stars"] = model.fit(x, codes, epochs=2, batch_size=20, shuffle=False, verbose=0).history
confusion = np.zeros((5, 5), int)
np.add.at(confusion, (stars, model.predict(x, verbose=0).argmax(1)), 1)
print(confusion.sum(), model.layers[0].name, model.layers[0].input_dim)
