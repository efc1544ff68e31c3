"""Grad-CAM, saliency, FGSM, maximal activation, a DCT of the weights."""

import keras
import numpy as np
from keras import layers, ops
from side_by_side import alike, gradients_of, watched

rng = np.random.default_rng(0)
x = rng.random((16, 12, 12, 1)).astype("float32")
y = rng.integers(0, 3, 16)
inputs = keras.Input((12, 12, 1))
z = layers.Conv2D(4, 3, activation="relu", name="last_conv")(inputs)
z = layers.GlobalAveragePooling2D()(z)
outputs = layers.Dense(3, name="logits")(z)
model = keras.Model(inputs, outputs)
alike(model)
model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
model.fit(x, y, epochs=2, batch_size=8, shuffle=False, verbose=0)
# Grad-CAM
last = keras.Model(model.inputs, model.get_layer("last_conv").output)
classifier_input = keras.Input(shape=last.output.shape[1:])
c = classifier_input
for name in [layer.name for layer in model.layers[2:]]:
    c = model.get_layer(name)(c)
classifier = keras.Model(classifier_input, c)
conv = watched(keras, ops.convert_to_numpy(last(x[:1])))
preds = classifier(conv)
top = int(np.argmax(ops.convert_to_numpy(preds)[0]))
g = ops.convert_to_numpy(gradients_of(preds[:, top].sum(), [conv])[0])
heat = np.maximum((ops.convert_to_numpy(conv)[0] * g.mean((0, 1, 2))).sum(-1), 0)
# saliency and FGSM
image = watched(keras, x[:2])
loss = keras.losses.sparse_categorical_crossentropy(y[:2], model(image), from_logits=True)
gi = ops.convert_to_numpy(gradients_of(ops.sum(loss), [image])[0])
adv = np.clip(x[:2] + 0.1 * np.sign(gi), 0, 1)
saliency = np.abs(gi).max(-1)
# an image that excites a filter
img = x[:1]
for _ in range(3):
    v = watched(keras, img)
    gr = gradients_of(ops.mean(last(v)[:, 2:-2, 2:-2, 0]), [v])[0]
    gr = gr / (ops.sqrt(ops.mean(ops.square(gr))) + 1e-8)
    img = img + 1.0 * ops.convert_to_numpy(gr)
k = model.get_layer("last_conv").get_weights()[0][:, :, 0]
n = np.arange(3)
D = np.cos(np.pi / 3 * (n[None] + 0.5) * n[:, None])
dct = np.einsum("ui,ijk,vj->uvk", D, k, D)
results = dict(heat=heat, saliency=saliency, adv=model.predict(adv, verbose=0), img=img, dct=dct)
