"""What Keras has and this package does not: exactly what docs/keras.md says, and nothing else.

Every public name of Keras is here, but for `ABSENT`; every argument of what is here is taken, with
Keras' default, but for `REFUSED` and `OTHER_DEFAULTS`. The lists hold in both directions: what is
added to the package must leave them.
"""

import inspect
from functools import reduce

import pytest
from keras_peer import keras_peer

from minitorch_ciml import keras

MODULES = """
activations applications backend callbacks config constraints datasets distribution dtype_policies
initializers layers losses metrics mixed_precision models ops ops.image ops.linalg ops.nn ops.numpy
optimizers optimizers.schedules preprocessing preprocessing.image preprocessing.sequence quantizers
random regularizers saving tree utils
""".split()
MODULES += [f"datasets.{name}" for name in dir(keras_peer.datasets) if name[0] != "_"]
MODULES += [name for name in (f"applications.{n}" for n in dir(keras_peer.applications))
            if name[13].islower()]  # fmt: skip

# The names that are missing: of other engines, of quantisation, of files for other programs.
ABSENT = {
    "": "Operation StatelessScope SymbolicScope distillation export legacy src",
    "callbacks": "OrbaxCheckpoint",
    "config": "is_nnx_enabled",
    "distribution": "DeviceMesh LayoutMap ModelParallel TensorLayout distribute_tensor "
                    "get_device_count",
    "dtype_policies": "AWQDTypePolicy DTypePolicyMap GPTQDTypePolicy Int4DTypePolicy "
                      "QuantizedFloat8DTypePolicy",
    "layers": "FlaxLayer JaxLayer TFSMLayer TorchModuleWrapper",
    "ops": "polar view_as_complex view_as_real",
    "ops.nn": "polar",
    "quantizers": "AWQConfig Float8QuantizationConfig GPTQConfig Int4QuantizationConfig "
                  "abs_max_quantize_grouped_with_zero_point compute_float8_amax_history "
                  "compute_float8_scale fake_quant_with_min_max_vars pack_int4 "
                  "quantize_and_dequantize unpack_int4",
    "saving": "KerasFileEditor",
    "utils": "Config legacy model_to_dot",
}  # fmt: skip

ON_REQUEST = {"wrappers"}  # which needs scikit-learn

# Members of the classes that users subclass.
CLASSES = "Layer Loss Metric Model Optimizer Sequential Variable".split()
CLASSES += ["callbacks.Callback", "initializers.Initializer", "regularizers.Regularizer"]
ABSENT_MEMBERS = {
    "Layer": "compile quantized_build quantized_call rematerialized_call stateless_call "
             "symbolic_call",
    "Metric": "stateless_reset_state stateless_result stateless_update_state",
    "Model": "get_quantization_layer_structure make_predict_function make_test_function "
             "make_train_function stateless_compute_loss",
    "Optimizer": "stateless_apply",
    "Variable": "aggregation overwrite_with_gradient synchronization",
}  # fmt: skip
OF_TORCH = "add_metric add_variable torch_params".split()  # Keras' layers are modules of PyTorch

REFUSED = {
    "layers.EinsumDense": "gptq_unpacked_column_size",
    "Variable": "autocast aggregation synchronization layout",
    "KerasTensor": "record_history",
    "name_scope": "deduplicate override_parent",
}
# They are given by their places, not by these names.
OTHER_NAMES = {
    "activations.sigmoid": "x", "activations.softplus": "x", "activations.tanh": "x",
    "backend.set_floatx": "value", "device": "device_name", "layers.serialize": "layer",
    "optimizers.schedules.serialize": "learning_rate_schedule",
}  # fmt: skip
# Numbers in place of equal tuples; arguments that need not be given here.
OTHER_DEFAULTS = (
    "pool_size strides dilation_rate padding cropping prefix data_format name num_classes".split()
)


def module(root, path):
    return reduce(getattr, filter(None, path.split(".")), root)


def public(thing):
    return {name for name in dir(thing) if not name.startswith("_")}


@pytest.mark.parametrize("path", ["", *MODULES])
def test_names_that_are_missing_are_listed(path):
    missing = public(module(keras_peer, path)) - public(module(keras, path)) - ON_REQUEST
    missing -= {name for name in missing if hasattr(module(keras, path), name)}
    assert missing == set(ABSENT.get(path, "").split())


@pytest.mark.parametrize("path", CLASSES)
def test_members_that_are_missing_are_listed(path):
    import torch

    ours, theirs = module(keras, path), module(keras_peer, path)
    # What `__init__` sets is seen by tests of behaviour.
    missing = {name for name in public(theirs) - public(ours) if name not in SET_IN_INIT}
    missing -= public(torch.nn.Module) - {"compile"}
    inherited = ABSENT_MEMBERS["Layer"].split() if path in ("Model", "Sequential") else []
    inherited += ABSENT_MEMBERS["Model"].split() if path == "Sequential" else []
    expected = {*ABSENT_MEMBERS.get(path, "").split(), *inherited}
    if path in ("Model", "Sequential"):  # which have it
        expected -= {"compile"}
    assert missing - set(OF_TORCH) == expected


SET_IN_INIT = "dtype dtype_policy input_spec model inputs outputs".split()


def parameters(thing, whole=True):
    """The named parameters of a function or class; `whole`: with those that **kwargs go to."""
    functions = [thing]
    if inspect.isclass(thing) and whole:
        kinds = [*thing.__mro__, *getattr(thing, "cell_class", type).__mro__]
        functions = [vars(kind)["__init__"] for kind in kinds if "__init__" in vars(kind)]
    found = {}
    for function in functions:
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):
            continue
        for p in signature.parameters.values():
            if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name != "self":
                found.setdefault(p.name, p.default)
        if not any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
            if not hasattr(thing, "cell_class"):
                break
    return found


def shared():
    seen = set()
    for path in ["", *MODULES]:
        for name in sorted(public(module(keras_peer, path)) - ON_REQUEST):
            theirs, ours = (getattr(module(k, path), name, None) for k in (keras_peer, keras))
            callable_here = ours is not None and callable(ours) and not inspect.ismodule(ours)
            if callable_here and id(theirs) not in seen:
                seen.add(id(theirs))
                yield f"{path}.{name}".strip("."), ours, theirs


def same(a, b):
    return a is b or type(a) is type(b) and a == b or a == b or repr(a) == repr(b)


def test_arguments_are_keras_arguments():
    refused, defaults = {}, {}
    for name, ours, theirs in shared():
        taken = parameters(ours)
        for argument, default in parameters(theirs, whole=False).items():
            if argument in ("weights", "use_cudnn"):  # taken without a name in the signature
                continue
            if argument == OTHER_NAMES.get(name):
                continue
            if argument not in taken:
                refused.setdefault(name, set()).add(argument)
            elif default is not inspect.Parameter.empty and not same(default, taken[argument]):
                defaults.setdefault(argument, set()).add(name)
    assert {name: " ".join(sorted(found)) for name, found in refused.items()} == {
        name: " ".join(sorted(text.split())) for name, text in REFUSED.items()
    }
    assert not defaults.keys() - set(OTHER_DEFAULTS), defaults
