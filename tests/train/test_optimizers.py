import functools

import jax
import numpy as np
import optax
import pytest

from jaxcnn.errors import UserError
from jaxcnn.train.optimizers import make_groups, make_optimizer, parameter_paths
from jaxcnn.train.schedules import make_schedule
from jaxcnn.train.settings import OptimizerSettings, ScheduleSettings

RNG = np.random.default_rng(0)
SHAPES = {
    "fc": {"bias": (3,), "kernel": (4, 3)},
    "large": {"kernel": (128, 130)},  # adafactor factorizes from 128 on
    "stage1": {"conv1": {"kernel": (3, 3, 2, 4)}, "norm1": {"bias": (4,), "scale": (4,)}},
    "wide": {"kernel": (1, 1, 2, 9)},  # more outputs than inputs: muon scales its update up
}
STEPS = 4
NAMES = ["sgd", "adam", "adamw", "rmsprop", "lamb", "lion", "adafactor", "muon"]
KERNELS = functools.partial(jax.tree.map_with_path, lambda path, _: path[-1].key == "kernel")


def random_tree():
    return jax.tree.map(
        lambda shape: RNG.standard_normal(shape).astype(np.float32), SHAPES, is_leaf=lambda x: isinstance(x, tuple)
    )


PARAMS = random_tree()
GRADIENTS = [random_tree() for _ in range(STEPS)]


def falling(step):
    return 0.1 / (1.0 + step)


def optimizer(name, params=PARAMS, rate=0.1, **changes):
    return make_optimizer(OptimizerSettings(name, **changes), rate if callable(rate) else lambda _: rate, params)


def trained(optimizer, params=PARAMS, gradients=GRADIENTS):
    """Returns the parameters after a few steps."""
    # compilation takes most of the time of this file
    options = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    state, update = optimizer.init(params), jax.jit(optimizer.update, compiler_options=options)
    for gradient in gradients:
        updates, state = update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return jax.tree.map(np.asarray, params)


def assert_equal(found, expected, rtol=2e-5):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-6), found, expected)


def without(tree, *names):
    return {name: subtree for name, subtree in tree.items() if name not in names}


# ── The rules ───────────────────────────────────────────────────────────────────────────────────────────────────────

MATRIX = optax.contrib.MuonDimensionNumbers((0, 1, 2), 3)


def muon_of_optax(**changes):
    def dimensions(params):
        return jax.tree.map(lambda p: MATRIX if p.ndim == 4 else None, params)

    return optax.contrib.muon(
        0.1, beta=0.8, nesterov=False, adam_b1=0.7, adam_b2=0.9, muon_weight_dimension_numbers=dimensions, **changes
    )


MOMENTS = {"b1": 0.7, "b2": 0.9, "eps": 1e-3}
CONVOLUTIONS = functools.partial(jax.tree.map, lambda p: p.ndim == 4)
SAME_RULES = {
    "sgd": (optimizer("sgd", rate=falling, momentum=0.0), optax.sgd(falling)),
    "sgd with momentum": (optimizer("sgd", rate=falling, momentum=0.8), optax.sgd(falling, 0.8)),
    "sgd with nesterov": (optimizer("sgd", momentum=0.8, nesterov=True), optax.sgd(0.1, 0.8, nesterov=True)),
    "adam": (optimizer("adam", rate=falling, **MOMENTS), optax.adam(falling, **MOMENTS)),
    "adamw": (
        optimizer("adamw", rate=falling, weight_decay=0.3, **MOMENTS),
        optax.adamw(falling, weight_decay=0.3, mask=KERNELS, **MOMENTS),
    ),
    # with a constant rate: optax applies it before the momentum, jaxcnn after it, as PyTorch does
    "rmsprop": (optimizer("rmsprop", momentum=0.8, b2=0.9, eps=1e-3), optax.rmsprop(0.1, 0.9, 1e-3, momentum=0.8)),
    "rmsprop without momentum": (optimizer("rmsprop", rate=falling, momentum=0.0, b2=0.9), optax.rmsprop(falling, 0.9)),
    "lamb": (
        optimizer("lamb", rate=falling, weight_decay=0.3, **MOMENTS),
        optax.lamb(falling, weight_decay=0.3, mask=KERNELS, **MOMENTS),
    ),
    "lion": (
        optimizer("lion", rate=falling, weight_decay=0.3, b1=0.7, b2=0.9),
        optax.lion(falling, 0.7, 0.9, weight_decay=0.3, mask=KERNELS),
    ),
    "adafactor": (optimizer("adafactor", rate=falling), optax.adafactor(falling)),
    # optax does not multiply adafactor's weight decay by the learning rate
    "adafactor with decay": (
        optimizer("adafactor", weight_decay=0.3),
        optax.adafactor(0.1, weight_decay_rate=0.03, weight_decay_mask=KERNELS),
    ),
    # without Nesterov, so that optax's bias correction is only a factor, to which Muon is invariant
    "muon": (optimizer("muon", momentum=0.8, b1=0.7, b2=0.9), muon_of_optax()),
    "muon with decay": (
        optimizer(
            "muon",
            momentum=0.8,
            weight_decay=0.3,
            weight_decay_factors=(("^(wide|stage1/conv1)/kernel$", 1.0), (".", 0.0)),
            b1=0.7,
            b2=0.9,
        ),
        muon_of_optax(weight_decay=0.3, weight_decay_mask=CONVOLUTIONS),
    ),
}


@pytest.mark.parametrize("case", SAME_RULES)
def test_rule_equals_that_of_optax(case):
    ours, optax_rule = SAME_RULES[case]
    with jax.numpy_dtype_promotion("standard"):  # optax mixes integers and floats
        expected = trained(optax_rule)
    assert_equal(trained(ours), expected)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_with_weight_decay_follows_the_formula_of_pytorch(nesterov):
    # torch.optim.SGD: g += λp; b = μb + g (b = g at first); p -= γ(g + μb), or γb without Nesterov
    def formula(p, gradients, decay):
        p, buffer = p.astype(np.float64), 0.0
        for g in gradients:
            g = g + decay * p
            buffer = 0.9 * buffer + g
            p = p - 0.1 * (g + 0.9 * buffer if nesterov else buffer)
        return p

    found = trained(optimizer("sgd", momentum=0.9, nesterov=nesterov, weight_decay=0.3))
    for name, decay in (("kernel", 0.3), ("bias", 0.0)):
        assert_equal(found["fc"][name], formula(PARAMS["fc"][name], [g["fc"][name] for g in GRADIENTS], decay))


def test_adam_with_weight_decay_adds_it_to_the_gradient_as_pytorch_does():
    p, m, v = PARAMS["fc"]["kernel"].astype(np.float64), 0.0, 0.0
    for t, gradient in enumerate(GRADIENTS, start=1):
        g = gradient["fc"]["kernel"] + 0.3 * p
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        p = p - 0.1 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    assert_equal(trained(optimizer("adam", weight_decay=0.3))["fc"]["kernel"], p, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_optimizer_of_shapes_equals_that_of_parameters(name):
    shapes = jax.eval_shape(lambda: PARAMS)
    state = optimizer(name, params=shapes, freeze=("^fc/",), weight_decay=0.1).init(PARAMS)
    other = optimizer(name, freeze=("^fc/",), weight_decay=0.1).init(PARAMS)
    assert jax.tree.structure(state) == jax.tree.structure(other)


# ── By regular expression ───────────────────────────────────────────────────────────────────────────────────────────


def one_step(**changes):
    """Returns the update of plain SGD with learning rate 1, with gradients of 0 if only weight decay is tested."""
    gradients = changes.pop("gradients", GRADIENTS[0])
    plain = optimizer("sgd", rate=1.0, momentum=0.0, **changes)
    return plain.update(gradients, plain.init(PARAMS), PARAMS)[0]


ZERO = jax.tree.map(np.zeros_like, PARAMS)


def test_paths_name_every_parameter():
    assert parameter_paths(PARAMS) == [
        "fc/bias",
        "fc/kernel",
        "large/kernel",
        "stage1/conv1/kernel",
        "stage1/norm1/bias",
        "stage1/norm1/scale",
        "wide/kernel",
    ]


def test_biases_and_norms_do_not_decay_by_default():
    kernels = jax.tree.map(lambda p, is_kernel: -0.5 * p * is_kernel, PARAMS, KERNELS(PARAMS))
    assert_equal(one_step(weight_decay=0.5, gradients=ZERO), kernels)
    everything = jax.tree.map(lambda p: -0.5 * p, PARAMS)
    assert_equal(one_step(weight_decay=0.5, weight_decay_factors=(), gradients=ZERO), everything)


def test_first_pattern_that_matches_decides_the_factor():
    rules = (("^stage1/.*kernel$", 3.0), ("^stage1/", 0.0), ("bias", 0.5))
    factors = {"fc": {"bias": 0.5, "kernel": 1}, "large": {"kernel": 1}, "wide": {"kernel": 1}}
    factors["stage1"] = {"conv1": {"kernel": 3}, "norm1": {"bias": 0, "scale": 0}}
    decayed = jax.tree.map(lambda p, factor: -0.1 * factor * p, PARAMS, factors)
    assert_equal(one_step(weight_decay=0.1, weight_decay_factors=rules, gradients=ZERO), decayed)
    moved = jax.tree.map(lambda g, factor: -factor * g, GRADIENTS[0], factors)
    assert_equal(one_step(learning_rate_factors=rules), moved)


@pytest.mark.parametrize("name", ["lamb", "muon"])
def test_learning_rate_factor_scales_the_update_including_weight_decay(name):
    changes = {"weight_decay": 0.3}
    plain = trained(optimizer(name, **changes), gradients=GRADIENTS[:1])
    tenth = trained(optimizer(name, learning_rate_factors=(("^wide/", 0.1),), **changes), gradients=GRADIENTS[:1])
    difference = plain["wide"]["kernel"] - PARAMS["wide"]["kernel"]
    assert_equal(tenth["wide"]["kernel"], PARAMS["wide"]["kernel"] + 0.1 * difference)
    assert_equal(without(tenth, "wide"), without(plain, "wide"), rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_frozen_parameters_stay_and_the_others_train_as_if_they_were_alone(name):
    changes = {
        "weight_decay": 0.3,
        "weight_decay_factors": (("stage1/conv1", 2.0), ("bias$", 0.0)),
        "learning_rate_factors": (("conv1", 0.5),),
        "clip_norm": 1.0,  # of the trained gradients only
    }
    found = trained(optimizer(name, freeze=("^(fc|large)/",), **changes))
    for frozen in ("fc", "large"):
        jax.tree.map(np.testing.assert_array_equal, found[frozen], PARAMS[frozen])
    alone = without(PARAMS, "fc", "large")
    expected = trained(optimizer(name, alone, **changes), alone, [without(g, "fc", "large") for g in GRADIENTS])
    assert_equal(without(found, "fc", "large"), expected)


# ── Groups ──────────────────────────────────────────────────────────────────────────────────────────────────────────

ADAM = {"optimizer.name": "adam", "optimizer.learning_rate": 0.3, "optimizer.b1": 0.5}
SHORT = {"optimizer.momentum": 0.0, "optimizer.learning_rate": 2.0, "schedule.total": "2steps"}


def grouped(groups, **changes):
    """Returns an optimizer whose groups have momentum 0.9 and a rate falling from 0.1 in 10 steps, unless they change it."""
    settings, linear = OptimizerSettings(groups=groups, **changes), ScheduleSettings("linear")

    def schedule(settings, peak):
        return make_schedule(settings, peak=peak, total_steps=10, batch_size=128, examples_per_epoch=1000)

    return make_optimizer(settings, schedule(linear, 0.1), PARAMS, make_groups(settings, linear, schedule))


def test_each_group_trains_as_with_global_settings_and_the_first_match_counts():
    linear = optax.linear_schedule(0.1, 0.0, 10)
    alone = {
        "fc": optimizer("adam", rate=lambda step: 0.3 * (1 - step / 10), b1=0.5),
        "stage1": optimizer("sgd", rate=lambda step: 2.0 * jax.numpy.maximum(1 - step / 2, 0), momentum=0.0),
        "large": optimizer("sgd", rate=linear),
        "wide": optimizer("sgd", rate=linear),
    }
    with jax.numpy_dtype_promotion("standard"):
        found = trained(grouped((("^fc/", ADAM), ("^stage1|^fc/bias", SHORT))))
        expected = {layer: trained(each)[layer] for layer, each in alone.items()}
    assert_equal(found, expected)


def test_groups_share_the_norm_that_gradients_are_clipped_to_and_what_is_frozen():
    found = trained(grouped((("^stage1/", SHORT),), clip_norm=1.0, freeze=("^large/",)), gradients=GRADIENTS[:1])
    norm = optax.tree.norm(without(GRADIENTS[0], "large"))
    for layer, rate in {"fc": 0.1, "stage1": 2.0, "wide": 0.1}.items():
        assert_equal(found[layer], jax.tree.map(lambda p, g: p - rate * g / norm, PARAMS[layer], GRADIENTS[0][layer]))  # noqa: B023
    np.testing.assert_array_equal(found["large"]["kernel"], PARAMS["large"]["kernel"])


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ("fc", r"expected a list of pairs .*, got \('fc',\)"),
        (("fc", 0.1), r"expected a list of pairs .*, got \(\('fc', 0.1\),\)"),
        (("stem", ADAM), "'stem' matches no parameter's path"),
        (("fc(", ADAM), r"'fc\(' is not a regular expression"),
        (("fc", {"optimizer.freeze": ("fc",)}), "'fc': 'optimizer.freeze' is not a setting that a group can change"),
        (("fc", {"learning_rate": 1.0}), "'fc': 'learning_rate' is not a setting that a group can change"),
        (("fc", {"loss.name": "x"}), "'fc': 'loss.name' is not a setting that a group can change"),
    ],
)
def test_invalid_group_is_refused(group, message):
    with pytest.raises(UserError, match=rf"^optimizer\.groups: {message}"):
        grouped((group,))


def test_wrong_values_in_a_group_are_refused_by_their_names():
    with pytest.raises(UserError, match=r"no setting 'optimizer\.learning_rat' .did you mean"):
        grouped((("fc", {"optimizer.learning_rat": 1.0}),))
    with pytest.raises(UserError, match=r"optimizer\.name: expected one of sgd, .* got 'sdg' .did you mean"):
        grouped((("fc", {"optimizer.name": "sdg"}),))


def test_frozen_parameters_take_no_memory_in_the_optimizer():
    state = optimizer("adam", freeze=("^large/",)).init(PARAMS)
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) < PARAMS["large"]["kernel"].size


def test_gradients_are_scaled_down_to_the_norm_and_never_up():
    norm = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in jax.tree.leaves(GRADIENTS[0])))
    assert_equal(one_step(clip_norm=float(norm) / 7), jax.tree.map(lambda g: -g / 7, GRADIENTS[0]))
    assert_equal(one_step(clip_norm=float(norm) * 7), jax.tree.map(lambda g: -g, GRADIENTS[0]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"freeze": ("stem",)}, "freeze: 'stem' matches no parameter's path; an example of a path is 'fc/bias'"),
        ({"freeze": ("fc/kernl",)}, "freeze: 'fc/kernl' .*did you mean \"fc/kernel\""),
        ({"freeze": ("(fc",)}, "freeze: .* is not a regular expression: "),
        ({"freeze": ("fc", ".")}, "freeze: .* matches every parameter, so there is nothing to train"),
        ({"learning_rate_factors": (("stem", 0.1),)}, "learning_rate_factors: 'stem' matches no parameter's path"),
        ({"learning_rate_factors": (("[", 0.1),)}, "learning_rate_factors: .* is not a regular expression"),
        ({"learning_rate_factors": ("fc", 0.1)}, "learning_rate_factors: expected a list of pairs .*, got .'fc', 0.1"),
        ({"learning_rate_factors": (("fc", "x"),)}, "learning_rate_factors: expected a list of pairs"),
        ({"weight_decay_factors": (("fc", -1.0),)}, "weight_decay_factors: expected a list of pairs"),
        ({"weight_decay": 0.1, "weight_decay_factors": (("*", 1.0),)}, "weight_decay_factors: .* is not a regular expression"),
    ],
)
def test_invalid_pattern_is_refused_by_name(changes, message):
    with pytest.raises(UserError, match=rf"^optimizer\.{message}"):
        optimizer("sgd", **changes)


def test_decay_pattern_may_match_nothing():
    optimizer("sgd", params={"kernel": np.zeros(3)}, weight_decay=0.1)  # no bias and scale match the default patterns
