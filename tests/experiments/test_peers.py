"""What the benchmark compares is one and the same step: equal weights, batch and noise give equal weights again."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import vae as recipes
from experiments import benchmark
from experiments.peers import genlab_dcgan, keras_vae, matrix_product, torch_dcgan, torch_vae, worker
from experiments.vae import build
from genlab import data
from genlab.plots.benchmark import speeds

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
STACK = [
    (("Conv_0",), conv), (("Conv_1",), conv), (("Dense_0",), from_image), (("Dense_1",), to_image),
    (("ConvTranspose_0",), up), (("ConvTranspose_1",), up),
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


@pytest.mark.parametrize(
    ("variant", "kind", "encoder_layers", "decoder_layers"),
    [("mnist", "dense", DENSE_ENCODER, DENSE_DECODER), ("conv", "conv", CONV_ENCODER, CONV_DECODER)],
)
@pytest.mark.parametrize("adam", ["default", "foreach", "fused"])
def test_the_torch_vae_takes_our_step(dataset, binary, variant, kind, encoder_layers, decoder_layers, adam):
    torch = pytest.importorskip("torch")
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
    optimizer = torch.optim.Adam(theirs, lr=1e-3, **torch_vae.ADAM[adam])
    their_loss = torch_vae.train_step(encoder, decoder, optimizer, images(binary), noise)
    np.testing.assert_allclose(their_loss.item(), loss, rtol=1e-5)
    assert_same_step(order(after), [p.detach().numpy() for p in theirs], order(moment))


def test_the_torch_dcgan_takes_our_step(binary):
    torch = pytest.importorskip("torch")
    before, after, moment, loss = take_step(
        genlab_dcgan.stack(), {"x": jnp.asarray(0.5 * binary + 0.1)}, jax.random.key(0)
    )
    net = torch_dcgan.network()
    with torch.no_grad():
        for parameter, array in zip(net.parameters(), in_their_order(before, STACK), strict=True):
            parameter.copy_(torch.from_numpy(array))
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-4, betas=(0.5, 0.999))
    their_loss = torch_dcgan.train_step(net, optimizer, images(binary - 0.8))
    np.testing.assert_allclose(their_loss.item(), loss, rtol=1e-5)
    assert_same_step(
        in_their_order(after, STACK), [p.detach().numpy() for p in net.parameters()], in_their_order(moment, STACK)
    )


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


def test_flops_are_those_of_the_compiled_products(dataset):
    """The compiler's own count of a dense step's products: forward, and the gradients of weights and inputs."""
    layers = benchmark.dense_row(dataset, "float32", 1)[0].layers

    def network(weights, x):
        mean, _ = jnp.split(jnp.dot(jnp.dot(x, weights[0]), weights[1]), 2, axis=1)
        return jnp.dot(jnp.dot(mean, weights[2]), weights[3])

    weights = [jnp.ones((inputs, outputs)) for _, inputs, outputs in layers]
    x = jnp.ones(layers[0][:2])
    y, g = jnp.ones((layers[0][0], 784)), lambda w, x, y: jax.vjp(lambda w: network(w, x), w)[1](y)
    text = jax.jit(g).lower(weights, x, y).as_text()
    assert text.count("stablehlo.dot_general") == 3 * 4 - 1 - 1  # the last output is not needed for its gradients
    last = 2 * 128 * 400 * 784
    cost = jax.jit(g).lower(weights, x, y).compile().cost_analysis()
    assert cost and cost["flops"] == pytest.approx(benchmark.flops_per_step(layers) - last, rel=0.01)


@pytest.mark.parametrize("row", ["dense", "conv", "dcgan", "keras"])
def test_the_layers_of_a_row_are_those_of_its_parameters(dataset, row):
    """A kernel has as many numbers as its product has inputs times outputs."""
    for entry in benchmark.KNOWN[row](dataset, "float32", 1):
        state = jax.eval_shape(entry.algorithm.init, jax.random.key(0), {"x": jnp.zeros((2, 28, 28, 1))})
        (player,) = state.players.values()
        kernels = [leaf.size for leaf in jax.tree.leaves(player.params) if leaf.ndim > 1]
        assert sorted(kernels) == sorted(inputs * outputs for _, inputs, outputs in entry.layers)


def test_the_machines_products_are_all_computed_at_every_step(monkeypatch):
    """In the compiler's own words: as many products as documented, and none of them before or after the loop."""
    compiled, compiles = [], jax.stages.Lowered.compile
    monkeypatch.setattr(
        jax.stages.Lowered,
        "compile",
        lambda *given, **options: compiled.append(compiles(*given, **options)) or compiled[-1],
    )
    matrix_product.of_layers([(64, 256, 256), (64, 256, 256)])
    program = compiled[-1].as_text()
    computations = dict(re.findall(r"^(?:ENTRY )?%?([\w.\-]+) [^\n]*\{\n(.*?)^\}", program, re.MULTILINE | re.DOTALL))
    entry = re.search(r"^ENTRY %?([\w.\-]+)", program, re.MULTILINE)
    loop = re.search(r"while\(.*body=%?([\w.\-]+)", program)
    assert entry and loop and program.count(" while(") == 1
    body = loop[1]

    def products(name):
        """In a computation and all it calls, but for the loop."""
        calls = [called for called in re.findall(r"%?([\w.\-]+)", computations[name]) if called in computations]
        own = len(re.findall(r" dot\(|custom-call\(.*(?:matmul|gemm)", computations[name]))
        return own + sum(products(called) for called in calls if called not in (name, body))

    assert products(body) == 2 + 3  # the first layer does without the gradient of its input
    assert products(entry[1]) == 0


def test_the_fastest_variant_is_chosen():
    assert worker.fastest({"slow": lambda n: 2.0 * n, "fast": lambda n: 1.0 * n}, seconds=1.0)[0] == "fast"


def test_speeds_are_drawn_from_one_to_their_median():
    figure = speeds(["quick", "slow"], [[1.4, 1.5, 2.0], [0.5, 0.8, 0.7]], [1.3, None])
    (axes,) = figure.axes
    ends = [bar.get_path().get_extents(bar.get_patch_transform()).intervalx for bar in axes.patches]
    np.testing.assert_allclose(ends, [(1.0, 1.5), (0.7, 1.0)])
    assert [np.asarray(line.get_xdata()).tolist() for line in axes.lines[:3]] == [[1.4, 2.0], [1.3, 1.3], [0.5, 0.8]]


def test_speeds_that_are_none_are_refused():
    with pytest.raises(ValueError, match="positive and finite"):
        speeds(["a"], [[0.0]], [None])
    with pytest.raises(ValueError, match="as many"):
        speeds(["a"], [[1.0], [1.0]], [None])
