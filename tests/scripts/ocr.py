"""Reading captchas: convolutions, recurrent layers, the CTC loss in a layer, words decoded."""

import keras
import numpy as np
from keras import layers, ops
from side_by_side import alike

rng = np.random.default_rng(0)
letters = "abcd"
labels = rng.integers(1, 5, (24, 3))
images = rng.random((24, 16, 6, 1)).astype("float32") * 0.1
for image, label in zip(images, labels):
    for place, letter in enumerate(label):
        image[5 * place + 1 : 5 * place + 4, letter] = 1.0  # a letter is the height of a bar


class CTCLayer(layers.Layer):
    def call(self, y_true, y_pred):
        batch = ops.cast(ops.shape(y_true)[0], dtype="int32")
        input_length = ops.cast(ops.shape(y_pred)[1], dtype="int32") * ops.ones((batch,), "int32")
        label_length = ops.cast(ops.shape(y_true)[1], dtype="int32") * ops.ones((batch,), "int32")
        loss = ops.ctc_loss(y_true, y_pred, label_length, input_length, mask_index=0)
        self.add_loss(ops.mean(loss))
        return y_pred


def build_model():
    input_img = layers.Input(shape=(16, 6, 1), name="image", dtype="float32")
    targets = layers.Input(name="label", shape=(3,), dtype="int32")
    x = layers.Conv2D(4, (3, 3), activation="relu", padding="same", name="Conv1")(input_img)
    x = layers.MaxPooling2D((2, 2), name="pool1")(x)
    x = layers.Reshape(target_shape=(8, 12), name="reshape")(x)
    x = layers.Dense(8, activation="relu", name="dense1")(x)
    x = layers.Bidirectional(layers.LSTM(6, return_sequences=True))(x)
    x = layers.Bidirectional(layers.GRU(4, return_sequences=True))(x)
    x = layers.Dense(6, name="dense2")(x)
    output = CTCLayer(name="ctc_loss")(targets, x)
    model = keras.Model(inputs=[input_img, targets], outputs=output, name="ocr_model_v1")
    alike(model)
    model.compile(optimizer=keras.optimizers.Adam(0.02))
    return model


model = build_model()
model.summary()
stops = keras.callbacks.EarlyStopping(
    monitor="val_loss", patience=2, restore_best_weights=True, mode="min"
)
data = {"image": images, "label": labels}
held = {"image": images[:4], "label": labels[:4]}
history = model.fit(
    data, epochs=4, batch_size=8, shuffle=False, verbose=0, validation_data=held, callbacks=[stops]
).history
prediction_model = keras.Model(model.get_layer(name="image").output,
                               model.get_layer(name="dense2").output)  # fmt: skip
preds = prediction_model.predict(images[:6], verbose=0)
lengths = np.ones(len(preds)) * preds.shape[1]
paths, scores = ops.ctc_decode(preds, sequence_lengths=lengths, strategy="greedy", mask_index=0)
texts = ["".join(letters[i - 1] for i in path if 0 < i <= 4)
         for path in ops.convert_to_numpy(paths)[0]]  # fmt: skip
print(texts, ops.convert_to_numpy(paths).shape)
alone = keras.losses.CTC()(labels[:6], ops.convert_to_numpy(prediction_model(images[:6])))
results = {
    "history": history, "preds": preds, "scores": ops.convert_to_numpy(scores),
    "alone": ops.convert_to_numpy(alone),
}  # fmt: skip
