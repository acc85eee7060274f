"""What the benchmark makes of times, checked with hand-made ones; and the FLOPs that it counts."""

import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.interpreters import partial_eval

from configs import autoencoder as recipes
from configs import autoregressive as autoregressive_recipes
from configs import flow as flow_recipes
from configs import gan as gan_recipes
from experiments.peers.worker import Program
from experiments.timing import density_rows, growth, matrix_product, measure, memory, rows, table, turns
from experiments.timing.flops import flops_per_step
from experiments.timing.programs import CALL, LOOP
from experiments.timing.row import Row
from experiments.timing.setting import Setting
from genlab import data
from genlab.errors import InputError

SETTING = Setting("float32", "cpu", 2, rounds=3, seconds=1.0)
SILENT = lambda text: None
NOTHING: Any = None  # an algorithm that is never asked


@pytest.fixture(scope="module")
def dataset():
    rng = np.random.default_rng(0)
    split = {"x": rng.integers(0, 256, (64, 28, 28, 1), np.uint8), "label": np.arange(64, dtype=np.int32) % 10}
    return data.Dataset("noise", split, split, split, 10, None)


def clockwork(name, seconds_per_step, log=None):
    """A program whose steps take as long as told."""

    def run(num_steps):
        if log is not None:
            log.append((name, num_steps))
        return num_steps * seconds_per_step

    return Program(name, run, 1.5, 3 << 20, "told", name)


def test_flops_are_those_of_the_compiled_products(dataset):
    """The compiler's own count of a dense step's products: forward, and the gradients of weights and inputs."""
    layers = rows.dense(dataset, "float32")[0].layers

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
    assert cost and cost["flops"] == pytest.approx(flops_per_step(layers) - last, rel=0.01)


def seen_as(column):
    """The type of a batch: labels and text are whole numbers."""
    return jnp.int32 if column.dtype == np.int32 else jnp.float32


def kernels(algorithm, dataset=None):
    """Sizes of all matrices that multiply, which embeddings and biases of places do not."""
    x = dataset.train["x"] if dataset else np.zeros((1, 28, 28, 1), np.uint8)
    batch = {"x": jnp.zeros((10, *x.shape[1:]), seen_as(x)), "label": jnp.zeros(10, jnp.int32)}
    state = jax.eval_shape(algorithm.init, jax.random.key(0), batch)
    params = jax.tree.leaves_with_path([player.params for player in state.players.values()])
    other = ("embedding", "_bias")
    multiply = lambda path: not any(name in jax.tree_util.keystr(path) for name in other)
    return sorted(leaf.size for path, leaf in params if leaf.ndim > 1 and multiply(path))


def from_layers(row):
    return sorted(inputs * outputs for _, inputs, outputs in row.layers)


@pytest.mark.parametrize("name", rows.BY_DEFAULT)
def test_the_layers_of_a_row_are_those_of_its_parameters(dataset, name):
    """A kernel has as many numbers as its product has inputs times outputs."""
    for row in rows.ROWS[name](dataset, "float32"):
        assert kernels(row.algorithm) == from_layers(row)


def is_program(value):
    return hasattr(value, "eqns")


def multiplications(jaxpr):
    """Of all products of a program, as often as they are computed; of branches, in the one that has most."""
    total = 0
    for equation in jaxpr.eqns:
        inner = jax.tree.leaves(list(equation.params.values()), is_leaf=is_program)
        counts = [multiplications(each) for each in inner if is_program(each)]
        times = equation.params["length"] if equation.primitive.name == "scan" else 1
        total += max(counts) if equation.primitive.name == "cond" else times * sum(counts)
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            depth = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
            total += depth * math.prod(equation.outvars[0].aval.shape)
        if equation.primitive.name == "conv_general_dilated":
            numbers, steps = equation.params["dimension_numbers"], equation.params["lhs_dilation"]
            kernel = equation.invars[1].aval.shape
            features = kernel[numbers.rhs_spec[0]]
            # of the places that the kernel meets, all but those at the input's own pixels are zeros of its dilation
            total += math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) // features // math.prod(steps)
    return total


def test_every_autoencoder_but_principal_components_has_a_row_with_its_products(dataset):
    """Where networks are dense or recurrent, those of the step as it is traced; of convolutions, by their kernels."""
    found = {row.title: row for row in rows.ROWS["autoencoders"](dataset, "float32")}
    others = {"autoencoders", "gans", "stylegan2", "styles", "flows", "autoregressive"}
    assert set(rows.ROWS) == {*rows.BY_DEFAULT, *others}
    others = {"pca", "waves"}  # fitted at once, and not on images
    assert set(found) == {f"autoencoder, {variant}, batch 128" for variant in recipes.VARIANTS if variant not in others}
    batch, key = {"x": jnp.zeros((128, 28, 28, 1))}, jax.random.key(0)
    for title, row in found.items():
        if "conv" in title or "unpooling" in title:
            assert kernels(row.algorithm) == from_layers(row)
            continue
        state = jax.eval_shape(row.algorithm.init, key, batch)
        traced = 2 * multiplications(jax.make_jaxpr(row.algorithm.step)(state, batch, key).jaxpr)
        # the closed form of contraction is one small product more
        assert traced == pytest.approx(flops_per_step(row.layers), rel=2e-3 if "contractive" in title else 0), title


def traced_flops(row, dataset):
    """Of the products of a step whose results are used."""
    batch = {name: jnp.zeros((row.batch_size, *column.shape[1:]), seen_as(column))
             for name, column in (row.dataset or dataset).train.items()}  # fmt: skip
    key = jax.random.key(0)
    state = jax.eval_shape(row.algorithm.init, key, batch)
    step = jax.make_jaxpr(lambda *given: row.algorithm.step(*given)[0])(state, batch, key).jaxpr
    used, _ = partial_eval.dce_jaxpr(step, [True] * len(step.outvars))
    return 2 * multiplications(used)


@pytest.mark.parametrize("name", ["dcgan", "gradient_penalty"])
def test_a_step_of_either_player_has_the_products_that_it_traces(dataset, name):
    (row,) = rows.ROWS[name](dataset, "float32")
    assert row.batch_size == 64 and row.algorithm.generate is not None
    # where the loss is linear in the logits nothing depends on them: five products less, of one output each
    assert traced_flops(row, dataset) == pytest.approx(row.flops_per_step, rel=0 if name == "dcgan" else 3e-4)
    # by hand: one product is 64 x 6272 of the codes and the logit, and 64 x 49 x 1600 x 128, 64 x 196 x 25 x 64 twice
    generator = 6272 * 100 + 49 * 1600 * 128 + 196 * 25 * 64
    critic = 196 * 25 * 64 + 49 * 1600 * 128 + 6272
    passes = 3 * generator - 6272 * 100 + 2 * (3 * critic - 196 * 25 * 64) + 2 * critic
    passes += 4 * critic if name == "gradient_penalty" else 0
    assert row.flops_per_step == 2 * 64 * passes


def test_every_gan_has_a_row_with_its_products(dataset, monkeypatch):
    """A kernel has as many numbers as its product has inputs times outputs, and the step as many as are traced."""
    monkeypatch.setattr(data, "load", lambda name, num_validation: loaded(name, dataset))
    found = {row.title: row for row in rows.ROWS["gans"](dataset, "float32")}
    others = {"mnist", "mnist_conditional", "grid", "bilinear", "bilinear_extragradient", "bilinear_optimistic"}
    others.add("bilinear_averaged")
    expected = set(gan_recipes.VARIANTS) - others
    assert {title.split(", ")[1] for title in found} == expected and len(found) == len(expected)
    # how far they may be apart: a linear loss has the same gradient whatever the logits are; spectral norms, and the
    # distances of a minibatch, are products that are not counted; a side of seven is cropped from one of eight, whose
    # products are not counted either
    cropped = 0.09
    counted = {"conditional": cropped, "wgan": cropped, "r1": cropped, "packed": cropped, "minibatch": cropped,
               "sngan": cropped, "ring": 0}  # fmt: skip
    for title, row in found.items():
        variant = title.split(", ")[1]
        assert kernels(row.algorithm, row.dataset) == from_layers(row), title
        if variant in counted:
            assert traced_flops(row, dataset) == pytest.approx(row.flops_per_step, rel=counted[variant]), title


def loaded(name, dataset):
    """Examples of the shape of a set's."""
    shapes = {"ring": (2,), "gaussian": (1,), "stacked_mnist_5k": (28, 28, 3), "mnist_5k": (14, 14, 1),
              "python_topics": (256,)}  # fmt: skip
    split = {"x": np.zeros((600, *shapes[name]), np.int32 if name == "python_topics" else np.float32)}
    return dataset._replace(name=name, train=split, num_classes=0)


@pytest.mark.parametrize(("name", "variants"), [("flows", flow_recipes), ("autoregressive", autoregressive_recipes)])
def test_every_exact_density_has_a_row_whose_layers_are_those_of_its_parameters(dataset, monkeypatch, name, variants):
    monkeypatch.setattr(data, "load", lambda name, num_validation, image_size=0: loaded(name, dataset))
    found = {row.title.split(", ")[1]: row for row in rows.ROWS[name](dataset, "float32")}
    assert set(found) == set(variants.VARIANTS) - {"classifier", "novelty"}
    for variant, row in found.items():
        # of a PixelCNN, that of the labels which nobody looks at
        unused = [10 * 2 * 16] if (name, variant) == ("autoregressive", "conditional") else []
        assert kernels(row.algorithm, row.dataset) == sorted(from_layers(row) + unused), variant


SMALLER = {"num_layers": 2, "channels": 8, "hidden": (16, 8), "features": 8, "head": 8}


@pytest.mark.parametrize(
    ("name", "variant", "change"),
    [
        ("flow", "small", {"num_layers": 1}),
        ("flow", "conditional", {"num_layers": 1, "levels": 1, "num_blocks": 0}),
        ("flow", "realnvp_multi_scale", {"num_layers": 1, "checkerboard": 2}),
        ("flow", "maf", {}),
        ("flow", "spline", {}),
        ("autoregressive", "made", {}),
        ("autoregressive", "fvsbn", {"hidden": ()}),
        ("autoregressive", "conditional", {"num_layers": 1}),
        ("autoregressive", "attention", {"reach": 2, "attention_every": 2}),
        ("autoregressive", "transformer", {}),
        ("autoregressive", "language", {"num_layers": 1}),
    ],
)
def test_a_density_has_the_products_that_its_step_traces(dataset, name, variant, change):
    """All of them, but for two things that are computed and not counted."""
    build, variants = {
        "flow": (density_rows.flow_row, flow_recipes),
        "autoregressive": (density_rows.autoregressive_row, autoregressive_recipes),
    }[name]
    config = variants.get_config(variant)
    config.batch_size = b = 4
    config.model.update({field: value for field, value in (SMALLER | change).items() if field in config.model})
    if config.data.name not in ("mnist", "mnist_5k"):
        dataset = loaded(config.data.name, dataset)
    row, model = build(variant, config, dataset), config.model
    not_counted = 0
    if model.network == "pixelcnn":
        # the gradient of a convolution's input is also that of the zeros that pad it
        r, f, layers, places = model.reach, model.features, model.num_layers, 28 * 28
        down, across = (28 + r) * (28 + 2 * r) - places, 28 * (28 + r) - places
        not_counted += 2 * b * layers * (down * (r + 1) * (2 * r + 1) + across * (r + 1)) * f * 2 * f
    if variant in ("attention", "transformer"):
        # scores are computed again for the gradient, of both layers or after the second: T x T of F products
        not_counted += 2 * b * (2 if variant == "transformer" else 1) * 784 * 784 * model.features
    assert traced_flops(row, dataset) == row.flops_per_step + not_counted


def test_densities_have_as_many_products_as_by_hand(dataset):
    """Of 784-500-784 and of a PixelCNN's attention, once over 784 places of 16 features in a batch of 32."""
    found = {}
    for variant in ("small", "made", "attention"):
        config = autoregressive_recipes.get_config(variant)
        config.model.attention_every = 5 if variant == "attention" else 0  # of five layers, after the last
        found[variant] = density_rows.autoregressive_row(variant, config, dataset)
    assert found["made"].flops_per_step == 2 * 100 * (2 + 3) * 784 * 500
    mixed = 18 * 48 + 2 * 16 * 32 + 16 * 16  # queries, keys and values; two halves of a gate; what it lets through
    attended = found["attention"].flops_per_step - found["small"].flops_per_step
    assert attended == 2 * 3 * 32 * 784 * (2 * 784 * 16 + mixed)


@pytest.mark.parametrize("network", list(growth.NETWORKS))
def test_the_layers_of_a_sweep_are_those_of_its_parameters(dataset, network):
    asked = {"batch_sizes": [4, 8], "widths": [16, 48], "populations": [], "devices": []}
    batches, widths = growth.sweeps(network, asked, 32, dataset, SETTING)
    for point in (*batches.points, *widths.points):
        assert kernels(point.row.algorithm) == sorted(inputs * outputs for _, inputs, outputs in point.row.layers)
    small, large = (flops_per_step(point.row.layers) for point in batches.points)
    assert large == 2 * small
    assert [point.row.batch_size for point in batches.points] == [4, 8]
    assert [point.row.batch_size for point in widths.points] == [32, 32]


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


def test_turns_are_as_long_as_asked_and_go_round():
    log = []
    measured = turns.take_turns([clockwork("a", 0.01, log), clockwork("b", 0.25, log)], SETTING, SILENT)
    assert log[-6:] == [("a", 100), ("b", 4)] * 3
    assert measured == [
        {"steps": 100, "seconds_per_step": [pytest.approx(0.01)] * 3},
        {"steps": 4, "seconds_per_step": [pytest.approx(0.25)] * 3},
    ]


def test_ratios_are_of_the_same_round():
    # a machine that slows down by 4: the medians' quotient is 2 all the same
    assert turns.ratios([2.0, 4.0, 8.0], [1.0, 2.0, 4.0]) == [2.0, 2.0, 2.0]
    with pytest.raises(ValueError):
        turns.ratios([1.0], [1.0, 2.0])


TIMES = {LOOP: [0.01, 0.02], "eager": [0.02, 0.06], "compiled": [0.005, 0.01], CALL: [0.02, 0.02]}
COMPARED = measure.compare(TIMES, ["eager", "compiled"], 1000, {"square": [200e3, 100e3]}, {LOOP: 2.6}, 0.45)


def test_our_programs_stand_beside_every_peer_and_our_loop_beside_products():
    found = {(ratio["program"], ratio["beside"]): ratio for ratio in COMPARED}
    assert len(found) == 5
    assert found[LOOP, "eager"]["values"] == pytest.approx([2.0, 3.0])
    assert found[LOOP, "compiled"]["values"] == pytest.approx([0.5, 0.5])
    assert found[CALL, "eager"]["values"] == pytest.approx([1.0, 3.0])
    assert found[LOOP, "square"]["values"] == pytest.approx([0.5, 0.5])  # 100 and 50 kFLOP/s
    assert {key: ratio["bar"] for key, ratio in found.items() if ratio["bar"]} == {
        (LOOP, "eager"): 2.6,
        (LOOP, "square"): 0.45,
    }


def test_the_median_decides():
    assert table.verdict([1.0, 2.0, 9.0], 2.0) == "met"
    assert table.verdict([1.0, 1.9, 9.0], 2.0) == "MISSED"
    assert table.verdict([1.0], None) == ""


def test_the_tables_say_what_was_measured():
    timed = {"steps": 5, "seconds_per_step": [0.002, 0.004, 0.003]}
    program = measure.describe(clockwork("quick", 1.0), timed, 30, 6_000_000, {"square": [12e9, 3e9, 8e9]})
    assert program["examples_per_second"] == pytest.approx(10_000)
    assert program["flops_per_second"] == pytest.approx(2e9)
    assert program["product_fractions"]["square"] == pytest.approx([0.25, 0.5, 0.25])
    result = {
        "title": "small", "flops_per_step": 6_000_000, "product_flops_per_second": {"square": [12e9, 3e9, 8e9]},
        "left_out": ["torch.compile is left out"], "programs": [program], "ratios": COMPARED,
    }  # fmt: skip
    text = table.report([result], [])
    assert "| small | quick | 3.00 | 2.00-4.00 | 10,000 | 6.00 | 1.5 | 3 | 0.006 | 2 | 25% |" in text
    assert f"| small | {LOOP} | eager | 2.50 | 2.00-3.00 | 2.60 | MISSED |" in text
    assert f"| small | {LOOP} | square | 50.0% | 50.0%-50.0% | 45.0% | met |" in text
    assert "small: torch.compile is left out" in text and "small: square 8 GFLOP/s" in text


def swept(monkeypatch, points, power=1, platform="cpu"):
    monkeypatch.setattr(matrix_product, "square", lambda size, dtype: clockwork("square", 0.5))
    sweep = growth.Sweep("axis", "title", points, power)
    return growth.measure_growth(sweep, SETTING._replace(platform=platform), SILENT)


def test_cost_grows_relative_to_the_first_value(monkeypatch):
    row = lambda b: Row("", NOTHING, b, [(b, 10, 10)])
    points = [growth.Point(b, row(b), lambda s=s: clockwork("ours", s)) for b, s in ((8, 0.1), (16, 0.15), (64, 0.8))]
    record = swept(monkeypatch, points)
    found = record["points"]
    assert [point["cost"] for point in found] == [pytest.approx([c] * 3) for c in (1.0, 1.5, 8.0)]
    assert [point["proportional_cost"] for point in found] == [1.0, 2.0, 8.0]
    assert [point["examples_per_second"] for point in found] == pytest.approx([80, 16 / 0.15, 80])
    # 2 * (3 - 1) * 64 * 100 FLOPs in 0.8 s, beside 2 * 2048^3 in 0.5 s
    assert found[2]["product_fractions"]["square"] == pytest.approx([4 * 64 * 100 / 0.8 / (4 * 2048**3)] * 3)
    lines = table.growth_table(record).splitlines()
    assert lines[-1].startswith("| 64 | 800.00 | 800.00-800.00 | 8.00 | 8.00 | 80 |")


def test_members_and_devices_are_counted(monkeypatch):
    row = Row("", NOTHING, 8, [(8, 10, 10)])
    one, four = growth.Point(1, row, lambda: clockwork("ours", 1.0)), growth.Point(4, row, lambda: clockwork("ours", 1))
    crowd = swept(monkeypatch, [one, four._replace(members=4)])["points"]
    assert [point["flops_per_step"] for point in crowd] == [3200, 12_800]
    assert [point["examples_per_second"] for point in crowd] == [8, 32]
    shared = swept(monkeypatch, [one, four._replace(processors=4)], power=-1)["points"]
    assert [point["proportional_cost"] for point in shared] == [1, 0.25]
    ratio = shared[0]["product_fractions"]["square"][0] / shared[1]["product_fractions"]["square"][0]
    assert ratio == pytest.approx(4)  # the same work, on four devices' worth of products


def test_a_sweep_is_made_for_every_list_that_has_values(dataset):
    asked = {"batch_sizes": [], "widths": [8], "populations": [1, 2], "devices": [1, 4]}
    found = growth.sweeps("dense", asked, 32, dataset, SETTING)
    assert [sweep.axis for sweep in found] == ["width", "members, vmap", "members, loop", "devices"]
    assert [point.members for point in found[1].points] == [1, 2]
    assert [sweep.title for sweep in found[1:3]] == [
        f"{mode}: dense VAE, batch 32 each, width 400" for mode in ("vmap", "loop")
    ]
    assert [point.processors for point in found[3].points] == [1, 1]  # a CPU's devices share its cores
    found = growth.sweeps("dense", asked, 32, dataset, SETTING._replace(platform="gpu"))
    assert [sweep.axis for sweep in found] == ["width", "members, vmap", "devices"]
    assert [point.processors for point in found[2].points] == [1, 4]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [({"batch_sizes": [65]}, "65: there are 64 examples"), ({"devices": [1, 3]}, "does not divide among 3 devices")],
)
def test_sweeps_that_cannot_be_are_refused(dataset, change, complaint):
    asked = {"batch_sizes": [], "widths": [], "populations": [], "devices": []} | change
    with pytest.raises(InputError, match=complaint):
        growth.sweeps("dense", asked, 32, dataset, SETTING)


def test_a_devices_count_tells_of_the_program_that_raised_its_peak():
    before = {"bytes_in_use": 100, "peak_bytes_in_use": 150}
    # 40 of the 100 are its own arguments; at its peak all was 180, of which others held 60
    assert memory.by_device(before, {"bytes_in_use": 100, "peak_bytes_in_use": 180}, 40) == 120
    assert memory.by_device(before, {"bytes_in_use": 100, "peak_bytes_in_use": 150}, 40) is None
    assert memory.by_device(None, None, 40) is None
