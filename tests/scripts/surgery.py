"""Looking at a network, and putting it together anew: heads, branches, clones, parts that learn."""

import keras
import numpy as np
from keras import layers, ops
from side_by_side import alike

rng = np.random.default_rng(0)
x = rng.random((24, 16, 16, 3)).astype("float32")
y = rng.integers(0, 4, 24)


def backbone():
    inputs = keras.Input((16, 16, 3), name="photo")
    z = layers.Conv2D(6, 3, padding="same", activation="relu", name="conv1")(inputs)
    z = layers.MaxPool2D(name="pool1")(z)
    skip = z
    z = layers.SeparableConv2D(6, 3, padding="same", name="conv2")(z)
    z = layers.add([z, skip], name="sum")
    z = layers.GlobalAvgPool2D(name="features")(z)
    return keras.Model(inputs, layers.Dense(10, activation="softmax", name="old")(z), name="net")


model = backbone()
alike(model)
lines = []
model.summary(print_fn=lambda line, **kwargs: lines.append(line))
print([layer.name for layer in model.layers], model.input_shape, model.output_shape)
print([tuple(w.shape) for w in model.weights], model.count_params())
print(model.layers[1].output.shape, model.get_layer(index=-1).units, model.inputs[0].name)
print(sum("conv1" in line for line in "\n".join(lines).split("\n")))

# A new head; only it learns at first, then the last convolution, too.
model.trainable = False
new = layers.Dense(4, name="new")(model.get_layer("features").output)
tuned = keras.Model(model.input, new, name="tuned")
alike(tuned)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
tuned.compile(keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True), loss, metrics=["accuracy"])
how = {"epochs": 2, "batch_size": 8, "shuffle": False, "verbose": 0}
head = tuned.fit(x, y, **how).history
print([w.name for w in tuned.trainable_weights])
for layer in tuned.layers:
    layer.trainable = layer.name in ("conv2", "new")
tuned.compile(keras.optimizers.SGD(0.01), loss, metrics=["accuracy"])
tail = tuned.fit(x, y, **how).history
print([w.path for w in tuned.trainable_weights])

# Several layers at once, a branch beside it, and one network inside another.
several = keras.Model(tuned.inputs, [tuned.get_layer(n).output for n in ("conv1", "features")])
maps, features = several(x[:2])
branch = layers.Flatten()(layers.AveragePooling2D(4)(tuned.input))
joined = layers.Concatenate()([tuned.get_layer("features").output, branch])
wide = keras.Model(tuned.input, layers.Dense(2, activation="relu", name="wide")(joined))
alike(wide)
outer_in = keras.Input((16, 16, 3))
outer = keras.Model(outer_in, layers.Softmax()(tuned(layers.Rescaling(2.0, -1.0)(outer_in))))
print(tuple(maps.shape), wide.output_shape, [layer.name for layer in outer.layers][2:])
print(outer.get_layer("tuned").get_layer("new").units, len(outer.layers))

# Clones: as it is, with other arguments, with other layers, with layers in between.
clone = keras.models.clone_model(tuned)
clone.set_weights(tuned.get_weights())


def wider(layer):
    if isinstance(layer, layers.Conv2D) and not isinstance(layer, layers.SeparableConv2D):
        return layers.Conv2D.from_config({**layer.get_config(), "activation": "tanh"})
    return layer.__class__.from_config(layer.get_config())


def normalized(layer, *args, **kwargs):
    z = layer(*args, **kwargs)
    return layers.LayerNormalization(name=f"{layer.name}_norm")(z) if "conv" in layer.name else z


other = keras.models.clone_model(tuned, clone_function=wider)
other.set_weights(tuned.get_weights())
between = keras.models.clone_model(tuned, call_function=normalized)
alike(between)
print([layer.name for layer in between.layers])
print(clone.optimizer is not tuned.optimizer, other.get_layer("conv1").activation.__name__)
stack = keras.Sequential([tuned.get_layer("conv1"), tuned.get_layer("pool1"), layers.Flatten()])
print(stack(x[:1]).shape[-1], stack.layers[0] is tuned.layers[1])
stack.pop()
stack.add(layers.GlobalMaxPooling2D())
config = tuned.get_config()
print(config["name"], [record["class_name"] for record in config["layers"]])
results = {
    "head": head, "tail": tail, "maps": ops.convert_to_numpy(maps)[0, :3, :3],
    "wide": wide.predict(x[:3], verbose=0), "outer": outer.predict(x[:3], verbose=0),
    "clone": clone.predict(x[:3], verbose=0), "other": other.predict(x[:3], verbose=0),
    "between": between.predict(x[:3], verbose=0), "stack": ops.convert_to_numpy(stack(x[:2])),
}  # fmt: skip
