"""One step of a game, however it is played, against a small game worked out in numpy.

The generator makes x = a z + c of noise z that the batch brings; the discriminator is D(x) = w x + v x^2 / 2. It loses
mean D(fake) - mean D(real) + (w^2 + v^2) / 2, the generator -mean D(fake).
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genlab.algorithm import new_player, new_state
from genlab.models import adversarial
from genlab.models.adversarial import Game, make_step
from genlab.networks.discriminators import DCGANTrunk, Discriminator
from genlab.networks.generators import DCGANGenerator
from genlab.networks.variables import apply, init

KEY = jax.random.key(0)
GEN, DISC, GEN_RATE, DISC_RATE = {"a": 0.7, "c": -0.4}, {"w": 0.3, "v": -0.6}, 0.2, 0.3


def batch(size, seed=0):
    rng = np.random.default_rng(seed)
    return {"x": rng.normal(1.5, 0.5, size).astype(np.float32), "z": rng.normal(size=size).astype(np.float32)}


def values(params, x):
    return params["w"] * x + 0.5 * params["v"] * x**2


def play(params, stats, batch, key):
    return params["a"] * batch["z"] + params["c"], {"plays": stats["plays"] + 1.0}


def disc_loss(params, stats, batch, fakes, key):
    loss = jnp.mean(values(params, fakes["x"])) - jnp.mean(values(params, batch["x"]))
    return loss + 0.5 * (params["w"] ** 2 + params["v"] ** 2), (
        {"answers": stats["answers"] + 1.0},
        {"disc_loss": loss},
    )


def gen_loss(params, stats, batch, fakes, key):
    loss = -jnp.mean(values(params, fakes["x"]))
    return loss, {"gen_loss": loss}


GAME = Game(play, disc_loss, gen_loss)


def start(gen=GEN, disc=DISC, gen_tx=None, disc_tx=None, average=None):
    params = ({name: jnp.float32(value) for name, value in player.items()} for player in (gen, disc))
    stats = ({"plays": jnp.float32(0)}, {"answers": jnp.float32(0)})
    txs = gen_tx or optax.sgd(GEN_RATE), disc_tx or optax.sgd(DISC_RATE)
    players = {name: new_player(*given) for name, *given in zip(("gen", "disc"), params, txs, stats, strict=True)}
    return new_state(players, average)


def after(batch, game=GAME, state=None, gen_tx=None, disc_tx=None, **options):
    """(gen, disc, whole State, metrics) after one step."""
    step = make_step(game, gen_tx or optax.sgd(GEN_RATE), disc_tx or optax.sgd(DISC_RATE), **options)
    state, metrics = jax.jit(step)(start() if state is None else state, batch, KEY)
    return *(jax.tree.map(float, state.players[name].params) for name in ("gen", "disc")), state, metrics


# The same in numpy, float64.


def disc_gradient(gen, disc, batch, fakes=None):
    real = np.float64(batch["x"])
    fake = gen["a"] * np.float64(batch["z"]) + gen["c"] if fakes is None else fakes
    return {
        "w": fake.mean() - real.mean() + disc["w"],
        "v": 0.5 * (fake**2).mean() - 0.5 * (real**2).mean() + disc["v"],
    }


def gen_gradient(gen, disc, batch):
    z = np.float64(batch["z"])
    slope = -(disc["w"] + disc["v"] * (gen["a"] * z + gen["c"]))
    return {"a": (slope * z).mean(), "c": slope.mean()}


def less(params, gradient, rate):
    return {name: value - rate * gradient[name] for name, value in params.items()}


def learn(gen, disc, batch):
    return less(disc, disc_gradient(gen, disc, batch), DISC_RATE)


def improve(gen, disc, batch):
    return less(gen, gen_gradient(gen, disc, batch), GEN_RATE)


def assert_players(found, gen, disc, rtol=2e-6):
    for player, want in zip(found, (gen, disc), strict=True):
        assert player == pytest.approx(want, rel=rtol, abs=1e-6)


def test_alternating_answers_the_new_discriminator():
    given = batch(6)
    *found, state, metrics = after(given)
    disc = learn(GEN, DISC, given)
    assert_players(found, improve(GEN, disc, given), disc)
    assert state.step == 1
    fakes = GEN["a"] * given["z"] + GEN["c"]
    assert metrics["disc_loss"] == pytest.approx(values(DISC, fakes).mean() - values(DISC, given["x"]).mean(), rel=1e-5)
    assert metrics["gen_loss"] == pytest.approx(-values(disc, fakes).mean(), rel=1e-5)


def test_simultaneous_answers_the_old_one():
    given = batch(6)
    *found, _, _ = after(given, dynamics="simultaneous")
    assert_players(found, improve(GEN, DISC, given), learn(GEN, DISC, given))


def test_extragradient_follows_the_gradients_one_step_ahead():
    given = batch(6)
    *found, _, _ = after(given, dynamics="extragradient")
    gen, disc = improve(GEN, DISC, given), learn(GEN, DISC, given)
    ahead = gen_gradient(gen, disc, given), disc_gradient(gen, disc, given)
    assert_players(found, less(GEN, ahead[0], GEN_RATE), less(DISC, ahead[1], DISC_RATE))


def test_extragradient_moves_moments_on_from_where_the_look_ahead_left_them():
    """With momentum m: u = g, and then u' = m u + g'; both steps are taken, the second from the start."""
    given = batch(6)
    txs = {"gen_tx": optax.sgd(GEN_RATE, momentum=0.5), "disc_tx": optax.sgd(DISC_RATE, momentum=0.5)}
    *found, _, _ = after(given, state=start(**txs), dynamics="extragradient", **txs)
    here = gen_gradient(GEN, DISC, given), disc_gradient(GEN, DISC, given)
    gen, disc = less(GEN, here[0], GEN_RATE), less(DISC, here[1], DISC_RATE)
    ahead = gen_gradient(gen, disc, given), disc_gradient(gen, disc, given)
    moved = [{name: 0.5 * h[name] + a[name] for name in h} for h, a in zip(here, ahead, strict=True)]
    assert_players(found, less(GEN, moved[0], GEN_RATE), less(DISC, moved[1], DISC_RATE))


@pytest.mark.parametrize(
    ("options", "plays", "answers"),
    [
        ({}, 1, 1),
        ({"dynamics": "simultaneous"}, 1, 1),
        ({"dynamics": "extragradient"}, 2, 2),
        ({"disc_steps": 3}, 1, 3),  # the generator's stats are its own steps'
        ({"gen_steps": 3}, 3, 1),
        ({"unroll_steps": 3}, 1, 1),  # imagined answers leave no trace
    ],
)
def test_stats_are_written_by_a_players_own_steps_alone(options, plays, answers):
    _, _, state, _ = after(batch(6), **options)
    assert state.players["gen"].stats == {"plays": plays} and state.players["disc"].stats == {"answers": answers}


@pytest.mark.parametrize(("num", "dynamics"), [(1, "simultaneous"), (3, "simultaneous"), (2, "alternating")])
def test_unrolled_gradient_is_that_of_the_loss_after_the_discriminators_answers(num, dynamics):
    """Against finite differences through as many explicit steps of it."""
    given = batch(6)
    *found, _, _ = after(given, dynamics=dynamics, unroll_steps=num)
    moved = learn(GEN, DISC, given)

    def loss(gen):
        disc = moved if dynamics == "alternating" else DISC
        for _ in range(num):
            disc = learn(gen, disc, given)
        return -values(disc, gen["a"] * np.float64(given["z"]) + gen["c"]).mean()

    gradient = {
        name: (loss(GEN | {name: GEN[name] + 1e-5}) - loss(GEN | {name: GEN[name] - 1e-5})) / 2e-5 for name in GEN
    }
    assert_players(found, less(GEN, gradient, GEN_RATE), moved, rtol=1e-5)
    through_the_last_alone = moved if dynamics == "alternating" else DISC
    for _ in range(num):
        through_the_last_alone = learn(GEN, through_the_last_alone, given)
    assert abs(found[0]["a"] - improve(GEN, through_the_last_alone, given)["a"]) > 1e-3


def test_the_discriminator_takes_its_steps_on_parts_of_the_batch():
    """n is the fast axis: of n = 3 the parts are every third example, and the round is played on the last."""
    given = batch(12)
    *found, _, _ = after(given, disc_steps=3)
    parts, disc = [{name: x[i::3] for name, x in given.items()} for i in range(3)], DISC
    for part in parts:
        disc = learn(GEN, disc, part)
    assert_players(found, improve(GEN, disc, parts[2]), disc)


def test_simultaneous_play_of_several_steps_answers_the_discriminator_before_its_last():
    given = batch(4)
    *found, _, _ = after(given, dynamics="simultaneous", disc_steps=2)
    parts = [{name: x[i::2] for name, x in given.items()} for i in range(2)]
    practised = learn(GEN, DISC, parts[0])
    assert_players(found, improve(GEN, practised, parts[1]), learn(GEN, practised, parts[1]))


def test_the_generator_takes_its_steps_against_one_discriminator():
    given = batch(6)
    *found, _, _ = after(given, gen_steps=3)
    gen, disc = GEN, learn(GEN, DISC, given)
    for _ in range(3):
        gen = improve(gen, disc, given)
    assert_players(found, gen, disc)


def test_in_simultaneous_play_its_further_steps_are_against_the_discriminator_that_the_first_saw():
    given, gen = batch(6), GEN
    *found, _, _ = after(given, dynamics="simultaneous", gen_steps=3)
    for _ in range(3):
        gen = improve(gen, DISC, given)
    assert_players(found, gen, learn(GEN, DISC, given))


def test_an_extragradient_remembers_what_was_shown_and_not_what_was_thought_of():
    count = lambda memory, fakes, key: (memory + fakes["x"].size, fakes)
    for dynamics in adversarial.DYNAMICS:
        state = start().replace(memory=jnp.int32(0))
        *_, state, _ = after(batch(6), GAME._replace(remember=count), state, dynamics=dynamics)
        assert state.memory == 6


def test_every_play_and_every_step_of_the_discriminator_has_a_key_of_its_own():
    """A number drawn from each is noted in the player's stats; the plays that train the discriminator leave none."""
    number = lambda key: jax.random.randint(key, (), 0, 2**20).astype(jnp.float32)
    note = lambda notes, key: jnp.roll(notes, 1).at[0].set(number(key))
    noting_play = lambda params, stats, batch, key: (jnp.full((6,), params["c"]), {"keys": note(stats["keys"], key)})

    def noting_loss(params, stats, batch, fakes, key):
        return params["w"] * jnp.mean(fakes["x"]), ({"keys": note(stats["keys"], key)}, {})

    state = start()
    players = {
        name: new_player(player.params, optax.sgd(0.1), {"keys": jnp.zeros(4)})
        for name, player in state.players.items()
    }
    game = Game(noting_play, noting_loss, gen_loss)
    for options in ({"gen_steps": 3, "disc_steps": 3}, {"dynamics": "extragradient"}):
        step = jax.jit(make_step(game, optax.sgd(0.1), optax.sgd(0.1), **options))
        found = [step(new_state(players), batch(6), jax.random.key(i))[0].players for i in range(2)]
        numbers = np.concatenate([found[i][name].stats["keys"] for i in range(2) for name in ("gen", "disc")])
        numbers = numbers[numbers > 0]
        assert len(numbers) == (12 if "gen_steps" in options else 8) and len(np.unique(numbers)) == len(numbers) - (
            4 if "dynamics" in options else 0  # one round's key serves the look ahead and the step: the same noise
        )


def test_averages_are_moved_by_hand_fast_at_first():
    zero = jnp.float32(0)
    names = ("a", "c")
    state = start(
        average={"gen": dict.fromkeys(names, zero), "gen_stats": {"plays": zero}, "disc": {"w": zero, "v": zero}}
    )
    step = jax.jit(make_step(GAME, optax.sgd(GEN_RATE), optax.sgd(DISC_RATE), ema_decay=0.9))
    gen, disc, want = GEN, DISC, dict.fromkeys((*GEN, *DISC, "plays"), 0.0)
    for i in range(3):
        state, _ = step(state, batch(6, i), KEY)
        disc = learn(gen, disc, batch(6, i))
        gen = improve(gen, disc, batch(6, i))
        decay = min(0.9, (1 + i) / (10 + i))
        want = {
            name: decay * want[name] + (1 - decay) * new for name, new in ({**gen, **disc, "plays": i + 1.0}).items()
        }
    found = {name: float(mean) for part in state.average.values() for name, mean in part.items()}
    assert found == pytest.approx(want, rel=1e-5)


def test_the_discriminator_is_restrained_after_every_step_of_it():
    given, limit = batch(8), 0.35
    clip = lambda disc: {name: float(np.clip(value, -limit, limit)) for name, value in disc.items()}
    game = GAME._replace(restrain=lambda params: jax.tree.map(lambda leaf: jnp.clip(leaf, -limit, limit), params))
    *found, _, _ = after(given, game, disc_steps=2)
    parts = [{name: x[i::2] for name, x in given.items()} for i in range(2)]
    once = clip(learn(GEN, DISC, parts[0]))
    twice = learn(GEN, once, parts[1])
    assert twice != clip(twice) and once != learn(GEN, DISC, parts[0])
    assert_players(found, improve(GEN, clip(twice), parts[1]), clip(twice))


def test_an_extragradient_is_projected_from_where_the_discriminator_is():
    """P(d - r F(P(d - r F(d)))): a look ahead that ends at the border does not stop the step towards it."""
    given, limit = batch(8), 0.35
    clip = lambda disc: {name: float(np.clip(value, -limit, limit)) for name, value in disc.items()}
    game = GAME._replace(restrain=lambda params: jax.tree.map(lambda leaf: jnp.clip(leaf, -limit, limit), params))
    *found, _, _ = after(given, game, dynamics="extragradient")
    gen, disc = improve(GEN, DISC, given), clip(learn(GEN, DISC, given))
    want = less(DISC, disc_gradient(gen, disc, given), DISC_RATE)
    assert clip(want) != want and abs(disc["w"]) == limit
    assert_players(found, less(GEN, gen_gradient(gen, disc, given), GEN_RATE), clip(want))


def test_what_is_remembered_is_shown_to_the_discriminator_and_not_learnt_from_by_the_generator():
    given, old = batch(4), np.array([5.0, -3.0], np.float32)

    def remember(memory, fakes, key):
        return memory + 1, {**fakes, "x": jnp.concatenate([jnp.asarray(old), fakes["x"][2:]])}

    state = start().replace(memory=jnp.int32(0))
    *found, state, _ = after(given, GAME._replace(remember=remember), state)
    fakes = np.concatenate([old, GEN["a"] * given["z"][2:] + GEN["c"]])
    disc = less(DISC, disc_gradient(GEN, DISC, given, np.float64(fakes)), DISC_RATE)
    assert_players(found, improve(GEN, disc, given), disc)
    assert state.memory == 1


@pytest.mark.parametrize("num", [1, 2, 3])
def test_a_split_batch_is_every_nth_example(num):
    given = {"x": np.arange(12).reshape(6, 2), "label": np.arange(6)}
    first, last = adversarial.split_batch(given, num)
    for name, x in given.items():
        np.testing.assert_array_equal(last[name], x[num - 1 :: num])
        if num > 1:
            np.testing.assert_array_equal(first[name], [x[i::num] for i in range(num - 1)])


def test_a_weight_is_off_where_it_is_zero_for_good():
    assert adversarial.is_off(0.0) and adversarial.is_off(jnp.float32(0)) and not adversarial.is_off(0.1)
    assert not jax.jit(lambda weight: jnp.bool_(adversarial.is_off(weight)))(0.0)


def test_games_that_cannot_be_played_are_refused():
    with pytest.raises(ValueError, match="dynamics is 'chess'; known: alternating, simultaneous, extragradient"):
        make_step(GAME, optax.sgd(0.1), optax.sgd(0.1), dynamics="chess")
    for more in ({"disc_steps": 2}, {"gen_steps": 2}, {"unroll_steps": 1}):
        with pytest.raises(ValueError, match="an extragradient looks ahead of one step of each player"):
            make_step(GAME, optax.sgd(0.1), optax.sgd(0.1), dynamics="extragradient", **more)


# The forward pass of a DCGAN is shared by the players; written plainly, each has its own.


def test_the_shared_forward_pass_gives_the_plain_gradients():
    generator, discriminator = DCGANGenerator((4,), (6, 5, 1)), Discriminator(DCGANTrunk((3, 4)))
    rng = np.random.default_rng(1)
    given = {"x": rng.uniform(-1, 1, (6, 6, 5, 1)).astype(np.float32), "z": rng.normal(size=(6, 4)).astype(np.float32)}

    def play(params, stats, batch, key):
        return apply(generator, params, stats, batch["z"], train=True)

    def disc_loss(params, stats, batch, fakes, key):
        real, stats = apply(discriminator, params, stats, batch["x"], train=True)
        fake, stats = apply(discriminator, params, stats, fakes["x"], train=True)
        return jnp.mean(jax.nn.softplus(-real) + jax.nn.softplus(fake)), (stats, {})

    def gen_loss(params, stats, batch, fakes, key):
        return jnp.mean(jax.nn.softplus(-apply(discriminator, params, stats, fakes["x"], train=True)[0])), {}

    def made(module, x):
        drawn = lambda path, leaf: rng.uniform(-0.3, 0.3, leaf.shape).astype(np.float32) + (path[-1].key == "var")
        params, stats = jax.eval_shape(lambda: init(module, KEY, x))
        return jax.tree.map_with_path(drawn, params), jax.tree.map_with_path(drawn, stats)

    tx = optax.sgd(0.5)
    (gen, gen_stats), (disc, disc_stats) = made(generator, given["z"]), made(discriminator, given["x"])
    players = {"gen": new_player(gen, tx, gen_stats), "disc": new_player(disc, tx, disc_stats)}
    state, _ = jax.jit(make_step(Game(play, disc_loss, gen_loss), tx, tx))(new_state(players), given, KEY)

    @jax.jit
    def plainly(gen, disc):
        """Gradients of each player's loss, and the generator's stats; the discriminator moves first."""
        make = lambda gen: apply(generator, gen, gen_stats, given["z"], train=True)
        judge = lambda disc, x: apply(discriminator, disc, disc_stats, x, train=True)[0]
        fakes, new_stats = make(gen)
        loss = lambda disc: jnp.mean(jax.nn.softplus(-judge(disc, given["x"])) + jax.nn.softplus(judge(disc, fakes)))
        disc_slope = jax.grad(loss)(disc)
        disc = jax.tree.map(lambda leaf, slope: leaf - 0.5 * slope, disc, disc_slope)
        gen_slope = jax.grad(lambda gen: jnp.mean(jax.nn.softplus(-judge(disc, make(gen)[0]))))(gen)
        return {"gen": gen_slope, "disc": disc_slope}, new_stats

    slopes, stats = plainly(gen, disc)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), state.players["gen"].stats, stats)
    for name, before in (("gen", gen), ("disc", disc)):
        after = state.players[name].params
        for old, new, slope in zip(*map(jax.tree.leaves, (before, after, slopes[name])), strict=True):
            np.testing.assert_allclose((old - new) / 0.5, slope, atol=1e-3 * np.max(np.abs(slope)) + 1e-6)
        assert max(np.max(np.abs(slope)) for slope in jax.tree.leaves(slopes[name])) > 1e-2
