"""The figures that a run leaves: which files appear for what a model can do, and what is remembered between them."""

import dataclasses
import errno

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from genlab.algorithm import Algorithm, Latents, Player, new_state
from genlab.data import prepare
from genlab.errors import InputError
from genlab.evaluation import pictures
from genlab.evaluation.compression import Compression
from genlab.evaluation.neighbours import tsne_plane

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
IMAGES = {
    "x": RNG.integers(0, 256, (30, 4, 4, 1), dtype=np.uint8),
    "label": np.arange(30, dtype=np.int32) % 10,
}
POINTS = {"x": RNG.normal(size=(50, 2)).astype(np.float32)}
PNG = b"\x89PNG\r\n\x1a\n"


def algorithm(dim=2, without=()):
    """Codes are the first `dim` numbers of an example; decoding fills an image with the first of them."""

    def encode(state, batch, key):
        return jnp.tile(batch["x"].reshape(len(batch["x"]), -1), 2)[:, :dim]

    def decode(state, codes, key):
        return jnp.broadcast_to(jax.nn.sigmoid(codes[:, 0])[:, None, None, None], (len(codes), 4, 4, 1))

    def generate(state, batch, key):
        noise = jax.random.uniform(key, batch["x"].shape)
        return noise * state.step.astype(jnp.float32) / 1000

    model = Algorithm(
        init=lambda key, batch: new_state({}),
        step=lambda state, batch, key: (state, {}),
        evaluate=lambda state, batch, key: {},
        generate=generate,
        encode=encode,
        decode=decode,
        log_prob=None,
        density="none",
    )
    return model._replace(**dict.fromkeys(without))


def drawn(directory, model, test, generated, log_density=None, **options):
    """The names of the figures of a final model; each must be a PNG."""
    state = new_state({})
    pictures.draw_final(directory, model, state, test, prepare, KEY, generated, log_density, **options)
    paths = list(directory.glob("*")) if directory.exists() else []
    assert all(path.read_bytes().startswith(PNG) for path in paths)
    return {path.name for path in paths}


SAMPLES = RNG.uniform(size=(30, 4, 4, 1)).astype(np.float32)
OF_CODES = {"code_histograms.png", "latent_scatter.png", "activations.png"}  # pixels are not negative
OF_IMAGES = {"reconstructions.png", "interpolations.png"}


@pytest.mark.parametrize(
    ("dim", "expected"),
    [
        (1, OF_IMAGES | {"samples.png", "code_histograms.png", "activations.png"}),
        (2, OF_CODES | OF_IMAGES | {"samples.png"}),
        (20, OF_CODES | OF_IMAGES | {"samples.png"}),
    ],
)
def test_figures_of_an_image_model(tmp_path, dim, expected):
    assert drawn(tmp_path / "figures", algorithm(dim), IMAGES, SAMPLES) == expected


def test_figures_that_were_not_drawn_again_are_gone_but_those_of_training(tmp_path):
    kept = {"curves.png", "samples_over_time.png", "of_the_user.png"}
    for name in {"denoising.png"} | kept:
        (tmp_path / name).write_bytes(PNG)
    assert drawn(tmp_path, algorithm(3), IMAGES, None) == OF_CODES | OF_IMAGES | kept


def test_every_final_figure_may_be_removed(tmp_path, monkeypatch):
    """Whatever is drawn at the end stands in the list of what an evaluation begins by removing."""
    saved = []
    monkeypatch.setattr(pictures.files, "save", lambda figure, path: saved.append(path.stem))
    options = {"corrupt": lambda key, x: x, "code_view": "pca"}
    for model in (algorithm(2)._replace(density="implicit"), algorithm(20)):
        drawn(tmp_path, model, IMAGES, SAMPLES, **options)
    drawn(tmp_path, algorithm(2), IMAGES, SAMPLES, by_class=True)
    pictures.draw_nearest_training(tmp_path, SAMPLES, SAMPLES, np.arange(len(SAMPLES)))
    monkeypatch.setattr(pictures, "PLANE_SIDE", 10)
    exact = algorithm(2, ("encode",))._replace(log_prob=normal_log_prob, density="exact")
    drawn(tmp_path, exact, POINTS, POINTS["x"])
    drawn(tmp_path, exact._replace(complete=upper_half_and_black), IMAGES, SAMPLES)
    assert set(saved) <= set(pictures.FINAL)
    assert {
        "completions",
        "density",
        "denoising",
        "latent_manifold",
        "samples",
        "samples_by_class",
        "nearest_training",
    } <= set(saved)


def test_the_manifold_is_of_codes_with_a_prior(tmp_path):
    model = algorithm(2)._replace(density="implicit")
    assert drawn(tmp_path, model, IMAGES, SAMPLES) == OF_CODES | OF_IMAGES | {"samples.png", "latent_manifold.png"}


def test_figures_of_an_image_model_without_labels_and_with_few_examples(tmp_path):
    """Interpolations need pairs; nine examples give four."""
    few = {"x": IMAGES["x"][:9]}
    assert drawn(tmp_path, algorithm(3), few, SAMPLES[:3]) == OF_CODES | OF_IMAGES | {"samples.png"}


@pytest.mark.parametrize("without", [("encode",), ("encode", "decode")])
def test_a_model_without_codes_shows_its_samples_alone(tmp_path, without):
    assert drawn(tmp_path, algorithm(2, without), IMAGES, SAMPLES) == {"samples.png"}


def test_a_model_that_cannot_generate_shows_its_codes(tmp_path):
    figures = drawn(tmp_path, algorithm(3, ("generate", "decode")), IMAGES, None)
    assert figures == OF_CODES


def test_a_model_with_no_ability_leaves_nothing(tmp_path):
    assert drawn(tmp_path / "none", algorithm(2, ("encode", "decode", "generate")), IMAGES, None) == set()


@pytest.mark.parametrize("known", [False, True])
def test_figures_of_a_model_of_points(tmp_path, known):
    log_density = (lambda x: -0.5 * jnp.sum(x**2, axis=1) - jnp.log(2 * jnp.pi)) if known else None
    samples = RNG.normal(size=(60, 2)).astype(np.float32)
    expected = OF_CODES - {"activations.png"} | {"samples.png"}
    assert drawn(tmp_path, algorithm(2), POINTS, samples, log_density) == expected


def normal_log_prob(state, batch, key):
    """Of N((0.5, -1), diag(0.3, 0.6)^2), moved up by 1.5 for each number of the label where there is one."""
    up = 1.5 * batch["label"].astype(jnp.float32) if "label" in batch else 0.0
    x, y = batch["x"].T
    return -0.5 * (((x - 0.5) / 0.3) ** 2 + ((y + 1 - up) / 0.6) ** 2) - np.log(2 * np.pi * 0.3 * 0.6).item()


def density_of_points(directory, monkeypatch, model, test, generated=None, log_density=None):
    """(arguments of the plot, the panels) of density.png, which must be all that is drawn."""
    calls, plot = [], pictures.points.density_maps
    monkeypatch.setattr(
        pictures.points, "density_maps", lambda *args: calls.append((args, plot(*args))) or calls[-1][1]
    )
    monkeypatch.setattr(pictures, "PLANE_SIDE", 60)
    model = model._replace(encode=None)
    names = {"density.png"} | ({"samples.png"} if generated is not None else set())
    assert drawn(directory, model, test, generated, log_density) == names
    ((arguments, figure),) = calls
    return arguments, figure.axes


@pytest.mark.parametrize(("density", "side"), [("exact", 60), ("bound", 30)])
def test_the_density_of_a_model_of_points_stands_at_its_place(tmp_path, monkeypatch, density, side):
    test = {"x": np.array([[-1.5, -5.0], [2.5, 3.0]], np.float32), "label": np.array([3, 3], np.int32)}
    model = algorithm()._replace(log_prob=normal_log_prob, density=density)
    truth = lambda x: normal_log_prob(None, {"x": x - 1.0}, None)
    generated = RNG.normal(size=(2_500, 2)).astype(np.float32)
    (_, _, _, shown), axes = density_of_points(tmp_path, monkeypatch, model, test, generated, truth)
    np.testing.assert_array_equal(shown, generated[:2_000])
    # the box of the data, and 15 % of its height to all sides; labels that the model is not told do not move it
    for panel, centre in zip(axes, [(1.5, 0.0), (0.5, -1.0), (0.5, -1.0)], strict=True):
        (image,) = panel.images
        assert image.origin == "lower"
        left, right, bottom, top = image.get_extent()
        np.testing.assert_allclose([left, right, bottom, top], [-2.7, 3.7, -6.2, 4.2], rtol=1e-5)
        x = left + (np.arange(side) + 0.5) / side * (right - left)
        y = bottom + (np.arange(side) + 0.5) / side * (top - bottom)
        expected = np.outer(norm(centre[1], 0.6).pdf(y), norm(centre[0], 0.3).pdf(x))  # [y, x]
        np.testing.assert_allclose(np.asarray(image.get_array()), expected, rtol=1e-3, atol=1e-9)
    assert axes[1].get_title(loc="right") == "integrates to 1.000"


def test_the_density_of_a_model_that_is_told_the_class_is_a_mixture(tmp_path, monkeypatch):
    corners = np.array([[-1.5, -5.0], [2.5, 5.0], [0.0, 0.0], [0.0, 0.0]], np.float32)
    test = {"x": corners, "label": np.array([2, 0, 2, 2], np.int32)}
    model = algorithm()._replace(log_prob=normal_log_prob, density="exact", conditional=True)
    (shown, limits, truth, samples), axes = density_of_points(tmp_path, monkeypatch, model, test)
    assert truth is None and samples is None and [panel.get_title(loc="left") for panel in axes] == ["model density"]
    x, y = pictures.points.plane(limits, 60).astype(np.float64).T
    expected = norm(0.5, 0.3).pdf(x) * (0.25 * norm(-1.0, 0.6).pdf(y) + 0.75 * norm(2.0, 0.6).pdf(y))
    np.testing.assert_allclose(shown.ravel(), expected, rtol=1e-3, atol=1e-9)
    assert axes[0].get_title(loc="right") == "integrates to 1.000"


def test_a_density_beyond_numbers_is_drawn_as_such(tmp_path, monkeypatch):
    model = algorithm()._replace(log_prob=lambda state, batch, key: 1e4 * batch["x"][:, 0], density="exact")
    _, (axes,) = density_of_points(tmp_path, monkeypatch, model, {"x": np.array([[-1, 0], [1, 1]], np.float32)})
    # 28 of the 60 columns from -1.3 to 1.3 lie where exp(1e4 x) is more than a float64 holds, at x > 0.071
    assert axes.get_title(loc="right") == "not finite in 1,680 of 3,600 cells"


@pytest.mark.parametrize(
    ("test", "fields"),
    [
        (POINTS, {"density": "implicit", "log_prob": None}),
        (POINTS, {"density": "implicit", "log_prob": normal_log_prob}),
        (POINTS, {"density": "none", "log_prob": None}),
        ({"x": POINTS["x"][:, :1]}, {"density": "exact", "log_prob": normal_log_prob}),
        (IMAGES, {"density": "exact", "log_prob": normal_log_prob}),
    ],
)
def test_no_density_is_drawn_of_what_has_none_or_is_not_in_the_plane(tmp_path, test, fields):
    assert drawn(tmp_path, algorithm()._replace(encode=None, **fields), test, None) == set()


def captured(monkeypatch, name, module=pictures.samples):
    """What a plot function is given, still drawn."""
    calls, function = [], getattr(module, name)
    monkeypatch.setattr(module, name, lambda *args, **named: calls.append(args) or function(*args, **named))
    return calls


def test_reconstructions_show_the_decoded_codes_of_the_same_examples(tmp_path, monkeypatch):
    calls = captured(monkeypatch, "reconstructions")
    drawn(tmp_path, algorithm(2), IMAGES, None)
    ((originals, decoded, columns),) = calls
    x = IMAGES["x"].astype(np.float32) / 255
    np.testing.assert_allclose(originals, x, rtol=1e-6)
    expected = 1 / (1 + np.exp(-x.reshape(30, 16)[:, :1]))
    np.testing.assert_allclose(decoded.reshape(30, 16), np.tile(expected, (1, 16)), rtol=1e-5)
    assert columns == 10


def test_interpolations_go_straight_from_one_code_to_another(tmp_path, monkeypatch):
    calls = captured(monkeypatch, "interpolations")
    drawn(tmp_path, algorithm(2), IMAGES, None)
    ((walked,),) = calls
    first = IMAGES["x"].astype(np.float32).reshape(30, 16)[:, 0] / 255
    codes = np.stack([np.linspace(first[i], first[6 + i], 10) for i in range(6)])  # of the rows, [6, 10]
    assert walked.shape == (6, 10, 4, 4, 1)
    np.testing.assert_allclose(walked[:, :, 0, 0, 0], 1 / (1 + np.exp(-codes)), rtol=1e-5)


def test_denoising_shows_what_is_made_of_the_corrupted_images(tmp_path, monkeypatch):
    calls = captured(monkeypatch, "image_rows")
    negative = lambda key, x: 1 - x + 0.01 * jax.random.normal(key, x.shape)
    figures = drawn(tmp_path, algorithm(2), IMAGES, None, corrupt=negative)
    assert "denoising.png" in figures and "reconstructions.png" in figures
    ((_, _), (rows, columns)) = calls  # the clean reconstructions, then these
    x = IMAGES["x"].astype(np.float32) / 255
    assert list(rows) == ["original", "corrupted", "restored"] and columns == 10
    np.testing.assert_allclose(rows["original"], x, rtol=1e-6)
    np.testing.assert_allclose(rows["corrupted"], 1 - x, atol=0.06)
    assert rows["corrupted"].std() > 0 and (rows["corrupted"] != 1 - x).mean() > 0.9
    expected = 1 / (1 + np.exp(-rows["corrupted"].reshape(30, 16)[:, :1]))
    np.testing.assert_allclose(rows["restored"].reshape(30, 16), np.tile(expected, (1, 16)), rtol=1e-5)


def measured(**numbers):
    block = {"reconstruction_mse": {"value": 0.02, "code_size": 3}, **numbers}
    return Compression(block, np.array([0.2, 0.1, 0.05, 0.025, 0.01]))


def test_the_error_stands_at_the_size_of_the_code_and_at_its_active_units(tmp_path, monkeypatch):
    calls = captured(monkeypatch, "error_by_code_size", pictures.plot_compression)
    for compression in (measured(), measured(active_units={"value": 1.5}), measured(active_units={"value": 0.0})):
        assert "error_by_code_size.png" in drawn(tmp_path, algorithm(3), IMAGES, None, compression=compression)
    for sizes, mse, _ in calls:
        np.testing.assert_array_equal(sizes, [1, 2, 3, 4])
        np.testing.assert_array_equal(mse, [0.1, 0.05, 0.025, 0.01])
    dense, sparse, dead = (points for _, _, points in calls)
    assert dense == dead == {"this model": (3, 0.02)}
    assert sparse == {"this model": (3, 0.02), "this model, by its active units": (1.5, 0.02)}


def test_a_perfect_copy_has_no_place_on_a_logarithmic_scale(tmp_path):
    perfect = measured(reconstruction_mse={"value": 0.0, "code_size": 3})
    assert "error_by_code_size.png" not in drawn(tmp_path, algorithm(3), IMAGES, None, compression=perfect)


@pytest.mark.parametrize(("dim", "examples", "shown"), [(5, 30, "tsne"), (5, 3, "pca"), (2, 30, "codes")])
def test_the_code_view_lays_out_longer_codes(tmp_path, monkeypatch, dim, examples, shown):
    calls = captured(monkeypatch, "latent_scatter", pictures.latent)
    assert pictures.tsne_plane is tsne_plane
    monkeypatch.setattr(pictures, "tsne_plane", lambda codes: -codes[:20, :2])
    few = {name: values[:examples] for name, values in IMAGES.items()}
    drawn(tmp_path, algorithm(dim), few, None, code_view="tsne")
    ((plane, labels),) = calls
    codes = few["x"].reshape(examples, 16)[:, :dim].astype(np.float32) / 255
    expected = {"tsne": -codes[:20, :2], "pca": pictures.principal_plane(codes), "codes": codes}[shown]
    np.testing.assert_allclose(np.abs(plane), np.abs(expected), atol=1e-5)
    np.testing.assert_array_equal(labels, few["label"][: len(expected)])


def test_an_unknown_code_view_is_refused_before_anything_is_drawn(tmp_path):
    with pytest.raises(InputError, match="code_view is 'umap'; it must be one of 'pca', 'tsne'"):
        drawn(tmp_path, algorithm(5), IMAGES, SAMPLES, code_view="umap")
    assert list(tmp_path.iterdir()) == []


def test_the_target_is_of_the_activations(tmp_path, monkeypatch):
    calls = captured(monkeypatch, "activation_histograms", pictures.plot_codes)
    drawn(tmp_path, algorithm(5), IMAGES, None, activation_target=0.25)
    ((codes, target),) = calls
    assert codes.shape == (30, 5) and target == 0.25


def test_filters_are_the_weights_of_the_first_layer(tmp_path, monkeypatch):
    calls = captured(monkeypatch, "filters", pictures.filters)
    kernel = RNG.normal(size=(16, 3)).astype(np.float32)
    linear = algorithm()._replace(
        encode=lambda state, batch, key: batch["x"].reshape(-1, 16) @ state.players["one"].params["kernel"]
    )
    state = new_state({"one": Player({"kernel": jnp.asarray(kernel)}, {}, ())})
    pictures.draw_final(tmp_path, linear, state, IMAGES, prepare, KEY, None)
    ((shown, shape),) = calls
    np.testing.assert_array_equal(shown, kernel)
    assert shape == (4, 4, 1) and (tmp_path / "filters.png").read_bytes().startswith(PNG)


@pytest.mark.parametrize(
    ("density", "latents", "prior"),
    [
        ("none", None, False),
        ("bound", None, False),
        ("bound", Latents(None, None, None, None, standard_normal=True), True),
        ("bound", Latents(None, None, None, None), False),  # a mixture, or several layers
        ("implicit", None, True),
    ],
)
def test_the_standard_normal_is_drawn_where_codes_have_that_prior(tmp_path, monkeypatch, density, latents, prior):
    given, plot = [], pictures.plot_codes.code_histograms
    monkeypatch.setattr(
        pictures.plot_codes, "code_histograms", lambda codes, prior: given.append(prior) or plot(codes, prior=prior)
    )
    drawn(tmp_path, algorithm(3)._replace(density=density, latents=latents), IMAGES, None)
    assert given == [prior]


@pytest.mark.parametrize("known", [False, True])
def test_points_on_the_line_stand_beside_the_data_and_their_density(tmp_path, monkeypatch, known):
    calls = captured(monkeypatch, "line_densities", pictures.points)
    line = {"x": np.linspace(-1.0, 3.0, 2_500, dtype=np.float32)[:, None]}
    log_density = (lambda x: -0.5 * (x[:, 0] - 1) ** 2 - 0.5 * np.log(2 * np.pi)) if known else None
    generated = RNG.normal(size=(3_000, 1)).astype(np.float32)
    model = algorithm(2, ("encode", "decode"))
    assert drawn(tmp_path, model, line, generated, log_density) == {"samples.png"}
    ((shown, density, (left, right)),) = calls
    assert density is log_density and list(shown) == ["data", "samples"]
    np.testing.assert_array_equal(shown["data"], line["x"][:2_000])
    np.testing.assert_array_equal(shown["samples"], generated[:2_000])
    # the first 2,000 of 2,500 reach from -1 to 2.2; with 15 % of that to either side
    span = 4.0 * 1_999 / 2_499
    np.testing.assert_allclose([left, right], [-1 - 0.15 * span, -1 + 1.15 * span], rtol=1e-5)


def told_classes(state, batch, key):
    """A tenth of the class in every pixel, and a hundredth of noise."""
    shade = batch["label"].astype(jnp.float32)[:, None, None, None] / 10
    return shade + 0.01 * jax.random.uniform(key, batch["x"].shape)


@pytest.mark.parametrize("num", [30, 6])
def test_samples_by_class_have_a_class_a_row_and_a_noise_a_column(tmp_path, monkeypatch, num):
    calls = captured(monkeypatch, "samples")
    test = {"x": IMAGES["x"][:num], "label": (np.arange(num) % 3 + 4).astype(np.int32)}
    model = algorithm(2, ("encode", "decode"))._replace(generate=told_classes)
    assert drawn(tmp_path, model, test, SAMPLES, by_class=True) == {"samples.png", "samples_by_class.png"}
    images, columns, labels = calls[-1]
    assert images.shape == (30, 4, 4, 1) and columns == 10 and labels == ["4", "5", "6"]
    rows = images.reshape(3, 10, 16)
    np.testing.assert_allclose(np.floor(10 * rows) / 10, np.broadcast_to([[[0.4]], [[0.5]], [[0.6]]], rows.shape))
    np.testing.assert_allclose(rows[1] - rows[0], 0.1, atol=1e-6)
    assert (rows[0, 1:] != rows[0, :-1]).any(axis=1).all()


def upper_half_and_black(state, batch, num_known, key):
    """What is known, and below it one grey, another with every key."""
    flat = batch["x"].reshape(len(batch["x"]), -1)
    drawn = 0.5 + 0.5 * jax.random.uniform(key)
    return jnp.where(jnp.arange(flat.shape[1]) < num_known, flat, drawn).reshape(batch["x"].shape)


def test_completions_have_the_upper_half_of_their_images_and_lower_ones_of_several_draws(tmp_path, monkeypatch):
    shown = captured(monkeypatch, "image_rows")
    model = algorithm(2, ("encode", "decode"))._replace(complete=upper_half_and_black)
    assert drawn(tmp_path, model, IMAGES, SAMPLES) == {"samples.png", "completions.png"}
    rows = shown[0][0]
    originals = np.asarray(IMAGES["x"][:10], np.float32) / 255
    half = originals.shape[1] // 2
    assert list(rows) == ["original", "upper half", "completion 1", "completion 2", "completion 3"]
    np.testing.assert_allclose(rows["original"], originals, atol=1e-6)
    for name in list(rows)[1:]:
        np.testing.assert_allclose(rows[name][:, :half], originals[:, :half], atol=1e-6)
    assert not rows["upper half"][:, half:].any()
    fills = [rows[f"completion {number}"][:, half:] for number in (1, 2, 3)]
    assert all(np.ptp(fill) == 0 for fill in fills) and len({float(fill.max()) for fill in fills}) == 3


@pytest.mark.parametrize("num", [14, 3])
def test_samples_stand_above_their_nearest_training_images_the_first_and_the_most_alike(tmp_path, monkeypatch, num):
    found = []
    monkeypatch.setattr(pictures.samples, "image_rows", lambda rows, columns: found.append((rows, columns)))
    monkeypatch.setattr(pictures.files, "save", lambda figure, path: found.append(path.name))
    images, nearest = np.arange(num), 100 + np.arange(num)  # their numbers stand for them
    pictures.draw_nearest_training(tmp_path, images, nearest, distances=np.arange(num)[::-1] / 7)
    (rows, columns), name = found
    assert (columns, name) == (10, "nearest_training.png")
    assert list(rows) == ["sample", "sample: nearest", "most alike", "most alike: nearest"]
    shown = min(num, 10)
    np.testing.assert_array_equal(rows["sample"], images[:shown])
    np.testing.assert_array_equal(rows["most alike"], images[::-1][:shown])
    np.testing.assert_array_equal(rows["sample: nearest"], nearest[:shown])
    np.testing.assert_array_equal(rows["most alike: nearest"], nearest[::-1][:shown])


def test_of_many_classes_the_first_ten_are_shown_and_of_points_none(tmp_path, monkeypatch):
    calls = captured(monkeypatch, "samples")
    many = {"x": IMAGES["x"], "label": np.arange(30, dtype=np.int32)[::-1]}
    model = algorithm(2, ("encode", "decode"))._replace(generate=told_classes)
    drawn(tmp_path / "many", model, many, SAMPLES, by_class=True)
    assert calls[-1][2] == [str(label) for label in range(10)] and len(calls[-1][0]) == 100
    labelled = {**POINTS, "label": np.zeros(50, np.int32)}
    assert drawn(tmp_path / "points", model, labelled, POINTS["x"], by_class=True) == {"samples.png"}
    assert drawn(tmp_path / "none", model, many, SAMPLES) == {"samples.png"}
    assert drawn(tmp_path / "mute", model._replace(generate=None), many, None, by_class=True) == set()


# Samples over time


def history(directory):
    with np.load(directory / "samples_over_time.npz") as arrays:
        return arrays["steps"].tolist(), arrays["rows"]


def draw_at(directory, step, model=None, like=None):
    state = dataclasses.replace(new_state({}), step=jnp.int32(step))
    model, like = model or algorithm(), IMAGES if like is None else like
    pictures.draw_samples_over_time(directory, model, state, like, prepare, KEY)


def test_samples_over_time_gain_a_row_a_step_under_one_key(tmp_path):
    directory = tmp_path / "figures"
    for step in (100, 200, 400):
        draw_at(directory, step)
    steps, rows = history(directory)
    assert steps == [100, 200, 400] and rows.shape == (3, 10, 4, 4, 1)
    # this model scales the same noise by the step
    np.testing.assert_allclose(rows[1], 2 * rows[0], rtol=1e-5)
    np.testing.assert_allclose(rows[2], 4 * rows[0], rtol=1e-5)
    assert (directory / "samples_over_time.png").read_bytes().startswith(PNG)


def test_a_resumed_run_drops_the_rows_that_the_killed_one_was_ahead(tmp_path):
    for step in (100, 200, 300, 200):
        draw_at(tmp_path, step)
    steps, rows = history(tmp_path)
    assert steps == [100, 200] and len(rows) == 2
    np.testing.assert_allclose(rows[1], 2 * rows[0], rtol=1e-5)


def test_samples_over_time_are_of_images_that_can_be_generated(tmp_path):
    draw_at(tmp_path, 1, model=algorithm(2, ("generate",)))
    draw_at(tmp_path, 1, like=POINTS)
    assert list(tmp_path.iterdir()) == []


def test_arrays_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    def full(file, **arrays):
        file.write(b"PK half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    for step in (100, 200):
        draw_at(tmp_path, step)
    before = (tmp_path / "samples_over_time.npz").read_bytes()
    with monkeypatch.context() as disk:
        disk.setattr(pictures.np, "savez_compressed", full)
        disk.setattr(pictures.np, "savez", full)
        with pytest.raises(OSError, match="No space left"):
            draw_at(tmp_path, 300)
    assert (tmp_path / "samples_over_time.npz").read_bytes() == before
    # whatever the failure left is neither read nor in the way
    draw_at(tmp_path, 300)
    assert history(tmp_path)[0] == [100, 200, 300]
    assert {path.name for path in tmp_path.iterdir()} == {"samples_over_time.npz", "samples_over_time.png"}


def test_saved_arrays_come_back_and_nothing_beside_them(tmp_path):
    pictures.save_arrays(tmp_path / "samples.npz", images=IMAGES["x"], points=POINTS["x"])
    with np.load(tmp_path / "samples.npz") as arrays:
        assert set(arrays) == {"images", "points"}
        np.testing.assert_array_equal(arrays["images"], IMAGES["x"])
        np.testing.assert_array_equal(arrays["points"], POINTS["x"])


# Curves


def test_curves_leave_out_times_and_what_never_changed(tmp_path, monkeypatch):
    drawn, plot = [], pictures.plot_curves.curves
    monkeypatch.setattr(
        pictures.plot_curves, "curves", lambda records, metrics: drawn.extend(metrics) or plot(records, metrics)
    )
    records = [{"step": i, "split": "train", "loss": 1.0 / i, "beta": 1.0, "seconds": 2.0 * i} for i in (1, 2)]
    pictures.draw_curves(tmp_path, records)
    assert (tmp_path / "curves.png").read_bytes().startswith(PNG)
    assert drawn == ["loss"]


def test_no_curves_are_drawn_of_nothing(tmp_path):
    pictures.draw_curves(tmp_path, [])
    pictures.draw_curves(tmp_path, [{"step": 1, "split": "train", "loss": 1.0, "seconds": 2.0}])
    assert list(tmp_path.iterdir()) == []


# Geometry


def test_principal_plane_keeps_the_two_largest_directions():
    """Codes that vary by 5, 3 and 0.1 along three axes, turned: distances in the plane are those of the first two."""
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    white = np.linalg.qr(np.random.default_rng(2).normal(size=(20, 3)) - 0.0)[0]
    white -= white.mean(axis=0)
    white = np.linalg.qr(white)[0]  # orthonormal columns of mean zero
    codes = (white * [5.0, 3.0, 0.1]) @ turn + 7.0
    plane = pictures.principal_plane(codes)
    np.testing.assert_allclose(np.abs(plane), np.abs(white[:, :2] * [5.0, 3.0]), atol=1e-9)


def test_plane_limits_leave_a_margin_of_the_longer_side():
    data = np.array([[0.0, 1.0], [4.0, 3.0], [2.0, 2.0]])
    np.testing.assert_allclose(pictures.plane_limits(data, margin=0.25), (-1.0, 5.0, 0.0, 4.0))
