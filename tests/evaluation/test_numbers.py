"""Numbers of a card in words."""

import pytest

from genlab.evaluation.numbers import format_number


@pytest.mark.parametrize(
    ("number", "text"),
    [
        ({"value": 4.1234, "standard_error": 0.31, "unit": "nats"}, "4.12 ± 0.31 s.e. nats"),
        ({"value": 0.00457, "sd": 0.000015}, "0.004570 ± 0.000015 s.d."),
        ({"value": 2.83e-17, "standard_error": 1.4e-18}, "2.830e-17 ± 1.400e-18 s.e."),
        ({"value": 97.3, "bound": "upper"}, "≤ 97.3"),
    ],
)
def test_a_number_has_two_digits_of_its_uncertainty(number, text):
    assert format_number(number).replace("\N{MINUS SIGN}", "-") == text
