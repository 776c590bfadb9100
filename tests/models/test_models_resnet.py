"""ResNet: initialization, arguments, batch norm and stochastic depth; ResNeXt's published counts."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common.compiling import compiled
from common.promises import count, parameters
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxcnn.layers import BatchNorm
from jaxcnn.models import create_model
from jaxcnn.models.resnet import BasicBlock, ResNet


def init(name, size=32, channels=3, **arguments):
    model = create_model(name, **arguments)
    return model.init(jax.random.key(0), jnp.zeros((1, size, size, channels)), train=False)


def test_small_stem_preserves_the_resolution_and_only_its_kernel_differs():
    small, imagenet = (jax.eval_shape(lambda s=stem: init("resnet18", stem=s))["params"] for stem in ("small", "imagenet"))
    assert small["stem_conv"]["kernel"].shape == (3, 3, 3, 64)
    assert imagenet["stem_conv"]["kernel"].shape == (7, 7, 3, 64)
    assert {**small, "stem_conv": None} == {**imagenet, "stem_conv": None}

    def last_maps(stem):
        model = create_model("resnet18", stem=stem)
        images = jnp.zeros((1, 32, 32, 3))
        variables = model.init(jax.random.key(0), images, train=False)
        return model.apply(variables, images, train=False, mutable=["intermediates"])[1]["intermediates"]["stage4"][0]

    assert jax.eval_shape(lambda: last_maps("small")).shape == (1, 4, 4, 512)
    assert jax.eval_shape(lambda: last_maps("imagenet")).shape == (1, 1, 1, 512)


@pytest.mark.slow
def test_initialization_is_torchvisions():
    params = compiled(lambda: init("resnet18"))["params"]
    for layer, fan_out in (("conv1", 9 * 512), ("conv2", 9 * 512), ("shortcut_conv", 512)):
        kernel = params["stage4_block1"][layer]["kernel"]
        assert kernel.std() == pytest.approx((2 / fan_out) ** 0.5, rel=0.01)
        assert np.abs(kernel).max() > 4 * kernel.std()  # not truncated
    assert params["stem_conv"]["kernel"].std() == pytest.approx((2 / (49 * 64)) ** 0.5, rel=0.03)
    for leaf in params["head"].values():  # uniform
        assert 0.99 * 512**-0.5 < np.abs(leaf).max() <= 512**-0.5
        assert leaf.std() == pytest.approx((512 * 3) ** -0.5, rel=0.05)
    assert (params["stage4_block2"]["norm2"]["scale"] == 1).all()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "last"), [("resnet18", "norm2"), ("resnet50", "norm3")])
def test_zero_init_last_sets_the_last_scale_of_every_block_to_zero(name, last):
    params = compiled(lambda: init(name, zero_init_last=True))["params"]
    zero = {layer for layer, tree in params.items() if last in tree and (tree[last]["scale"] == 0).all()}
    assert zero == {layer for layer in params if layer.startswith("stage")}
    assert (params["stage1_block1"]["norm1"]["scale"] == 1).all()


@pytest.mark.slow
def test_frozen_norm_keeps_its_statistics_and_uses_them():
    images = jax.random.normal(jax.random.key(1), (4, 16, 16, 3))
    variables = compiled(lambda: init("resnet18", stem="small"))
    model = create_model("resnet18", stem="small", freeze_norm=True)
    logits, updates = compiled(lambda v, x: model.apply(v, x, train=True, mutable=["batch_stats"]), variables, images)
    np.testing.assert_array_equal(logits, compiled(lambda v, x: model.apply(v, x, train=False), variables, images))
    jax.tree.map(np.testing.assert_array_equal, updates.get("batch_stats", {}), variables["batch_stats"])


def test_batch_norm_of_a_sharded_batch_equals_that_of_the_entire_batch():
    norm = BatchNorm(use_running_average=False)
    x = 3 + jax.random.normal(jax.random.key(0), (16, 2, 2, 5))
    variables = norm.init(jax.random.key(0), x)
    np.testing.assert_array_equal(variables["batch_stats"]["mean"], 0)
    mesh = Mesh(np.array(jax.devices()), ("data",))
    sharded = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))
    y, updates = jax.jit(lambda v, x: norm.apply(v, x, mutable=["batch_stats"]))(variables, sharded)
    x = np.asarray(x, np.float64).reshape(-1, 5)
    np.testing.assert_allclose(np.asarray(y).reshape(-1, 5), (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(updates["batch_stats"]["mean"], 0.1 * x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(updates["batch_stats"]["var"], 0.9 + 0.1 * x.var(0, ddof=1), rtol=1e-5)


def test_running_variance_may_be_biased():
    norm = BatchNorm(use_running_average=False, unbiased=False, momentum=1.0)
    x = jax.random.normal(jax.random.key(0), (3, 5))
    _, updates = norm.apply(norm.init(jax.random.key(0), x), x, mutable=["batch_stats"])
    np.testing.assert_allclose(updates["batch_stats"]["var"], np.asarray(x).var(0), rtol=1e-5)


def test_resnext_on_cifar_has_as_many_parameters_as_published():
    """Table 7 of the paper, which truncates; counted here from the 1×1, grouped 3×3 and 1×1 convolutions and their norms."""
    for name, groups, millions in (("resnext29_8x64d", 8, "34.4"), ("resnext29_16x64d", 16, "68.1")):
        inputs, expected = 64, 27 * 64 + 2 * 64
        for stage in range(3):
            width, outputs = 64 * groups * 2**stage, 256 * 2**stage
            expected += inputs * outputs + 2 * outputs
            for _ in range(3):
                expected += inputs * width + 9 * width**2 // groups + width * outputs + 4 * width + 2 * outputs
                inputs = outputs
        expected += 1024 * 10 + 10
        assert count(parameters(name, 32)[0]) == expected
        assert str(expected // 10**5 / 10) == millions


def test_first_convolution_of_the_papers_bottleneck_has_the_stride():
    images = jnp.zeros((1, 64, 64, 3))

    def shapes(name):
        model = create_model(name)
        seen = {}

        def record(method, args, kwargs, context):
            y = method(*args, **kwargs)
            seen["/".join(context.module.path)] = getattr(y, "shape", None)
            return y

        def run(key):
            with nn.intercept_methods(record):
                return model.init(key, images, train=False)

        jax.eval_shape(run, jax.random.key(0))
        return seen

    assert shapes("resnet50_v1")["stage2_block1/conv1"] == (1, 8, 8, 128)
    assert shapes("resnet50")["stage2_block1/conv1"] == (1, 16, 16, 128)
    assert shapes("resnet50_v1")["stage2_block1"] == shapes("resnet50")["stage2_block1"]


def small(**arguments):
    return ResNet(depths=(1, 2), block=BasicBlock, stem="small", num_classes=10, **arguments)


@pytest.mark.slow
def test_rematerialized_network_computes_the_same():
    images = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))
    variables = compiled(lambda: small().init(jax.random.key(0), images, train=False))

    def step(model):
        def loss(params):
            logits, updates = model.apply({**variables, "params": params}, images, train=True, mutable=["batch_stats"])
            return -jax.nn.log_softmax(logits)[:, 3].mean(), updates

        return jax.value_and_grad(loss, has_aux=True)(variables["params"])

    plain, remat = (compiled(lambda m=model: step(m)) for model in (small(), small(remat=True)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), plain, remat)


@pytest.mark.slow
def test_stochastic_depth_of_1_drops_the_last_block_in_training():
    images = jax.random.normal(jax.random.key(1), (8, 8, 8, 3))
    model = small(drop_path_rate=1.0, freeze_norm=True)
    variables = compiled(lambda: model.init(jax.random.key(0), images, train=False))
    changed = jax.tree.map(lambda v: v, variables)
    changed["params"]["stage2_block2"]["conv2"]["kernel"] = 2 * variables["params"]["stage2_block2"]["conv2"]["kernel"]

    def change(variables, changed, train):
        first, second = (model.apply(v, images, train=train, rngs={"dropout": jax.random.key(2)}) for v in (variables, changed))
        return jnp.abs(first - second).max()

    assert compiled(lambda a, b: change(a, b, True), variables, changed) == 0
    assert compiled(lambda a, b: change(a, b, False), variables, changed) > 0
