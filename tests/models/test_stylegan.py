"""Growing and style-based games: what is seen at each stage, what begins anew, what comes every few steps."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genlab.losses import adversarial
from genlab.models.gan import AdversarialLoss
from genlab.models.growth import Phase
from genlab.models.painters import mix, progressive, style_based, truncate
from genlab.models.style_rules import Penalties, lazy_correction
from genlab.models.stylegan import style_gan
from genlab.networks.modulated import SkipGenerator
from genlab.networks.progressive import ProgressiveDiscriminator, ProgressiveGenerator
from genlab.networks.resampling import downsample_mean, upsample_nearest
from genlab.networks.style import Mapping, StyleGenerator

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
BATCH = {"x": jnp.asarray(RNG.uniform(size=(4, 8, 8, 1)), jnp.float32)}
CHANNELS = (4, 3)
GROWING = [Phase(4, 0, 0, 3, 4), Phase(8, 3, 2, 9, 4)]
FIXED = [Phase(8, 0, 0, 99, 4)]
NONE = Penalties("none")
LOSS = AdversarialLoss(
    adversarial.non_saturating_discriminator_loss,
    lambda fake, real: adversarial.non_saturating_generator_loss(fake),
)
PAINTERS = {
    "progan": lambda: progressive(ProgressiveGenerator(CHANNELS, 1)),
    "stylegan": lambda: style_based(Mapping(5, 1), StyleGenerator(CHANNELS, 1)),
    "stylegan2": lambda: style_based(Mapping(5, 1, 1.0, 2**0.5), SkipGenerator(CHANNELS, 1)),
}


class Linear(nn.Module):
    """A discriminator whose slope is known at every size: the mean image times one weight, enlarged to 8x8."""

    @nn.compact
    def __call__(self, x, alpha=1.0):
        weight = self.param("weight", nn.initializers.constant(0.5), ())
        return weight * jnp.sum(x, axis=(1, 2, 3)) * (8 // x.shape[1]) ** 2


def make(painter="progan", discriminator=None, phases=GROWING, penalties=NONE, tx=None, **options):
    tx = tx or optax.adam(1e-2, b1=0.0, b2=0.99)
    return style_gan(
        PAINTERS[painter](), discriminator or ProgressiveDiscriminator(CHANNELS, 2), LOSS, tx, tx, latent_dim=5,
        phases=phases, penalties=penalties, **options,
    )  # fmt: skip


def run(algorithm, num, batch=BATCH):
    """States after 0, 1, ..., num steps, and the metrics of each step."""
    ends = [(stage.last_step, jax.jit(stage.step)) for stage in algorithm.stages] or [(num, jax.jit(algorithm.step))]
    states, metrics = [jax.jit(algorithm.init)(KEY, batch)], []
    for number in range(num):
        step = next(step for last, step in ends if number < last)
        state, found = step(states[-1], batch, jax.random.fold_in(KEY, number))
        states.append(state)
        metrics.append(found)
    return states, metrics


@functools.cache
def grown():
    """Seven steps, of which the fourth is the first at 8x8 and the sixth the first without a fade."""
    return run(make(ema_decay=0.5), 7)


def count(player):
    return int(optax.tree_utils.tree_get(player.opt_state, "count"))


def test_optimizers_begin_anew_when_a_fade_begins_and_when_it_ends():
    states, _ = grown()
    for name in ("gen", "disc"):
        assert [count(state.players[name]) for state in states] == [0, 1, 2, 3, 1, 2, 1, 2]


def test_all_stages_have_one_structure_and_layers_that_are_not_there_yet_do_not_move():
    states, metrics = grown()
    for state in states[1:]:
        assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state) == jax.tree.map(
            lambda leaf: (leaf.shape, leaf.dtype), states[0]
        )
    new = ("grow_8", "conv_8", "to_image_8")
    before, at_4, at_8 = (states[number].players["gen"].params for number in (0, 3, 7))
    for name in before:
        same = lambda left, right, name=name: jax.tree.all(jax.tree.map(np.array_equal, left[name], right[name]))
        assert same(before, at_4) == (name in new) and not same(at_4, at_8), name
    assert [float(found["resolution"]) for found in metrics] == [4, 4, 4, 8, 8, 8, 8]
    assert [float(found["alpha"]) for found in metrics] == [1, 1, 1, 0.5, 1, 1, 1]


def test_what_is_generated_is_of_the_stage_and_enlarged():
    algorithm, (states, _) = make(ema_decay=0.5), grown()
    generate = jax.jit(algorithm.generate)
    early, late = generate(states[3], BATCH, KEY), generate(states[7], BATCH, KEY)
    assert early.shape == late.shape == (4, 8, 8, 1)
    np.testing.assert_allclose(early, upsample_nearest(downsample_mean(early)), atol=1e-6)
    assert np.abs(late - upsample_nearest(downsample_mean(late))).max() > 1e-3
    painter = PAINTERS["progan"]()
    key_codes, _ = jax.random.split(KEY)
    codes = jax.random.normal(key_codes, (4, 5))
    painted = painter.paint(states[7].average["gen"], painter.broadcast(codes), [], 8, 1.0)
    np.testing.assert_allclose(late, 0.5 + 0.5 * painted, atol=1e-6)
    np.testing.assert_allclose(jax.jit(algorithm.decode)(states[7], codes, KEY), late, atol=1e-6)
    terms = jax.jit(algorithm.evaluate)(states[3], BATCH, KEY)
    assert all(term.shape == (4,) for term in terms.values()) and terms["disc_loss"].min() > 0


@pytest.mark.parametrize("kind", ["r1", "gradient"])
def test_a_penalty_is_that_of_images_enlarged_to_the_last_size(kind):
    """The same slope at every size, where each pixel of 4x4 stands for four of 8x8."""
    algorithm = make(discriminator=Linear(), penalties=Penalties(kind, 0.0), tx=optax.sgd(0.0))
    _, metrics = run(algorithm, 4)
    slope = 64**0.5 * 0.5
    expected = slope**2 if kind == "r1" else (slope - 1.0) ** 2
    for found in (metrics[0], metrics[3]):
        assert float(found["penalty"]) == pytest.approx(expected, rel=1e-5)


def test_real_images_are_averaged_down_and_faded_in():
    """Seen by the linear discriminator as their sum, and by a fade as a mixture of the image and its blocks."""
    algorithm = make(discriminator=Linear(), tx=optax.sgd(0.0))
    _, metrics = run(algorithm, 4)
    expected = 0.5 * float(jnp.mean(jnp.sum(2.0 * BATCH["x"] - 1.0, axis=(1, 2, 3))))
    for found in (metrics[0], metrics[3]):
        assert float(found["real_logit"]) == pytest.approx(expected, rel=1e-4)


def test_lazy_penalties_are_steps_of_their_own_with_every_one_of_them_in_their_weight():
    penalties = Penalties("r1", 0.25, every=3, path_length=2.0, path_length_every=2)
    algorithm = make("stylegan2", Linear(), FIXED, penalties)
    states, metrics = run(algorithm, 4)
    # steps 0 and 3 of the discriminator, 0 and 2 of the generator
    assert [count(state.players["disc"]) for state in states] == [0, 2, 3, 4, 6]
    assert [count(state.players["gen"]) for state in states] == [0, 2, 3, 5, 6]
    means = [float(found["path_length"]) for found in metrics]
    assert 0 < means[0] == means[1] < means[2] == means[3]
    assert float(states[4].memory["path_length"]) == means[3]
    # a linear discriminator's own: sgd along d/dw weight every |w|^2 64, after the main step, which is of no size
    linear = make("progan", Linear(), FIXED, Penalties("r1", 0.25, every=3), tx=optax.sgd(1e-3))
    plain = make("progan", Linear(), FIXED, tx=optax.sgd(1e-3))
    with_r1, without = (float(run(each, 1)[0][1].players["disc"].params["weight"]) for each in (linear, plain))
    assert with_r1 == pytest.approx(without - 1e-3 * 0.25 * 3 * 2 * without * 64, rel=1e-4)


def test_the_correction_of_lazy_steps_by_hand():
    assert lazy_correction(1.0, 0.5, 0.99, 1) == (1.0, 0.5, 0.99)
    rate, b1, b2 = lazy_correction(2.0, 0.0, 0.99, 16)
    assert (rate, b1) == (2.0 * 16 / 17, 0.0) and b2 == pytest.approx(0.990585, abs=1e-6)


def test_the_mean_of_w_follows_what_the_mapping_gives():
    """After t steps of a mapping that gives m, m (1 - 0.995^t)."""
    painter = PAINTERS["progan"]()._replace(map=lambda params, codes: jnp.full((codes.shape[0], 5), 3.0))
    algorithm = style_gan(
        painter, Linear(), LOSS, optax.sgd(0.0), optax.sgd(0.0), latent_dim=5, phases=FIXED,
        penalties=Penalties("none"),
    )  # fmt: skip
    states, _ = run(algorithm, 3)
    np.testing.assert_allclose(states[3].players["gen"].stats["w_mean"], 3.0 * (1 - 0.995**3), rtol=1e-5)


def test_mixed_styles_change_from_one_code_to_the_other_and_truncation_draws_to_the_mean():
    first, second = jnp.zeros((2, 4, 3)), jnp.ones((2, 4, 3))
    np.testing.assert_array_equal(mix(first, second, 3)[0, :, 0], [0, 0, 0, 1])
    np.testing.assert_array_equal(mix(first, second, 4), first)
    w, mean = jnp.asarray(RNG.normal(size=(2, 4, 3)), jnp.float32), jnp.arange(3.0)
    np.testing.assert_allclose(truncate(w, mean, 0.0), jnp.broadcast_to(mean, w.shape))
    np.testing.assert_allclose(truncate(w, mean, 0.5), 0.5 * (w + mean), rtol=1e-6)


def test_half_of_the_batches_have_two_codes_at_a_mixing_of_a_half():
    """Told by the gradient in noise-free images: a batch of one code has equal styles at all layers."""
    seen = []
    painter = PAINTERS["stylegan"]()

    def paint(params, styles, noise, resolution, alpha):
        jax.debug.callback(lambda styles: seen.append(np.ptp(np.asarray(styles), axis=1).max() > 0), styles)
        return painter.paint(params, styles, noise, resolution, alpha)

    algorithm = style_gan(
        painter._replace(paint=paint), Linear(), LOSS, optax.sgd(0.0), optax.sgd(0.0),
        latent_dim=5, phases=[Phase(8, 0, 0, 99, 4), Phase(8, 99, 0, 100, 4)], penalties=Penalties("none"), mixing=0.5,
    )  # fmt: skip
    run(algorithm, 60)
    assert 0.3 < np.mean(seen) < 0.7


@pytest.mark.parametrize("painter", ["progan", "stylegan"])
def test_a_stage_begins_where_the_one_before_ended(painter):
    """At alpha = 0 the new stage paints the old stage's images, enlarged."""
    module = PAINTERS[painter]()
    params = jax.jit(module.init)(KEY, jnp.ones((4, 5)))
    styles = module.broadcast(module.map(params, jax.random.normal(KEY, (4, 5))))
    noise = module.draw_noise(KEY, 4, 8)
    np.testing.assert_allclose(
        module.paint(params, styles, noise, 8, 0.0), upsample_nearest(module.paint(params, styles, noise, 4, 1.0)),
        atol=1e-6,
    )  # fmt: skip


def test_memory_of_a_stage_is_that_of_its_resolution():
    """Four times as many pixels, about four times the memory for what comes between."""
    algorithm = make(discriminator=Linear())
    batch = {"x": jax.ShapeDtypeStruct((256, 8, 8, 1), np.float32)}
    state = jax.eval_shape(algorithm.init, KEY, batch)
    small, large = (
        jax.jit(stage.step).lower(state, batch, KEY).compile().memory_analysis().temp_size_in_bytes
        for stage in algorithm.stages
    )
    assert 2.5 * small < large < 6 * small
