"""A VQ-VAE, whose layer passes gradients straight on; a PixelCNN with masked kernels over it."""

import keras
import numpy as np
from keras import layers, ops
from side_by_side import alike

rng = np.random.default_rng(0)
x = rng.random((16, 8, 8, 1)).astype("float32")


class VectorQuantizer(layers.Layer):
    def __init__(self, num_embeddings, embedding_dim, beta=0.25, **kwargs):
        super().__init__(**kwargs)
        self.embedding_dim, self.num_embeddings, self.beta = embedding_dim, num_embeddings, beta
        shape = (embedding_dim, num_embeddings)
        self.embeddings = self.add_weight(
            shape=shape, initializer="uniform", trainable=True, name="embeddings_vqvae"
        )
        self.uses = self.add_weight((num_embeddings,), "zeros", trainable=False, name="uses")

    def call(self, x):
        input_shape = ops.shape(x)
        flat = ops.reshape(x, [-1, self.embedding_dim])
        codes = ops.one_hot(self.get_code_indices(flat), self.num_embeddings)
        self.uses.assign_add(ops.sum(codes, axis=0))
        quantized = ops.reshape(ops.matmul(codes, ops.transpose(self.embeddings)), input_shape)
        commitment = ops.mean((ops.stop_gradient(quantized) - x) ** 2)
        codebook = ops.mean((quantized - ops.stop_gradient(x)) ** 2)
        self.add_loss(self.beta * commitment + codebook)
        return x + ops.stop_gradient(quantized - x)

    def get_code_indices(self, flat):
        similarity = ops.matmul(flat, self.embeddings)
        distances = (
            ops.sum(flat**2, axis=1, keepdims=True)
            + ops.sum(self.embeddings**2, axis=0)
            - 2 * similarity
        )
        return ops.argmin(distances, axis=1)


encoder_inputs = keras.Input((8, 8, 1))
z = layers.Conv2D(4, 3, activation="relu", strides=2, padding="same")(encoder_inputs)
encoder = keras.Model(encoder_inputs, layers.Conv2D(3, 1, padding="same")(z), name="encoder")
latent_inputs = keras.Input(shape=encoder.output.shape[1:])
z = layers.Conv2DTranspose(4, 3, activation="relu", strides=2, padding="same")(latent_inputs)
outputs = layers.Conv2DTranspose(1, 3, padding="same")(z)
decoder = keras.Model(latent_inputs, outputs, name="decoder")
quantizer = VectorQuantizer(6, 3, name="vector_quantizer")
inputs = keras.Input((8, 8, 1))
vqvae = keras.Model(inputs, decoder(quantizer(encoder(inputs))), name="vq_vae")
print([layer.name for layer in vqvae.layers], float(ops.sum(quantizer.uses)))
alike(encoder, decoder)
quantizer.embeddings.assign(np.sin(np.arange(18.0)).reshape(3, 6).astype("float32") / 4)
vqvae.compile(optimizer=keras.optimizers.Adam(0.01), loss="mse")
how = {"batch_size": 8, "shuffle": False, "verbose": 0}
history = vqvae.fit(x, x, epochs=3, **how).history
uses = quantizer.uses.numpy()
latents = encoder.predict(x, verbose=0)
codes = quantizer.get_code_indices(latents.reshape(-1, 3))
codes = ops.convert_to_numpy(codes).reshape(latents.shape[:-1])


class PixelConvLayer(layers.Layer):
    def __init__(self, mask_type, **kwargs):
        super().__init__()
        self.mask_type = mask_type
        self.conv = layers.Conv2D(**kwargs)

    def build(self, input_shape):
        self.conv.build(input_shape)
        shape = ops.shape(self.conv.kernel)
        self.mask = np.zeros(shape=shape)
        self.mask[: shape[0] // 2, ...] = 1.0
        self.mask[shape[0] // 2, : shape[1] // 2, ...] = 1.0
        if self.mask_type == "B":
            self.mask[shape[0] // 2, shape[1] // 2, ...] = 1.0

    def call(self, inputs):
        self.conv.kernel.assign(self.conv.kernel * self.mask)
        return self.conv(inputs)


class ResidualBlock(keras.layers.Layer):
    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.conv1 = layers.Conv2D(filters=filters, kernel_size=1, activation="relu")
        self.pixel_conv = PixelConvLayer(
            mask_type="B", filters=filters // 2, kernel_size=3, activation="relu", padding="same"
        )
        self.conv2 = layers.Conv2D(filters=filters, kernel_size=1, activation="relu")

    def call(self, inputs):
        return layers.add([inputs, self.conv2(self.pixel_conv(self.conv1(inputs)))])


pixel_inputs = keras.Input(shape=codes.shape[1:], dtype="int32")
p = layers.Lambda(lambda c: ops.one_hot(c, 6), output_shape=(4, 4, 6))(pixel_inputs)
p = PixelConvLayer("A", filters=8, kernel_size=3, activation="relu", padding="same")(p)
p = ResidualBlock(filters=8)(p)
p = PixelConvLayer("B", filters=8, kernel_size=1, activation="relu", padding="valid")(p)
pixel_cnn = keras.Model(pixel_inputs, layers.Conv2D(6, 1)(p), name="pixel_cnn")
alike(pixel_cnn)
pixel_cnn.summary()
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
pixel_cnn.compile(keras.optimizers.Adam(3e-2), loss, metrics=["accuracy"])
prior = pixel_cnn.fit(codes, codes, epochs=2, validation_split=0.25, **how).history
drawn = np.zeros((2, 4, 4), dtype="int32")
for row in range(4):
    for col in range(4):
        drawn[:, row, col] = pixel_cnn.predict(drawn, verbose=0)[:, row, col].argmax(-1)
quantized = np.eye(6)[drawn] @ quantizer.embeddings.numpy().T
results = {
    "history": history, "prior": prior, "uses": uses, "codes": codes, "drawn": drawn,
    "decoded": decoder.predict(quantized, verbose=0),
}  # fmt: skip
