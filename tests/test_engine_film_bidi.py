"""Claims about bidi: what stands where on a line of mixed directions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.film.bidi import levels, visual_order


@pytest.mark.parametrize(
    ("text", "base", "shown"),
    [
        ("ابپ", "R", "پبا"),
        ("ابپ 12 دج", "R", "جد 12 پبا"),
        ("اب Water (H2O) دج", "R", "جد Water (H2O) با"),
        ("اب 12-34 دج", "R", "جد 34-12 با"),  # after an Arabic letter digits are no longer European
        ("Water (اب) is", "L", "Water (با) is"),
        ("اب ۲.۳ دج", "R", "جد ۲.۳ با"),
        ("a ₹100 b", "L", "a ₹100 b"),
    ],
)
def test_mixed_directions_are_shown_in_the_order_that_they_are_read(text: str, base: str, shown: str) -> None:
    runs = list(zip(text, levels(list(text), base), strict=True))
    assert "".join(sign for sign, _ in visual_order(runs, lambda run: run[1])) == shown


@given(st.text(alphabet="aب1۲ .,₹()[]", max_size=30), st.sampled_from("LR"))
def test_every_sign_is_shown_once_and_levels_stay_small(text: str, base: str) -> None:
    found = levels(list(text), base)
    assert len(found) == len(text) and set(found) <= {0, 1, 2}
    shown = visual_order(list(enumerate(found)), lambda run: run[1])
    assert sorted(shown) == list(enumerate(found))
