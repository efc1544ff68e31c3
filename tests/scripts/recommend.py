"""Recommendations: two towers, dot products, in-batch negatives, ranks, a restored schedule."""

import keras
import numpy as np
from keras import layers, ops
from side_by_side import alike

results = {}
rng = np.random.default_rng(0)
n, users, movies = 120, 15, 20
user = rng.integers(0, users, n).astype("int32")
movie = rng.integers(0, movies, n).astype("int32")
rating = rng.random(n).astype("float32")


class RecommenderNet(keras.Model):
    def __init__(self, num_users, num_movies, embedding_size, **kwargs):
        super().__init__(**kwargs)
        self.user_embedding = layers.Embedding(
            num_users,
            embedding_size,
            embeddings_initializer="he_normal",
            embeddings_regularizer=keras.regularizers.l2(1e-3),
        )
        self.user_bias = layers.Embedding(num_users, 1)
        self.movie_embedding = layers.Embedding(
            num_movies,
            embedding_size,
            embeddings_initializer="he_normal",
            embeddings_regularizer=keras.regularizers.l2(1e-3),
        )
        self.movie_bias = layers.Embedding(num_movies, 1)

    def call(self, inputs):
        user_vector = self.user_embedding(inputs[:, 0])
        user_bias = self.user_bias(inputs[:, 0])
        movie_vector = self.movie_embedding(inputs[:, 1])
        movie_bias = self.movie_bias(inputs[:, 1])
        dot_user_movie = ops.tensordot(user_vector, movie_vector, 2)
        x = dot_user_movie + user_bias + movie_bias
        return ops.nn.sigmoid(x)


x = np.stack([user, movie], axis=1)
model = RecommenderNet(users, movies, 6)
model(x[:2])
alike(model)
model.compile(
    loss=keras.losses.BinaryCrossentropy(), optimizer=keras.optimizers.Adam(learning_rate=0.001)
)
results["ratings"] = model.fit(
    x, rating, batch_size=16, epochs=2, verbose=0, shuffle=False, validation_split=0.1
).history
scores = model.predict(np.hstack([[[3]] * movies, np.arange(movies)[:, None]]), verbose=0).flatten()
results["top"] = scores.argsort()[-5:][::-1]


class Towers(keras.Model):
    def __init__(self):
        super().__init__()
        self.query = keras.Sequential(
            [
                layers.Embedding(users, 8),
                layers.Dense(6, activation="relu"),
                layers.UnitNormalization(),
            ]
        )
        self.candidate = keras.Sequential(
            [layers.Embedding(movies, 8), layers.Dense(6), layers.UnitNormalization()]
        )
        self.recall = keras.metrics.SparseTopKCategoricalAccuracy(k=3, name="recall@3")

    def call(self, inputs):
        return (
            ops.matmul(self.query(inputs["user"]), ops.transpose(self.candidate(inputs["movie"])))
            / 0.2
        )

    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        labels = ops.arange(ops.shape(y_pred)[0])
        same = ops.equal(x["movie"][:, None], x["movie"][None, :])
        own = ops.eye(ops.shape(y_pred)[0], dtype="bool")
        y_pred = ops.where(ops.logical_and(same, ops.logical_not(own)), -1e9, y_pred)
        self.recall.update_state(labels, y_pred)
        return ops.mean(
            keras.losses.sparse_categorical_crossentropy(labels, y_pred, from_logits=True)
        )

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        return super().compute_metrics(x, y, y_pred, sample_weight)


towers = Towers()
towers({"user": user[:4], "movie": movie[:4]})
alike(towers)
steps = n // 20
schedule = keras.optimizers.schedules.PolynomialDecay(
    0.05, decay_steps=4 * steps, end_learning_rate=0.005, power=0.5
)
towers.compile(
    keras.optimizers.Adagrad(schedule, initial_accumulator_value=0.2, gradient_accumulation_steps=2)
)
data = {"user": user, "movie": movie}
results["towers"] = towers.fit(data, batch_size=20, epochs=2, shuffle=False, verbose=0).history
towers.save_weights("towers.weights.h5")
_, ranks = ops.top_k(
    ops.matmul(towers.query(np.arange(4)), ops.transpose(towers.candidate(np.arange(movies)))), 3
)
results["ranks"] = ops.convert_to_numpy(ranks)
fresh = Towers()
fresh({"user": user[:4], "movie": movie[:4]})
fresh.compile(
    keras.optimizers.Adagrad(schedule, initial_accumulator_value=0.2, gradient_accumulation_steps=2)
)
fresh.load_weights("towers.weights.h5")
results["fresh"] = fresh.fit(
    data, batch_size=20, epochs=4, initial_epoch=2, shuffle=False, verbose=0
).history
results["rate"] = float(fresh.optimizer.learning_rate)

# numbers and years, in the model
inputs = {
    "movie": keras.Input((1,), dtype="int32", name="movie"),
    "year": keras.Input((1,), name="year"),
}
embedded = layers.Flatten()(layers.Embedding(movies, 4, name="table")(inputs["movie"]))
year = layers.Discretization(bin_boundaries=[1980, 1990, 2000], output_mode="one_hot")(
    inputs["year"]
)
h = layers.Concatenate()([embedded, year])
cross = layers.Dot(axes=1)([layers.Dense(5)(h), layers.Dense(5)(h)])
ranker = keras.Model(inputs, cross)
alike(ranker)
ranker.compile(
    "adamax", "mse", metrics=[keras.metrics.RootMeanSquaredError(), "mae", keras.metrics.R2Score()]
)
years = rng.integers(1970, 2010, (n, 1)).astype("float32")
results["ranker"] = ranker.fit(
    {"movie": movie[:, None].astype("int64"), "year": years},
    rating,
    epochs=2,
    batch_size=32,
    shuffle=False,
    verbose=0,
).history
ranker.summary()
model.summary()
