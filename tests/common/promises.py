"""Checks that the tests of every family share, so that a new family needs only a few lines."""

from functools import partial, reduce
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from common import reference_weights
from common.compiling import compile_quickly, compiled
from common.rounding import nudged
from jaxcnn.layers import random_key
from jaxcnn.models import create_model
from jaxcnn.weights import convert, export

GOLDEN = Path(__file__).parents[1] / "golden"


def check_golden(file):
    """Asserts that logits, weights and, in training, running statistics equal those of "torchvision/resnet18__97x65"."""
    golden = reference_weights.load(GOLDEN / f"{file}.json.gz")
    name, arguments = f"{golden['library']}/{golden['model']}", _arguments(golden)
    state_dict = reference_weights.state_dict(golden)
    assert reference_weights.fingerprint(state_dict) == golden["weights_sha256"]
    model, variables = create_model(name, **arguments), convert(name, state_dict, **arguments)
    images = reference_weights.inputs(golden)
    collections = ["batch_stats", "auxiliary"] if "aux" in golden else ["batch_stats"]
    apply = partial(model.apply, train=golden["mode"] == "train", mutable=collections)
    network = compile_quickly(lambda v, x: apply(v, x), variables, images)
    logits, updates = network(variables, images)
    logits = _sampled(logits, golden)
    error = np.abs(logits - golden["logits"]).max()
    if "aux" in golden:
        (auxiliary,) = jax.tree.leaves(updates["auxiliary"])
        np.testing.assert_allclose(_sampled(auxiliary, golden), golden["aux"], rtol=0, atol=max(1e-5, 6 * golden["err32"]))
    if not error <= max(1e-5, 6 * golden["err32"]):  # also true for NaN
        # err32 is measured for one order of summation; some networks with SiLU and squeeze-and-excitation amplify rounding
        nudged_logits = [_sampled(network(nudged(variables, seed), images)[0], golden) for seed in range(3)]
        assert error < 4 * max(np.abs(logits - other).max() for other in nudged_logits)
    exported = export(name, variables)
    for key, value in exported.items():
        np.testing.assert_array_equal(value, state_dict[key], err_msg=key)
    left_out = {key for key in state_dict if key not in exported}
    assert all(key.endswith(("num_batches_tracked", "normalization/count")) for key in left_out), left_out
    if golden["mode"] == "train":
        after = export(name, {"params": variables["params"]} | updates)
        for key, mean, absolute in golden["running_stats_after"]:
            found = np.mean(after[key]), np.abs(after[key]).mean()
            np.testing.assert_allclose(found, (mean, absolute), rtol=6e-6, atol=2e-6)  # the files give six digits


def _sampled(logits, golden):
    """Returns the logits in the form of a golden file: those per pixel at every n-th pixel, classes first, flattened."""
    logits = np.asarray(logits)
    if "output" not in golden:
        return logits
    stride = golden["output"]["stride"]
    assert list(logits.shape) == [golden["output"]["shape"][axis] for axis in (0, 2, 3, 1)]
    return logits[:, ::stride, ::stride].transpose(0, 3, 1, 2).reshape(len(logits), -1)


def _arguments(golden):
    """Returns the reference's arguments that change the network, under jaxcnn's names."""
    arguments = {k: v for k, v in golden["kwargs"].items() if k not in ("classifier_activation", "include_top", "pooling")}
    if not arguments.get("aux_loss", True):
        del arguments["aux_loss"]
    if replaced := arguments.pop("replace_stride_with_dilation", ()):  # torchvision's, for the last stages
        arguments["output_stride"] = 32 // 2 ** sum(replaced)
    if arguments.pop("dilated", False):  # torchvision's MobileNetV3
        arguments["output_stride"] = 16
    if golden["mode"] == "train":
        arguments["drop_rate"] = 0.0  # the reference was computed without dropout
    return arguments | ({"num_classes": 0} if golden["kwargs"].get("include_top") is False else {})


def parameters(name, size=64, channels=3, **arguments):
    """Returns the shapes of a model's parameters and of its running statistics."""
    model = create_model(name, **arguments)
    images = jax.ShapeDtypeStruct((1, size, size, channels), jnp.float32)
    variables = jax.eval_shape(lambda key, x: model.init(key, x, train=False), jax.random.key(0), images)
    return variables["params"], variables.get("batch_stats", {})


def count(tree):
    """Returns the number of scalars in a tree of arrays."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def initialized(name, size=64, **arguments):
    """Returns initial parameters of a model, for tests of their statistics."""
    model = create_model(name, **arguments)
    images = jnp.zeros((1, size, size, 3))
    return compiled(lambda key: model.init(key, images, train=False), random_key(0))["params"]


def initialized_layers(name, paths, size=64, **arguments):
    """Returns the initial parameters of some layers, "stage1_block1/conv1", in seconds instead of a minute for all layers."""
    model = create_model(name, **arguments)
    images = jnp.zeros((1, size, size, 3))

    def layers(key):
        params = model.init(key, images, train=False)["params"]
        return [reduce(lambda tree, part: tree[part], path.split("/"), params) for path in paths]

    return compiled(layers, random_key(0))
