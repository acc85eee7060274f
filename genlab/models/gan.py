"""Generative adversarial networks: any loss, any network, any regulariser, and what is tried against mode collapse.

    min_G max_D  E_x log D(x) + E_z log(1 - D(G(z)))

The two players, "gen" and "disc", play a `Game`; see `genlab.models.adversarial` for the order of their steps.
Examples are seen by the networks in [-1, 1] where they are images, as they are where they are points.

Reference: Goodfellow et al. 2014, "Generative adversarial nets".
"""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from genlab import replay
from genlab.algorithm import Algorithm, Array, Batch, Key, Metrics, PyTree, State, new_player, new_state
from genlab.losses.penalty import gradient_penalty, r1_penalty
from genlab.models.adversarial import Game, is_off, make_step
from genlab.models.judge import make_judge
from genlab.networks.variables import apply, init

Penalty = Callable[[Callable[[Array], Array], Array, Array, Key], Array]
PENALTIES: dict[str, Penalty] = {  # (critic, real, fake, key) -> f32[B]
    "gradient": gradient_penalty,
    "r1": lambda critic, real, fake, key: r1_penalty(critic, real),
}


class AdversarialLoss(NamedTuple):
    """What either player minimises, f32[B] each.

    Attributes:
        discriminator: (real logits f32[B], fake logits f32[B]) -> f32[B].
        generator: (fake logits, real logits) -> f32[B]; most do not look at the real ones.
        is_relativistic: whether the generator's does.
        threshold: logits above it say "real"; None where they mean nothing but by comparison.
    """

    discriminator: Callable[[Array, Array], Array]
    generator: Callable[[Array, Array], Array]
    is_relativistic: bool = False
    threshold: float | None = 0.0


class Regulariser(NamedTuple):
    """What is asked of the discriminator beside its loss.

    Attributes:
        penalty: one of PENALTIES, or "none".
        weight: of the penalty.
        spectral_norm: whether every kernel is divided by its largest singular value.
        clip: weights are held in [-clip, clip] after every step; 0: they are not.
    """

    penalty: str = "none"
    weight: float | Array = 1.0
    spectral_norm: bool = False
    clip: float | Array = 0.0


class Replay(NamedTuple):
    """Experience replay: what the generator made is stored at every step, and the discriminator sees some of it again.

    Attributes:
        capacity: examples that are kept, the oldest going first; 0: none, and no replay.
        share: of the fakes that the discriminator is shown, those drawn from the buffer, in whole packs; the others are
            new.
    """

    capacity: int = 0
    share: float = 0.5


NOT_REGULARISED, NO_REPLAY = Regulariser(), Replay()


def gan(
    generator: nn.Module,
    discriminator: nn.Module,
    loss: AdversarialLoss,
    gen_tx: optax.GradientTransformation,
    disc_tx: optax.GradientTransformation,
    *,
    latent_dim: int,
    noise: str = "normal",
    conditional: bool = False,
    images: bool = True,
    regulariser: Regulariser = NOT_REGULARISED,
    replay_buffer: Replay = NO_REPLAY,
    packing: int = 1,
    augment: tuple[str, ...] = (),
    dynamics: str = "alternating",
    disc_steps: int = 1,
    gen_steps: int = 1,
    unroll_steps: int = 0,
    ema_decay: float | Array = 0.0,
) -> Algorithm:
    """A GAN.

    Args:
        generator: (codes f32[B, D], labels i32[B] if conditional, train) -> examples [B, ...].
        discriminator: (x f32[B, ...], labels i32[B, M] if conditional, train) -> logits f32[B]; with packing its
            channels are those of M examples.
        loss: of the two players.
        gen_tx, disc_tx: their optimizers.
        latent_dim: D.
        noise: p(z), "normal" N(0, I) or "uniform" on [-1, 1]^D.
        conditional: whether both are given the label.
        images: whether examples are images, of which the networks see 2 x - 1.
        regulariser, replay_buffer: see there.
        packing: M examples of one kind that the discriminator judges together (Lin et al. 2018); the batch holds a
            multiple of M.
        augment: kinds of `differentiable_augment`, of real and fake images alike wherever the discriminator looks.
        dynamics, disc_steps, gen_steps, unroll_steps: see `genlab.models.adversarial.make_step`.
        ema_decay: of the moving average of the generator that `generate` and `decode` use; a concrete 0 for none.

    Returns:
        Algorithm. `decode` maps codes to examples, and is None where a label is needed. `evaluate` gives, with the
        batch's own statistics as in training, either player's loss, the logits and the discriminator's `accuracy`;
        where packs are judged an example has its pack's. Of one-dimensional points `step` tells the mean of the fakes
        and the mean slope of the discriminator at real points.
    """
    to_network = (lambda x: 2.0 * x - 1.0) if images else (lambda x: x)
    from_network = (lambda x: 0.5 * (x + 1.0)) if images else (lambda x: x)

    def sample_codes(key: Key, num: int) -> Array:
        draw = {"normal": jax.random.normal, "uniform": lambda key, shape: jax.random.uniform(key, shape, minval=-1.0)}
        return draw[noise](key, (num, latent_dim))

    def label_of(batch: Batch) -> tuple[Array, ...]:
        return (batch["label"],) if conditional else ()

    def make(params: PyTree, stats: PyTree, codes: Array, batch: Batch, train: bool) -> tuple[Array, PyTree]:
        return apply(generator, params, stats, codes, *label_of(batch), train=train)

    def seen(batch: Batch) -> Batch:
        return {**batch, "x": to_network(batch["x"])}

    def init_state(key: Key, batch: Batch) -> State:
        key_gen, key_disc, key_codes = jax.random.split(key, 3)
        codes = sample_codes(key_codes, batch["x"].shape[0])
        gen_params, gen_stats = init(generator, key_gen, codes, *label_of(batch))
        params, stats = judge.init(key_disc, seen(batch))
        players = {"gen": new_player(gen_params, gen_tx, gen_stats), "disc": new_player(params, disc_tx, stats)}
        memory = {}
        if replay_buffer.capacity:
            memory = replay.init_buffer(replay_buffer.capacity, jax.tree.map(lambda column: column[0], kept(batch)))
        # the statistics of batch normalisation are averaged as the weights are that they belong to
        average = {} if is_off(ema_decay) else jax.tree.map(jnp.copy, {"gen": gen_params, "gen_stats": gen_stats})
        return new_state(players, average, memory)

    def kept(batch: Batch) -> Batch:
        """What of a batch the discriminator is shown."""
        return {name: batch[name] for name in ("x", "label") if name == "x" or conditional}

    def play(params: PyTree, stats: PyTree, batch: Batch, key: Key) -> tuple[Array, PyTree]:
        return make(params, stats, sample_codes(key, batch["x"].shape[0]), batch, True)

    def remember(memory: PyTree, fakes: Batch, key: Key) -> tuple[PyTree, Batch]:
        if not replay_buffer.capacity:
            return memory, fakes
        memory = replay.push(memory, kept(fakes))
        num = round(replay_buffer.share * fakes["x"].shape[0] / packing) * packing  # no pack is of both
        old = replay.draw(memory, key, num)
        return memory, {name: jnp.concatenate([old[name], new[num:]]) for name, new in kept(fakes).items()}

    def disc_loss(
        params: PyTree, stats: PyTree, batch: Batch, fakes: Batch, key: Key
    ) -> tuple[Array, tuple[PyTree, Metrics]]:
        key_real, key_fake, key_penalty = jax.random.split(key, 3)
        real, real_label = judge.look(seen(batch), key_real)
        fake, fake_label = judge.look(fakes, key_fake)
        real_logits, stats = judge.logits(params, stats, real, real_label)
        fake_logits, stats = judge.logits(params, stats, fake, fake_label)
        critic = lambda x: judge.logits(params, stats, x, real_label)[0]
        value = jnp.mean(loss.discriminator(real_logits, fake_logits))
        metrics = {"disc_loss": value, **of_logits(real_logits, fake_logits, loss.threshold)}
        if not images and real.shape[1:] == (1,):  # in one dimension the players can be plotted
            slope = jax.grad(lambda x: jnp.sum(critic(x)))(real)
            metrics |= {"gen_mean": jnp.mean(fake), "disc_slope": jnp.mean(slope)}
        if regulariser.penalty != "none":
            penalty = jnp.mean(PENALTIES[regulariser.penalty](critic, real, fake, key_penalty))
            value, metrics = value + regulariser.weight * penalty, {**metrics, "penalty": penalty}
        return value, (stats, metrics)

    def gen_loss(params: PyTree, stats: PyTree, batch: Batch, fakes: Batch, key: Key) -> tuple[Array, Metrics]:
        key_real, key_fake = jax.random.split(key)
        fake_logits, _ = judge.logits(params, stats, *judge.look(fakes, key_fake))
        real_logits = jnp.zeros_like(fake_logits)
        if loss.is_relativistic:
            real_logits, _ = judge.logits(params, stats, *judge.look(seen(batch), key_real))
        value = jnp.mean(loss.generator(fake_logits, real_logits))
        return value, {"gen_loss": value}

    def restrain(params: PyTree) -> PyTree:
        if is_off(regulariser.clip):
            return params
        limit = jnp.where(jnp.asarray(regulariser.clip) == 0.0, jnp.inf, regulariser.clip)  # a traced 0 is none, too
        return jax.tree.map(lambda leaf: jnp.clip(leaf, -limit, limit), params)

    judge = make_judge(
        discriminator, conditional=conditional, packing=packing, augment=augment,
        spectral_norm=regulariser.spectral_norm,
    )  # fmt: skip
    game = Game(play, disc_loss, gen_loss, remember, restrain)
    step = make_step(
        game, gen_tx, disc_tx, dynamics=dynamics, disc_steps=disc_steps, gen_steps=gen_steps,
        unroll_steps=unroll_steps, ema_decay=ema_decay,
    )  # fmt: skip

    def show(state: State, codes: Array, batch: Batch) -> Array:
        gen, average = state.players["gen"], state.average
        params, stats = average.get("gen", gen.params), average.get("gen_stats", gen.stats)
        return from_network(make(params, stats, codes, batch, False)[0])

    def generate(state: State, batch: Batch, key: Key) -> Array:
        return show(state, sample_codes(key, batch["x"].shape[0]), batch)

    def evaluate(state: State, batch: Batch, key: Key) -> Metrics:
        key_codes, key_real, key_fake = jax.random.split(key, 3)
        gen, disc = state.players["gen"], state.players["disc"]
        size = batch["x"].shape[0]
        whole = jnp.arange(-(-size // packing) * packing) % size  # of packs, the first examples again
        batch = {name: column[whole] for name, column in batch.items()}
        fakes = {**batch, "x": make(gen.params, gen.stats, sample_codes(key_codes, len(whole)), batch, True)[0]}
        real_logits, _ = judge.logits(disc.params, disc.stats, *judge.look(seen(batch), key_real))
        fake_logits, _ = judge.logits(disc.params, disc.stats, *judge.look(fakes, key_fake))
        terms = {
            "disc_loss": loss.discriminator(real_logits, fake_logits),
            "gen_loss": loss.generator(fake_logits, real_logits),
            "real_logit": real_logits,
            "fake_logit": fake_logits,
            "accuracy": accuracy(real_logits, fake_logits, loss.threshold),
        }
        return {name: jnp.repeat(term, packing)[:size] for name, term in terms.items()}

    decode = None if conditional else lambda state, codes, key: show(state, codes, {})
    return Algorithm(init_state, step, evaluate, generate, None, decode, None, "implicit")


def of_logits(real_logits: Array, fake_logits: Array, threshold: float | None) -> Metrics:
    """How the discriminator does: its mean logits, and its accuracy."""
    right = jnp.mean(accuracy(real_logits, fake_logits, threshold))
    return {"real_logit": jnp.mean(real_logits), "fake_logit": jnp.mean(fake_logits), "accuracy": right}


def accuracy(real_logits: Array, fake_logits: Array, threshold: float | None) -> Array:
    """f32[B], the mean of a discriminator's two kinds of being right; 1/2 on average where it cannot tell.

    Without a threshold a logit is right as often as it lies on its side of the other kind's, ties half: the mean over
    the batch is then the area under the ROC curve.
    """
    if threshold is not None:
        return 0.5 * (real_logits > threshold).astype(jnp.float32) + 0.5 * (fake_logits < threshold).astype(jnp.float32)
    above = 0.5 + 0.5 * jnp.sign(real_logits[:, None] - fake_logits)  # [B, B]
    return 0.5 * (jnp.mean(above, axis=1) + jnp.mean(above, axis=0))
