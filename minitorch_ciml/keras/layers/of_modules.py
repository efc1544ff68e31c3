"""What Keras' layers have on PyTorch only, being modules of it, and what does the same here."""

from __future__ import annotations

_SAME = {
    "parameters": "trainable_variables lists what keras.optimizers train (torch.optim cannot)",
    "named_parameters": "each of .variables has a .path",
    "torch_params": "each of .variables has a .path",
    "buffers": "non_trainable_variables lists them",
    "state_dict": "take get_weights(), or save_weights('name.weights.h5')",
    "load_state_dict": "take set_weights(arrays), or load_weights('name.weights.h5')",
    "modules": "a model has .layers",
    "children": "a model has .layers",
    "named_children": "a model has .layers and get_layer(name)",
    "named_modules": "a model has .layers and get_layer(name)",
    "train": "say layer(x, training=True)",
    "eval": "say layer(x, training=False)",
    "training": "call gets it as an argument: call(self, inputs, training=None)",
    "to": "see keras.device",
    "cuda": "see keras.device",
    "cpu": "see keras.device",
    "float": "say dtype= where the layer is made",
    "double": "say dtype= where the layer is made",
    "half": "say dtype= where the layer is made",
    "bfloat16": "say dtype= where the layer is made",
    "requires_grad_": "set .trainable",
    "forward": "call the layer: layer(x)",
    "register_forward_hook": "make a model with that layer's .output to see it",
    "register_buffer": "take add_weight(..., trainable=False)",
    "register_parameter": "take add_weight(...)",
}

# For the end of an error message.
OF_MODULES = {name: f", which is of PyTorch's modules; {same}." for name, same in _SAME.items()}
