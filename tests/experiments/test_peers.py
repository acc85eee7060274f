"""What the benchmark compares is one and the same step: equal weights, batch and noise give equal weights again."""

import functools
import pathlib
import shutil
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import vae as recipes
from experiments.peers import keras_vae, torch_gan, torch_training, torch_vae, worker
from experiments.timing import gan_rows
from experiments.vae import build
from genlab import data

B = 4


@pytest.fixture(scope="module")
def dataset():
    rng = np.random.default_rng(0)
    split = {"x": rng.integers(0, 256, (8, 28, 28, 1), np.uint8)}
    return data.Dataset("noise", split, split, split, 0, None)


@pytest.fixture(scope="module")
def binary():
    return (np.random.default_rng(1).random((B, 28, 28, 1)) < 0.3).astype(np.float32)


def take_step(algorithm, batch, key):
    """(params before, params after, Adam's first moment after, loss) of the only player."""
    state = jax.jit(algorithm.init)(jax.random.key(0), batch)
    (name,) = state.players
    after, metrics = jax.jit(algorithm.step)(state, batch, key)
    moments = [s for s in jax.tree.leaves(after.players[name].opt_state, is_leaf=lambda s: hasattr(s, "mu"))]
    return state.players[name].params, after.players[name].params, moments[0].mu, metrics["loss"]


def images(x):
    """NHWC as PyTorch's NCHW."""
    torch = pytest.importorskip("torch")
    return torch.from_numpy(np.array(np.moveaxis(np.asarray(x), -1, 1)))


def flat_rows(kernel, height, width):
    """Rows of a dense kernel behind a flattened HWC image, in the order of CHW."""
    return kernel.reshape(height, width, -1, kernel.shape[-1]).transpose(2, 0, 1, 3).reshape(kernel.shape)


def linear(layer):
    return layer["kernel"].T, layer["bias"]


def from_image(layer):
    return flat_rows(layer["kernel"], 7, 7).T, layer["bias"]


def to_image(layer):
    # an image comes out: what is true of a kernel's rows is true of its columns
    bias = layer["bias"].reshape(7, 7, -1).transpose(2, 0, 1).reshape(-1)
    return flat_rows(layer["kernel"].T, 7, 7), bias


def conv(layer):
    return layer["kernel"].transpose(3, 2, 0, 1), layer["bias"]


def up(layer):
    # PyTorch's transposed convolution reads its kernel backwards
    return layer["kernel"][::-1, ::-1].transpose(2, 3, 0, 1), layer["bias"]


DENSE_ENCODER = [(("trunk", "Dense_0"), linear), (("Dense_0",), linear)]
DENSE_DECODER = [(("MLP_0", "Dense_0"), linear), (("Dense_0",), linear)]
CONV_ENCODER = [
    (("trunk", "Conv_0"), conv), (("trunk", "Conv_1"), conv), (("trunk", "MLP_0", "Dense_0"), from_image),
    (("Dense_0",), linear),
]  # fmt: skip
CONV_DECODER = [
    (("MLP_0", "Dense_0"), linear), (("MLP_0", "Dense_1"), to_image), (("ConvTranspose_0",), up),
    (("ConvTranspose_1",), up),
]  # fmt: skip


def in_their_order(params, layers):
    """[weight, bias, weight, bias, ...] in the peer's order and layout."""
    params = jax.tree.map(np.asarray, params)
    arrays = []
    for path, convert in layers:
        layer = params
        for name in path:
            layer = layer[name]
        arrays += [np.array(array, order="C") for array in convert(layer)]
    return arrays


def assert_same_step(ours, theirs, moment, least=1e-6):
    for a, b, m in zip(ours, theirs, moment, strict=True):
        assert a.shape == b.shape
        # where the gradient is nothing but rounding, Adam's first step is plus or minus the learning rate, by chance
        counts = (np.abs(m) > least) | (m == 0)
        assert counts.mean() > 0.99
        np.testing.assert_allclose(np.where(counts, a, 0), np.where(counts, b, 0), atol=1e-5)


def by_compiler(objective):
    """torch.compile, where there is a C++ compiler that it can call."""
    torch = pytest.importorskip("torch")
    if not shutil.which("g++") and not shutil.which("clang++"):
        pytest.skip("torch.compile needs a C++ compiler")
    return torch.compile(objective)


@pytest.mark.filterwarnings("ignore")  # of PyTorch's own modules
@pytest.mark.parametrize(
    ("variant", "kind", "encoder_layers", "decoder_layers"),
    [("mnist", "dense", DENSE_ENCODER, DENSE_DECODER), ("conv", "conv", CONV_ENCODER, CONV_DECODER)],
)
@pytest.mark.parametrize("adam", ["default", "foreach", "fused", "fused, compiled"])
def test_the_torch_vae_takes_our_step(dataset, binary, variant, kind, encoder_layers, decoder_layers, adam):
    torch = pytest.importorskip("torch")
    objective = by_compiler(torch_vae.objective) if "compiled" in adam else torch_vae.objective
    key = jax.random.key(7)
    before, after, moment, loss = take_step(
        build(recipes.get_config(variant), dataset), {"x": jnp.asarray(binary)}, key
    )
    order = lambda params: (
        in_their_order(params["encoder"], encoder_layers) + in_their_order(params["decoder"], decoder_layers)
    )
    encoder, decoder = torch_vae.networks(kind)
    theirs = [*encoder.parameters(), *decoder.parameters()]
    with torch.no_grad():
        for parameter, array in zip(theirs, order(before), strict=True):
            parameter.copy_(torch.from_numpy(array))
    # our step reparameterizes with its key as it is
    noise = torch.from_numpy(np.array(jax.random.normal(key, (B, 20))))
    optimizer = torch.optim.Adam(theirs, lr=1e-3, **torch_training.ADAM[adam.split(",")[0]])
    their_loss = torch_training.descend(optimizer, objective, encoder, decoder, images(binary), noise)
    np.testing.assert_allclose(their_loss.item(), loss, rtol=1e-5)
    assert_same_step(order(after), [p.detach().numpy() for p in theirs], order(moment))


# "SAME" pads an even side by one more at its end, PyTorch's padding by one more at its beginning: as in a mirror, in
# which images and kernels are turned by 180 degrees


def mirrored(x):
    return np.asarray(x)[..., ::-1, ::-1, :]


def turned_conv(kernel):
    return kernel[::-1, ::-1].transpose(3, 2, 0, 1)


def turned_up(kernel):
    return kernel.transpose(2, 3, 0, 1)


def turned_rows(kernel):
    return flat_rows(kernel.reshape(7, 7, -1, kernel.shape[-1])[::-1, ::-1].reshape(kernel.shape), 7, 7).T


def turned_columns(kernel):
    return turned_rows(kernel.T).T


def same(array):
    return array


GENERATOR = [
    ("Dense_0", "kernel", turned_columns), ("BatchNorm_0", "scale", same), ("BatchNorm_0", "bias", same),
    ("ConvTranspose_0", "kernel", turned_up), ("BatchNorm_1", "scale", same), ("BatchNorm_1", "bias", same),
    ("ConvTranspose_1", "kernel", turned_up), ("ConvTranspose_1", "bias", same),
]  # fmt: skip
TRUNK = {
    "dcgan": [("BatchNorm_0", "scale", same), ("BatchNorm_0", "bias", same)],
    "gradient_penalty": [("Conv_1", "bias", same)],
}  # fmt: skip


def players_in_their_order(kind, gen, disc):
    """Parameters, or moments, of generator and discriminator in the order and layout of the peer's."""
    disc = disc["trunk"] | {"Dense_0": disc["Dense_0"]}
    layers = [
        ("Conv_0", "kernel", turned_conv), ("Conv_0", "bias", same), ("Conv_1", "kernel", turned_conv), *TRUNK[kind],
        ("Dense_0", "kernel", turned_rows), ("Dense_0", "bias", same),
    ]  # fmt: skip
    pick = lambda params, names: [
        np.array(convert(np.asarray(params[layer][name])), order="C") for layer, name, convert in names
    ]
    return pick(gen, GENERATOR) + pick(disc, layers)


@pytest.mark.filterwarnings("ignore")  # of PyTorch's own modules
@pytest.mark.parametrize(("kind", "how"), [("dcgan", "eager"), ("dcgan", "compiled"), ("gradient_penalty", "eager")])
def test_the_torch_gan_takes_our_step(dataset, binary, kind, how):
    torch = pytest.importorskip("torch")
    compiled = by_compiler if how == "compiled" else lambda function: function
    (row,) = getattr(gan_rows, kind)(dataset, "float32")
    greys = 0.5 * binary + 0.1 * np.random.default_rng(2).random(binary.shape, np.float32)
    batch, key = {"x": jnp.asarray(greys)}, jax.random.key(3)
    before = jax.jit(row.algorithm.init)(jax.random.key(0), batch)
    after, metrics = jax.jit(row.algorithm.step)(before, batch, key)

    def order(state, what):
        return players_in_their_order(kind, *(what(state.players[name]) for name in ("gen", "disc")))

    modules = torch_gan.networks(kind)
    theirs = [parameter for module in modules for parameter in module.parameters()]
    with torch.no_grad():
        for parameter, array in zip(theirs, order(before, lambda player: player.params), strict=True):
            parameter.copy_(torch.from_numpy(array))
    # the keys of our step: a round's, of which the first is the codes' and the third the discriminator's
    key_play, _, key_disc, _ = jax.random.split(jax.random.split(key, 3)[0], 4)
    given = [torch.from_numpy(np.array(jax.random.normal(key_play, (B, torch_gan.LATENT_DIM))))]
    if kind == "gradient_penalty":
        epsilon = jax.random.uniform(jax.random.split(key_disc, 3)[2], (B, 1))
        given.append(torch.from_numpy(np.array(epsilon)[..., None, None]))
    real, *drawn = torch_gan.draw(kind, images(mirrored(greys)))
    assert [each.shape for each in drawn] == [each.shape for each in given]
    adam = functools.partial(torch.optim.Adam, **torch_gan.ADAM[kind])
    disc_loss, gen_loss = torch_gan.play(kind)(modules, adam, compiled)(real, *given)
    np.testing.assert_allclose(gen_loss.item(), metrics["gen_loss"], rtol=1e-4)
    penalty = 10 * metrics.get("penalty", 0.0)
    np.testing.assert_allclose(disc_loss.item(), metrics["disc_loss"] + penalty, rtol=1e-4)

    def first_moment(player):
        return next(
            s.mu for s in jax.tree.leaves(player.opt_state, is_leaf=lambda s: hasattr(s, "mu")) if hasattr(s, "mu")
        )

    found = [parameter.detach().numpy() for parameter in theirs]
    assert_same_step(order(after, lambda player: player.params), found, order(after, first_moment))


@pytest.mark.parametrize("kind", ["dcgan", "gradient_penalty"])
def test_the_torch_gan_draws_standard_codes_and_sees_images_around_zero(kind):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    real, codes, *epsilon = torch_gan.draw(kind, torch.full((400, 1, 2, 2), 0.25))
    assert set(real.unique().tolist()) == {-0.5}
    assert codes.shape == (400, 100) and abs(codes.std().item() - 1) < 0.02 and abs(codes.mean().item()) < 0.02
    assert [each.shape for each in epsilon] == ([(400, 1, 1, 1)] if kind == "gradient_penalty" else [])
    assert all(0 <= each.min() < 0.05 and 0.95 < each.max() <= 1 for each in epsilon)


def test_the_torch_vae_draws_binary_pixels_and_standard_noise(binary):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    x, noise = torch_vae.draw(torch.full((400, 1, 28, 28), 0.3))
    assert set(x.unique().tolist()) == {0.0, 1.0} and abs(x.mean().item() - 0.3) < 0.005
    assert noise.shape == (400, 20) and abs(noise.std().item() - 1) < 0.05 and abs(noise.mean().item()) < 0.05


@pytest.mark.filterwarnings("ignore")  # of PyTorch's own modules
def test_what_cannot_be_compiled_is_left_out_in_one_line(monkeypatch):
    torch = pytest.importorskip("torch")

    def refuse(objective):
        def compiled(*arguments):
            raise RuntimeError("no compiler\nand a page of details")

        return compiled

    monkeypatch.setattr(torch, "compile", refuse)
    pixels = np.random.default_rng(0).integers(0, 256, (16, 28, 28, 1), np.uint8)
    arguments = {"images": pixels, "batch_size": 8, "precision": "float32", "platform": "cpu", "threads": 1}
    programs, left_out = torch_vae.contestants("dense", **arguments)
    assert [program.short for program in programs] == ["PyTorch eager"]
    assert list(left_out) == ["torch.compile is left out: RuntimeError: no compiler"]
    assert programs[0].run(5) > 0  # more steps than there are batches in an epoch


def test_torch_without_a_gpu_is_left_out_of_a_race_on_one(dataset):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is one")
    arguments = {"images": dataset.train["x"], "batch_size": 4, "precision": "float32", "threads": 1}
    programs, (reason,) = torch_vae.contestants("dense", platform="gpu", **arguments)
    assert programs == [] and "no CUDA device" in reason


@pytest.mark.filterwarnings("ignore")  # TensorFlow's own
def test_the_keras_vae_takes_our_step(dataset, binary):
    pytest.importorskip("tensorflow")
    pytest.importorskip("keras")
    key = jax.random.key(7)
    before, after, moment, loss = take_step(
        build(recipes.get_config("keras"), dataset), {"x": jnp.asarray(binary)}, key
    )
    order = lambda params: [
        array.T if array.ndim == 2 else array  # Keras's kernels lie as ours
        for array in in_their_order(params["encoder"], DENSE_ENCODER) + in_their_order(params["decoder"], DENSE_DECODER)
    ]
    vae = keras_vae.model()
    weights = vae.encoder.weights + vae.decoder.weights
    for weight, array in zip(weights, order(before), strict=True):
        weight.assign(array)
    noise = np.asarray(jax.random.normal(key, (B, 2)))
    their_loss = vae.descend(binary.reshape(B, -1), noise)
    np.testing.assert_allclose(float(their_loss), loss, rtol=1e-5)
    # Keras adds epsilon before it corrects the bias, so at the first step its epsilon is 32 times ours
    assert_same_step(order(after), [weight.numpy() for weight in weights], order(moment), least=1e-5)


def test_the_fastest_variant_is_chosen():
    assert worker.fastest({"slow": lambda n: 2.0 * n, "fast": lambda n: 1.0 * n}, seconds=1.0) == "fast"


def counting(start):
    """A peer of two programs that tell how many steps they took, for a process of its own."""
    place = pathlib.Path(tempfile.mkdtemp())
    took = [start, 10 * start]

    def taker(position):
        def run(num_steps):
            took[position] += num_steps
            return float(took[position])

        return run

    programs = [
        worker.Program(str(place), taker(0), None, 7, "a guess", "first"),
        worker.Program("second", taker(1), 0.5),
    ]
    return worker.Contestants(programs, ["third: it cannot"])


def test_a_peer_elsewhere_is_as_if_it_were_here():
    with worker.Peer() as peer:
        (first, second), left_out = peer.enter(counting, start=100)
        assert [first.run(1), second.run(5), first.run(2)] == [101.0, 1005.0, 103.0]
        assert first[2:] == (None, 7, "a guess", "first") and second[2:] == (0.5, None, "", "")
        assert list(left_out) == ["third: it cannot"]
        (other, _), _ = peer.enter(counting, start=7)
        assert other.run(1) == 8.0
        left = pathlib.Path(first.name)
        assert left.is_dir()
    assert not left.exists()


def fail(how):
    raise SystemExit(how)


def test_a_peer_that_ends_is_named_by_its_exit_code():
    with worker.Peer() as peer, pytest.raises(RuntimeError, match="exit code 3"):
        peer.enter(fail, how=3)
