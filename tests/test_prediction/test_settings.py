import pytest

from deeplabctl.crf.params import PRESETS, CrfParams
from deeplabctl.errors import RecipeError
from deeplabctl.prediction.settings import Inference, Wishes, expected_score, parse_crf_params, parse_scales, settle
from deeplabctl.weights.fitting import ModelInfo

TRAINED = ModelInfo(
    ("background", "disc"),
    provenance={
        "recipe": {
            "data": {"val_split": "val"},
            "eval": {"pad": "paper", "scales": [0.5, 1.0], "flip": True},
            "crf": {"bi_w": 7.0},
        },
        "expect": {"miou": 0.5, "tolerance": 0.01, "images": 9, "source": "a table"},
    },
)
FOREIGN = ModelInfo(("background", "disc"), provenance={"source": "x.caffemodel"})


def test_wishes_come_before_the_weights_recipe_and_that_before_the_defaults():
    assert settle(Wishes(), TRAINED, is_voc=False) == Inference("paper", (0.5, 1.0), True)
    wishes = Wishes("tight", (1.0,), False)
    assert settle(wishes, TRAINED, is_voc=True) == Inference("tight", (1.0,), False)
    assert settle(Wishes(), FOREIGN, is_voc=False) == Inference("tight", (1.0,), False)
    assert settle(Wishes(), FOREIGN, is_voc=True).pad == "paper"


def test_crf_has_the_recipes_parameters_unless_others_are_named():
    assert settle(Wishes(crf=True), TRAINED, is_voc=False).crf == CrfParams(bi_w=7.0)
    assert settle(Wishes(crf=True), FOREIGN, is_voc=False).crf == PRESETS["largefov-v1"]
    assert settle(Wishes(adaptive=True), FOREIGN, is_voc=False).crf is not None
    assert settle(Wishes(crf_params="v2-vgg"), TRAINED, is_voc=False).crf == PRESETS["v2-vgg"]
    changed = settle(Wishes(crf_params="bi_rgb_std=9,iterations=5,normalization=symmetric"), TRAINED, is_voc=False).crf
    assert changed == CrfParams(bi_w=7.0, bi_rgb_std=9.0, iterations=5, normalization="symmetric")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("v3", "expected largefov-v1, v2-vgg, v2-resnet, the table of a search, or KEY=VALUE"),
        ("bi_x=3", "did you mean bi_w"),
        ("bi_w=much", "expected a number"),
        ("bi_xy_std=0", "above 0"),
    ],
)
def test_crf_parameters_that_are_none_are_refused(text, said):
    with pytest.raises(RecipeError, match=said):
        parse_crf_params(text, CrfParams())


def test_scales_are_numbers_with_commas():
    assert parse_scales("0.5, 0.75,1") == (0.5, 0.75, 1.0)
    for text in ("", "1;2", "0", "-1", "9", "nan"):
        with pytest.raises(RecipeError):
            parse_scales(text)


def test_expected_score_is_shown_for_the_whole_validation_split_as_the_recipe_scores_it():
    usual = Inference("paper", (0.5, 1.0), True)
    expect = expected_score(TRAINED, "val", 9, usual)
    assert (expect.miou, expect.source) == (0.5, "a table")
    assert expected_score(TRAINED, "train", 9, usual) is None
    assert expected_score(TRAINED, "val", 8, usual) is None
    assert expected_score(TRAINED, "val", 9, Inference("paper", (1.0,), True)) is None
    assert expected_score(TRAINED, "val", 9, Inference("paper", (0.5, 1.0), True, CrfParams())) is None
    assert expected_score(FOREIGN, "val", 9, Inference()) is None


def test_inference_is_said_in_words_and_as_json():
    chosen = Inference("paper", (0.5, 1.0), True, CrfParams(), True)
    assert "test size paper; scales 0.5, 1; with the mirrored image; adaptive CRF with bi_w 4" in str(chosen)
    assert chosen.to_dict()["crf"]["bi_xy_std"] == 49
    assert chosen.to_dict()["crf"]["adaptive"] is True
    assert Inference().to_dict() == {"pad": "tight", "scales": [1.0], "flip": False, "crf": None}
