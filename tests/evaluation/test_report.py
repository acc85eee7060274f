"""The report, read back with an HTML parser: what it shows, what it escapes, and that it loads nothing."""

import base64
import html.parser
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from genlab.errors import InputError
from genlab.evaluation.numbers import format_number, format_reference
from genlab.evaluation.report import write_report

VOID = {"meta", "img", "br", "link", "input", "hr"}

CARD = {
    "recipe": "vae<script>",
    "dataset": "mnist_5k",
    "split_sizes": {"train": 4000, "test": 500},
    "seed": 3,
    "num_params": 1234567,
    "steps": 10000,
    "train_seconds": 412.3,
    "device": "cpu",
    "generation": {
        "frechet_distance": {
            "value": 14.2371,
            "standard_error": 0.4312,
            "split": "test",
            "n": 1000,
            "estimator": "plain",
            "extractor": "own & ours",
        }
    },
    "representation": None,
    "density": {"log_likelihood": {"value": -97.3123, "unit": "nats", "bound": "lower", "n": 500, "k": 64}},
}


class Page(html.parser.HTMLParser):
    """Text, tags with their attributes, and a check that every element is closed in order."""

    def __init__(self, path):
        super().__init__()
        self.text, self.tags, self.open = "", [], []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data + "\n"

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def png(width, height, value=0):
    file = io.BytesIO()
    Image.fromarray(np.full((height, width), value, np.uint8)).save(file, "png")
    return file.getvalue()


@pytest.fixture
def run(tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "card.json").write_text(json.dumps(CARD))
    (tmp_path / "config.json").write_text(
        json.dumps({"seed": 3, "num_steps": 10000, "data": {"name": "mnist_5k", "note": "<b>"}, "sizes": [1, 2]})
    )
    records = [
        {"step": 100, "split": "train", "loss": 120.5, "kl": [1.0, 3.0]},
        {"step": 200, "split": "train", "loss": 110.26, "kl": [2.0, 4.0]},
        {"step": 200, "split": "validation", "loss": None},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (tmp_path / "figures" / "samples.png").write_bytes(png(40, 20))
    (tmp_path / "figures" / "odd_<one>.png").write_bytes(png(4, 4))
    (tmp_path / "figures" / "curves.png").write_bytes(png(1600, 700))
    return tmp_path


def test_the_page_shows_numbers_with_their_protocol(run):
    path = write_report(run, "python -m experiments.vae --config=configs/vae.py")
    assert path == run / "report.html"
    text = Page(path).text
    for shown in ("14.24", "± 0.43 s.e.", "test split · n = 1,000 · estimator plain · extractor own & ours"):
        assert shown in text
    assert "≥ −97.31" in text and "n = 500 · k = 64" in text
    for fact in ("1,234,567", "train 4,000 · test 500", "6 min 52 s"):
        assert fact in text
    assert "vae<script> has no codes, or the data has no labels" in text  # the null block, said plainly
    assert "python -m experiments.vae --config=configs/vae.py" in text
    assert "data.name" in text and '"mnist_5k"' in text  # the config, flattened
    assert "110.3" in text and "120.5" not in text  # the last loss, at four digits
    assert "3.0 ± 1.4 s.d." in text  # the population's last kl: 2 and 4
    assert "not measured" in text  # the loss logged as null


def test_the_page_escapes_text_and_loads_nothing(run):
    page = Page(write_report(run, "run --x='<img src=https://example.org/x.png>' && echo \"done\""))
    assert not page.all("script") and not page.all("link") and not page.all("iframe") and not page.all("b")
    assert len(page.all("img")) == 3
    for _, attrs in page.tags:
        assert not any(name.startswith("on") for name in attrs)
        assert attrs.get("src", "data:").startswith("data:") and "href" not in attrs
    raw = (run / "report.html").read_text(encoding="utf-8")
    style = raw[raw.index("<style>") : raw.index("</style>")]
    assert "url(" not in style and "@import" not in style
    assert "<img src=https://example.org/x.png>" in page.text
    assert "default-src 'none'" in page.all("meta")[2]["content"]


def test_figures_are_inlined_in_order_with_captions(run):
    page = Page(write_report(run, "c"))
    curves, samples, odd = page.all("img")
    assert base64.b64decode(samples["src"].partition("base64,")[2]) == png(40, 20)
    assert (samples["width"], samples["height"]) == ("20", "10")  # two file pixels for each one shown
    assert (curves["width"], curves["height"]) == ("800", "350")
    assert curves["alt"] == "Metrics against training steps."
    assert odd["alt"] == "odd <one>"
    assert "odd <one>" in page.text


def test_a_run_that_has_only_begun_has_a_page_too(tmp_path):
    page = Page(write_report(tmp_path, "c"))
    for said in ("log stands at step 0", "No evaluation card yet", "No metrics logged yet", "No figures yet"):
        assert said in page.text
    assert tmp_path.name in page.text


def test_before_the_card_the_page_says_how_far_the_log_is(run):
    (run / "card.json").unlink()
    text = Page(write_report(run, "c")).text
    assert "the log stands at step 200 of 10,000" in text
    assert "on mnist_5k" in text


def test_a_block_that_is_absent_is_not_a_lack(run):
    card = {key: value for key, value in CARD.items() if key != "representation"}
    (run / "card.json").write_text(json.dumps(card))
    text = Page(write_report(run, "c")).text
    assert "has no codes" not in text and "Not measured." in text


def test_long_blocks_are_cut_above_and_whole_in_the_table(run):
    block = {f"number_{i}": {"value": 1000 + i} for i in range(7)}
    (run / "card.json").write_text(json.dumps({**CARD, "generation": block}))
    text = Page(write_report(run, "c")).text
    assert "and 1 more in the card below" in text
    assert text.count("1,005") == 2 and text.count("1,006") == 1


def test_the_page_is_replaced_whole(run):
    write_report(run, "first")
    write_report(run, "second")
    assert "second" in Page(run / "report.html").text and "first\n" not in Page(run / "report.html").text
    assert not [path for path in run.iterdir() if "partial" in path.name]


def test_an_unfinished_last_line_is_passed_over_but_a_broken_one_is_not(run):
    log = run / "metrics.jsonl"
    whole = log.read_text()
    log.write_text(whole + '{"step": 300, "spl')
    assert "step 200" in Page(write_report(run, "c")).text
    log.write_text("{broken\n" + whole)
    with pytest.raises(InputError, match="line 1"):
        write_report(run, "c")


def test_broken_files_are_named(run, tmp_path):
    (run / "figures" / "samples.png").write_bytes(b"")
    assert "samples.png is not a readable PNG" in Page(write_report(run, "c")).text
    (run / "card.json").write_text("[1]")
    with pytest.raises(InputError, match=r"card\.json holds a list"):
        write_report(run, "c")
    (run / "card.json").write_text("{")
    with pytest.raises(InputError, match=r"card\.json is not JSON"):
        write_report(run, "c")
    with pytest.raises(InputError, match="not a folder"):
        write_report(tmp_path / "nowhere", "c")


@pytest.mark.parametrize(
    ("number", "text"),
    [
        ({"value": 4.1234, "standard_error": 0.31, "unit": "nats"}, "4.12 ± 0.31 s.e. nats"),
        ({"value": 0.94213, "sd": 0.01042}, "0.942 ± 0.010 s.d."),
        ({"value": 1234.6, "standard_error": 47.0}, "1,235 ± 47 s.e."),
        ({"value": 2.83e-17, "standard_error": 1.4e-18}, "2.830e−17 ± 1.400e−18 s.e."),
        ({"value": 97.3, "bound": "upper"}, "≤ 97.3"),
        ({"value": -97.3, "bound": "lower"}, "≥ −97.3"),
        ({"value": 0.17912, "unit": "bits/dim"}, "0.1791 bits/dim"),
        ({"value": 10}, "10"),
        ({"value": 1234567}, "1,234,567"),
        ({"value": 2.5e-7}, "2.500e−07"),
        ({"value": 0.0}, "0"),
        ({"value": float("nan"), "standard_error": 0.1}, "nan ± 0.1 s.e."),
        ({"value": float("-inf")}, "−inf"),
        ({"value": None}, "not measured"),
        (3.14159, "3.142"),
    ],
)
def test_format_number(number, text):
    assert format_number(number) == text


def test_a_number_stands_beside_what_it_would_be_of_real_data():
    assert format_reference({"value": 0.9, "real_images": 0.98, "expected": 0.5}) == "(real images 0.98)"
    assert format_reference({"value": 7, "perfect_sampler": 8}) == "(perfect sampler 8)"
    assert format_reference({"value": 0.2, "expected": 0.01}) == "(expected 0.01)"
    assert format_reference({"value": 1.0, "real_images": None}) == format_reference(3.0) == ""


def test_members_of_a_population_have_a_row_each_and_their_failures_are_said(tmp_path):
    numbers = {"nll": {"value": 3.0, "sd": 1.0, "num_members": 2, "values": [2.5, 3.5]}}
    members = [{"seed": 4, "failure": None}, {"seed": 5, "failure": "step 9: loss is not a finite number"},
               {"seed": 6, "failure": None}]  # fmt: skip
    card = {"recipe": "vae", "population": {"size": 3, "mode": "loop", "members": members}, "density": numbers}
    (tmp_path / "card.json").write_text(json.dumps(card))
    page = write_report(tmp_path, "command").read_text()
    table = page.split("<h2>Members</h2>")[1].split("</table>")[0]
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in table.split("<tr>")[1:]]
    assert cells == [
        ["member", "seed", "nll"],
        ['<a href="members/0/report.html">0</a>', "4", "2.5"],
        ["1", "5", "failed at step 9: loss is not a finite number"],
        ['<a href="members/2/report.html">2</a>', "6", "3.5"],
    ]
