"""A functional ResNet, and one of Block layers in a subclassed model; saved and loaded."""

import keras
import numpy as np
from keras import layers
from side_by_side import alike


def residual_block(x, filters, stride=1):
    shortcut = x
    y = layers.Conv2D(
        filters, 3, strides=stride, padding="same", use_bias=False, kernel_initializer="he_normal"
    )(x)
    y = layers.BatchNormalization()(y)
    y = layers.Activation("relu")(y)
    y = layers.Conv2D(filters, 3, padding="same", use_bias=False)(y)
    y = layers.BatchNormalization()(y)
    if stride != 1 or x.shape[-1] != filters:
        shortcut = layers.Conv2D(filters, 1, strides=stride, use_bias=False)(x)
        shortcut = layers.BatchNormalization()(shortcut)
    return layers.ReLU()(layers.Add()([y, shortcut]))


inputs = keras.Input((16, 16, 3))
x = layers.Conv2D(8, 3, padding="same")(inputs)
for filters, stride in [(8, 1), (16, 2)]:
    x = residual_block(x, filters, stride)
x = layers.GlobalAveragePooling2D()(x)
outputs = layers.Dense(4, activation="softmax")(x)
model = keras.Model(inputs, outputs, name="resnet")
alike(model)
rng = np.random.default_rng(0)
data = rng.normal(size=(24, 16, 16, 3)).astype("float32")
labels = rng.integers(0, 4, 24)
model.compile(
    keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True),
    keras.losses.SparseCategoricalCrossentropy(),
    metrics=[keras.metrics.SparseCategoricalAccuracy(name="acc")],
)
h = model.fit(data, labels, batch_size=8, epochs=2, shuffle=False, verbose=0)


@keras.saving.register_keras_serializable(package="course")
class Block(layers.Layer):
    def __init__(self, filters, stride=1, **kwargs):
        super().__init__(**kwargs)
        self.filters, self.stride = filters, stride
        self.conv1 = layers.Conv2D(filters, 3, strides=stride, padding="same")
        self.bn1 = layers.BatchNormalization()
        self.conv2 = layers.Conv2D(filters, 3, padding="same")
        self.bn2 = layers.BatchNormalization()

    def build(self, input_shape):
        if self.stride != 1 or input_shape[-1] != self.filters:
            self.shortcut = layers.Conv2D(self.filters, 1, strides=self.stride)
        else:
            self.shortcut = layers.Identity()
        super().build(input_shape)

    def call(self, x, training=None):
        y = keras.activations.relu(self.bn1(self.conv1(x), training=training))
        y = self.bn2(self.conv2(y), training=training)
        return keras.ops.relu(y + self.shortcut(x))

    def get_config(self):
        config = super().get_config()
        config.update({"filters": self.filters, "stride": self.stride})
        return config


inputs = keras.Input((16, 16, 3))
x = Block(4)(inputs)
x = Block(8, stride=2, name="second")(x)
outputs = layers.Dense(4)(layers.GlobalMaxPooling2D()(x))
blocks = keras.Model(inputs, outputs)
alike(blocks)
blocks.compile(
    "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
)
h2 = blocks.fit(data, labels, epochs=2, batch_size=8, shuffle=False, verbose=0)
blocks.save("blocks.keras")
loaded = keras.models.load_model("blocks.keras")
same = np.allclose(loaded.predict(data, verbose=0), blocks.predict(data, verbose=0))
print(
    "same",
    same,
    len(blocks.weights),
    len(blocks.trainable_weights),
    len(blocks.non_trainable_weights),
)
print([tuple(w.shape) for w in blocks.get_layer("second").weights])
results = dict(h=h.history, h2=h2.history, logits=loaded.predict(data, verbose=0))
