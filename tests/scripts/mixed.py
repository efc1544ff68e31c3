"""Mixed precision: policies of layers and models, dtypes, losses in 32 bits, scaled losses."""

import keras
import numpy as np
from keras import layers, mixed_precision
from side_by_side import alike

rng = np.random.default_rng(0)
x = rng.normal(size=(32, 8)).astype("float32")
y = rng.integers(0, 3, 32)
mixed_precision.set_global_policy("mixed_bfloat16")
try:
    model = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(16, activation="relu", name="first"),
            layers.BatchNormalization(name="norm"),
            layers.Dropout(0.0),
            layers.Dense(3, name="scores"),
            layers.Activation("softmax", dtype="float32", name="probabilities"),
        ]
    )
    alike(model)
    print(keras.config.dtype_policy().name, model.dtype_policy.name, model.compute_dtype)
    for layer in model.layers:
        print(layer.name, layer.dtype_policy.name, layer.compute_dtype, layer.variable_dtype)
    print([str(keras.backend.standardize_dtype(w.dtype)) for w in model.weights])
    print(keras.backend.standardize_dtype(model(x[:2]).dtype))
    print(keras.backend.standardize_dtype(model.get_layer("first")(x[:2]).dtype))
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    bfloat = model.fit(x, y, epochs=2, batch_size=16, shuffle=False, verbose=0).history
    predictions = model.predict(x[:4], verbose=0)
    print(predictions.dtype, sorted(bfloat))
    model.save("mixed.keras")
finally:
    mixed_precision.set_global_policy("float32")
again = keras.models.load_model("mixed.keras")
print(again.get_layer("first").dtype_policy.name, again.layers[-1].compute_dtype)
inputs = keras.Input((8,))
hidden = layers.Dense(4, dtype="mixed_float16", activation="tanh", name="half")(inputs)
outputs = layers.Dense(1, dtype="float32", name="full")(hidden)
half = keras.Model(inputs, outputs)
alike(half)
print(inputs.dtype, hidden.dtype, outputs.dtype)
optimizer = mixed_precision.LossScaleOptimizer(keras.optimizers.Adam(0.01))
half.compile(optimizer, "mse")
scaled = half.fit(x, x[:, :1], epochs=2, batch_size=16, shuffle=False, verbose=0).history
print(float(optimizer.dynamic_scale) > 1, type(half.optimizer).__name__)
double = keras.Sequential([keras.Input((8,)), layers.Dense(2, dtype="float64")])
print(keras.backend.standardize_dtype(double(x[:1]).dtype), double.layers[0].dtype)
results = {
    "same": bool(np.allclose(again.predict(x[:4], verbose=0), predictions, atol=1e-2)),
    "scaled": np.round(scaled["loss"], 2), "bfloat": np.round(bfloat["loss"], 1),
}  # fmt: skip
