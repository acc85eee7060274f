"""The progress line on a clock and a stream of our own."""

import io

import pytest

from genlab.training.display import duration, progress_line


class Terminal(io.StringIO):
    def isatty(self):
        return True


def play(moments, stream, **options):
    """What is written when `show(step)` is called at these (time, step); the line is made at time 0."""
    now = [0.0]
    show = progress_line(1000, stream=stream, clock=lambda: now[0], **options)
    written = []
    for time, step in moments:
        now[0] = time
        before = len(stream.getvalue())
        show(step)
        written.append(stream.getvalue()[before:])
    return written


def test_plain_lines_come_at_their_period_and_at_the_end():
    moments = [(5, 100), (9.9, 200), (11, 300), (20, 400), (22, 600), (25, 1000)]
    # counted from the first call, at 5 s and 100 steps: 200 steps in 6 s, 500 in 17 s, 900 in 20 s
    assert play(moments, io.StringIO()) == [
        "",
        "",
        "step 300/1,000  33 steps/s, 21s left\n",
        "",
        "step 600/1,000  29 steps/s, 14s left\n",
        "step 1,000/1,000  45 steps/s, 0s left\n",
    ]


def test_the_period_of_plain_lines_is_an_option():
    written = play([(1, 10), (2, 20), (3, 30)], io.StringIO(), plain_every_seconds=2.0)
    assert [bool(line) for line in written] == [False, True, False]


def test_a_terminal_line_is_rewritten_five_times_a_second_and_ended_once():
    written = play([(5, 100), (5.1, 110), (5.25, 125), (5.3, 130), (7, 300), (7.05, 1000)], Terminal())
    assert written == [
        "\r\033[Kstep 100/1,000  compiled",
        "",
        "\r\033[Kstep 125/1,000  100 steps/s, 9s left",
        "",
        "\r\033[Kstep 300/1,000  100 steps/s, 7s left",
        "\r\033[Kstep 1,000/1,000  439 steps/s, 0s left\n",
    ]


def test_a_run_of_one_call_has_no_speed():
    assert play([(3, 1000)], io.StringIO()) == ["step 1,000/1,000  compiled\n"]


def test_steps_before_this_process_do_not_count_as_its_speed():
    assert play([(1, 900), (11, 950)], io.StringIO()) == ["", "step 950/1,000  5 steps/s, 10s left\n"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.4, "0s"), (42.3, "42s"), (59.4, "59s"), (59.6, "1m00s"), (185, "3m05s"), (3599.4, "59m59s"),
     (3599.6, "1h00m"), (7620, "2h07m"), (360_000, "100h00m")],
)  # fmt: skip
def test_durations_are_read_at_a_glance(seconds, text):
    assert duration(seconds) == text
