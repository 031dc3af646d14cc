"""Names of any script are drawn, or replaced by numbers."""

import numpy as np
import pytest
from PIL import ImageFont

from deeplabctl import render
from deeplabctl.render import drawable_name, font


@pytest.mark.parametrize("name", ["road", "Straße", "дорога", "δρόμος", "طريق", "đường"])
def test_names_of_many_scripts_are_drawn(name):
    assert drawable_name(3, name) == name
    letters = [bytes(font(24).getmask(letter)) for letter in dict.fromkeys(name)]
    assert len(set(letters)) > len(letters) // 2  # not one box for all


@pytest.mark.parametrize("name", ["道路", "도로", "road 道"])
def test_names_with_letters_that_the_font_lacks_become_numbers(name):
    assert drawable_name(3, name) == "class 3"


@pytest.mark.parametrize("name", ["road\nedge", "road\u2029edge"])
def test_names_with_ends_of_lines_become_numbers_as_letters_are_laid_out_in_one_line(name):
    image, label = np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9), np.uint8)
    numbered = render.overlay_with_legend(image, label, ["class 0", "tree"])
    assert (render.overlay_with_legend(image, label, [name, "tree"]) == numbered).all()


def test_without_matplotlib_pillow_s_own_font_is_taken(monkeypatch):
    monkeypatch.setattr(render, "find_spec", lambda name: None)
    for function in (font, render._has):
        function.cache_clear()
    try:
        assert font(20).getname() == ImageFont.load_default(20).getname()
        assert (drawable_name(1, "road"), drawable_name(1, "道路")) == ("road", "class 1")
        assert np.asarray(font(20).getmask("road")).size
    finally:
        for function in (font, render._has):
            function.cache_clear()
