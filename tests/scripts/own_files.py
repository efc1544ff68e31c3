"""Saving what is one's own: layers, functions, losses, models in models, and where they are."""

import json
import zipfile

import h5py
import keras
import numpy as np
from keras import layers, ops
from side_by_side import alike

rng = np.random.default_rng(0)
x = rng.random((24, 8)).astype("float32")
y = rng.random((24, 3)).astype("float32")
how = {"batch_size": 8, "shuffle": False, "verbose": 0}
results = {}


def places(path):
    found = []
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.append(name) if "shape" in dir(item) else None)
    return [name for name in found if not name.startswith("optimizer")]


@keras.saving.register_keras_serializable(package="my_package", name="custom_fn")
def custom_fn(x):
    return x**2


@keras.saving.register_keras_serializable(package="MyLayers")
class CustomLayer(layers.Layer):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def call(self, x):
        return x * self.factor

    def get_config(self):
        return {"factor": self.factor}


@keras.saving.register_keras_serializable("MyLosses")
class Scaled(keras.losses.Loss):
    def __init__(self, scale=1.0, name="scaled", **kwargs):
        super().__init__(name=name, **kwargs)
        self.scale = scale

    def call(self, y_true, y_pred):
        return self.scale * ops.mean(ops.abs(y_true - y_pred), axis=-1)

    def get_config(self):
        return {**super().get_config(), "scale": self.scale}


@keras.saving.register_keras_serializable("MyModels")
class Blocks(layers.Layer):
    """Layers in attributes, private ones, lists, lists of lists and a dictionary."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.up = layers.Dense(units, activation="relu")
        self._hidden = layers.Dense(units)
        self.stacked = [[layers.Dense(units), layers.LayerNormalization()], layers.Dense(units)]
        self.heads = {"left": layers.Dense(units), "right": layers.Dense(units)}

    def call(self, x):
        (first, normalize), second = self.stacked
        x = second(normalize(first(self._hidden(self.up(x)))))
        return self.heads["left"](x) - self.heads["right"](x)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable("MyModels")
class Whole(keras.Model):
    def __init__(self, units=4, sub=None, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.blocks = Blocks(units)
        self.norms = [layers.BatchNormalization() for _ in range(2)]
        self.sub = sub or keras.Sequential([layers.Dense(units), layers.Dense(3)], name="sub")

    def call(self, x, training=False):
        x = self.blocks(x)
        for norm in self.norms:
            x = norm(x, training=training)
        return self.sub(x)

    def get_config(self):
        sub = keras.saving.serialize_keras_object(self.sub)
        return {**super().get_config(), "units": self.units, "sub": sub}

    @classmethod
    def from_config(cls, config):
        config["sub"] = keras.saving.deserialize_keras_object(config["sub"])
        return cls(**config)


@keras.saving.register_keras_serializable("MyModels")
class Compiled(keras.Sequential):
    def compile(self, optimizer, loss_fn, metrics=(), alpha=1.0):
        super().compile(optimizer=optimizer, loss=loss_fn, metrics=list(metrics))
        self.alpha, self.loss_fn = alpha, loss_fn

    def get_compile_config(self):
        return {"optimizer": self.optimizer, "loss_fn": self.loss_fn, "alpha": self.alpha}

    def compile_from_config(self, config):
        parts = {key: keras.saving.deserialize_keras_object(config[key]) for key in config}
        self.compile(**parts)
        self.optimizer.build(self.trainable_variables)


inputs = keras.Input((8,))
z = CustomLayer(2.0)(CustomLayer(0.5)(inputs))
z = z / ops.sqrt(ops.cast(4, "float32")) + ops.convert_to_tensor(np.arange(8, dtype="float32"))
functional = keras.Model(inputs, layers.Dense(3, activation=custom_fn)(z))
functional.compile(keras.optimizers.SGD(0.01), Scaled(2.0), metrics=["mae"])
stack = Compiled([keras.Input((8,)), layers.Dense(3)])
stack.compile(keras.optimizers.Adam(0.1), keras.losses.LogCosh(), alpha=0.3)
whole = Whole()
whole(x[:1])
whole.compile("adam", "mse")
for name, model in {"functional": functional, "stack": stack, "whole": whole}.items():
    alike(model)
    first = model.fit(x, y, epochs=2, **how).history
    model.save(f"{name}.keras")
    model.save_weights(f"{name}.weights.h5")
    loaded = keras.models.load_model(f"{name}.keras")
    print(name, type(loaded).__name__, loaded.optimizer.name, int(loaded.optimizer.iterations))
    print(np.abs(loaded.predict(x, verbose=0) - model.predict(x, verbose=0)).max() < 1e-6)
    print(places(f"{name}.weights.h5"))
    results[name] = [first, loaded.fit(x, y, epochs=2, **how).history]
    with zipfile.ZipFile(f"{name}.keras") as archive:
        config = json.loads(archive.read("config.json"))
        print(sorted(archive.namelist()), config["class_name"])
loaded = keras.models.load_model("stack.keras")
print(loaded.alpha, loaded.loss_fn.name, keras.saving.get_registered_name(custom_fn))

config = functional.get_config()
print([(record["class_name"], record["config"].get("factor")) for record in config["layers"][:3]])
twin = keras.Model.from_config(config)
twin.set_weights(functional.get_weights())
results["twin"] = twin.predict(x[:3], verbose=0)
other = Whole(sub=keras.Sequential([layers.Dense(4), layers.Dense(5)], name="sub"))
other(x[:1])
other.load_weights("whole.weights.h5", skip_mismatch=True)
print(np.array_equal(other.blocks.up.get_weights()[0], whole.blocks.up.get_weights()[0]))
