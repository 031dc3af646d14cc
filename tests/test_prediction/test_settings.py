import json
from dataclasses import replace

import numpy as np
import pytest

from deeplabctl.crf.params import PRESETS, CrfParams
from deeplabctl.crf.search_grid import SearchTable
from deeplabctl.errors import RecipeError
from deeplabctl.prediction import settings as module
from deeplabctl.prediction.settings import (
    PredictionSettings,
    checked,
    expected_score,
    own_settings,
    parse_crf_params,
    parse_scales,
    unknown_size,
)
from deeplabctl.weights.model_info import ExportFacts, ModelInfo

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


def resolve(info, is_voc=False, **request):
    return module.resolve(request, info, is_voc=is_voc)


def change(before, **request):
    return module.resolve(request, TRAINED, before=before)


def test_request_comes_before_the_weights_recipe_and_that_before_the_defaults():
    assert resolve(TRAINED) == PredictionSettings("paper", (0.5, 1.0), True)
    assert resolve(TRAINED, True, pad="tight", scales=(1.0,), flip=False) == PredictionSettings("tight", (1.0,), False)
    assert resolve(FOREIGN) == PredictionSettings("tight", (1.0,), False)
    assert resolve(FOREIGN, is_voc=True).pad == "paper"


def test_working_size_is_that_of_the_training_unless_another_is_named():
    provenance = {"recipe": {"data": {"max_side": 640}}}
    small = ModelInfo(("background", "disc"), provenance=provenance)
    assert resolve(small).image_size == own_settings(small).image_size == 640
    assert resolve(small, image_size=100).image_size == 100
    assert resolve(small, image_size=0).image_size == 0
    facts = ExportFacts("onnx", "float32", (1.0,), False)
    assert resolve(ModelInfo(("background", "disc"), provenance=provenance, export=facts)).image_size == 640
    assert "images of at most 640 pixels" in str(resolve(small))
    for wrong in (63, -1, 64.0, True):
        with pytest.raises(RecipeError, match="`image_size`: expected 0 or at least 64 pixels"):
            resolve(small, image_size=wrong)


@pytest.mark.parametrize(
    ("provenance", "side", "size", "expected"),
    [
        ({"image_side": 640, "recipe": {}}, 4000, 0, "use `image_size=640`"),
        ({"image_side": 640, "recipe": {}}, 1280, 0, ""),
        ({"image_side": 640, "recipe": {}}, 4000, 640, ""),
        ({"recipe": {}}, 4000, 0, ""),  # of an older training
        ({"image_side": "640", "recipe": {}}, 4000, 0, ""),
        ({}, 1025, 0, "with `image_size=513`"),
        ({}, 1024, 0, ""),
    ],
)
def test_images_that_are_larger_than_those_of_the_training_are_said(provenance, side, size, expected):
    said = unknown_size(side, PredictionSettings(image_size=size), ModelInfo(("a", "b"), provenance=provenance))
    assert bool(said) == bool(expected)
    assert expected in said


def test_crf_has_the_recipes_parameters_unless_others_are_named():
    assert resolve(TRAINED, crf=True).crf == CrfParams(bi_w=7.0)
    assert resolve(FOREIGN, crf=True).crf == PRESETS["largefov-v1"]
    assert resolve(FOREIGN, crf_adaptive=True).crf is not None
    assert resolve(TRAINED, crf="v2-vgg").crf == PRESETS["v2-vgg"]
    assert resolve(TRAINED, crf=CrfParams(bi_w=2)).crf == CrfParams(bi_w=2)
    changed = resolve(TRAINED, crf="bi_rgb_std=9,iterations=5,normalization=symmetric").crf
    assert changed == CrfParams(bi_w=7.0, bi_rgb_std=9.0, iterations=5, normalization="symmetric")


def test_change_keeps_what_is_not_asked_for():
    before = PredictionSettings("paper", (0.5,), True, CrfParams(bi_w=2), precision="bfloat16")
    assert change(before) == change(before, scales=None, crf=None) == before
    assert change(before, flip=False) == replace(before, flip=False)
    assert change(before, crf=True).crf == CrfParams(bi_w=2)
    assert change(before, crf_adaptive=True) == replace(before, crf_adaptive=True)
    assert change(before, crf=False).crf is None
    assert change(replace(before, crf_adaptive=True), crf=False) == replace(before, crf=None)
    assert change(replace(before, crf=None), crf=True).crf == CrfParams(bi_w=7.0)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"scales": 1}, "`scales`: expected numbers in a list"),
        ({"scales": "0.5,1"}, "`scales`: expected numbers in a list"),
        ({"flip": "yes"}, "`flip`: expected True or False"),
        ({"crf": 5}, "`crf`: expected True or False, CrfParams, or a text"),
        ({"tile": True}, "`tile`: expected auto, off or a number of pixels, at least 1, got True"),
        ({"crf": "bi_w=much"}, "^`crf`: .*expected a number"),
        ({"crf": False, "crf_adaptive": True}, "`crf_adaptive`: expected a CRF with it, got none; use `crf=True`"),
    ],
)
def test_options_of_other_types_are_refused(options, expected):
    with pytest.raises(RecipeError, match=expected):
        change(PredictionSettings(), **options)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"pad": "wide"}, "`pad`: expected paper or tight, got 'wide'"),
        ({"scales": ()}, "`scales`: expected numbers above 0, at most 4, got none"),
        ({"scales": (0,)}, "`scales`: expected numbers above 0, at most 4"),
        ({"tile": -5}, "`tile`: expected auto, off or a number of pixels"),
        ({"image_size": -5}, "`image_size`: expected 0 or at least 64 pixels"),
        ({"crf": True}, "`crf`: expected CrfParams or None, got True"),
        ({"crf_adaptive": True}, "`crf_adaptive`: expected a CRF with it, got none"),
        ({"crf": CrfParams(bi_w=-1)}, "`crf`: bi_w: expected 0 to 1e6, got -1"),
        ({"crf": CrfParams(iterations="5")}, "`crf`: iterations: expected a whole number, 0 to 1000, got '5'"),
    ],
)
def test_settings_of_a_users_own_are_checked(settings, expected):
    with pytest.raises(RecipeError, match=expected):
        checked(PredictionSettings(**settings), FOREIGN)


def test_numbers_of_numpy_are_numbers():
    settings = change(
        PredictionSettings(), image_size=np.int64(500), tile=np.int32(300), flip=np.True_, scales=np.float32([0.5, 1])
    )
    assert settings == PredictionSettings(image_size=500, tile=300, flip=True, scales=(0.5, 1.0))
    assert json.loads(json.dumps(settings.to_dict()))["image_size"] == 500
    assert checked(PredictionSettings(image_size=np.int64(500)), FOREIGN) == PredictionSettings(image_size=500)
    assert change(PredictionSettings(), scales=np.linspace(0.5, 1, 3)).scales == (0.5, 0.75, 1.0)


def test_unknown_option_is_named():
    with pytest.raises(TypeError, match="unknown setting 'crff'; the settings are pad, scales, flip, crf"):
        resolve(TRAINED, crff=None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x" * 300, "expected largefov-v1"),
        ("a\0b", "expected largefov-v1"),
        ("v3", "expected largefov-v1, v2-vgg, v2-resnet, the table of a search, or KEY=VALUE"),
        ("bi_x=3", "did you mean bi_w"),
        ("bi_w=much", "expected a number"),
        pytest.param("bi_w=" + "1" * 5000, "expected a number", id="digits"),
        pytest.param("bi_w=" + "[" * 5000, "expected a number", id="brackets"),
        ("bi_xy_std=0", "above 0"),
        ("bi_w=5,", "expected KEY=VALUE between commas, got ''"),
    ],
)
def test_unknown_crf_parameters_are_refused(text, said):
    with pytest.raises(RecipeError, match=said):
        parse_crf_params(text, CrfParams())


def test_table_of_a_search_may_lie_in_a_folder_with_an_equals_sign(tmp_path):
    best = CrfParams(bi_w=5)
    table = SearchTable(tmp_path / "lr=0.1" / "crf-search.csv", CrfParams(), {"bi_w": (5.0,)}, {})
    table.add(best, 0.5)
    assert parse_crf_params(str(table.path), CrfParams()) == best


def test_scales_are_numbers_with_commas():
    assert parse_scales("0.5, 0.75,1") == (0.5, 0.75, 1.0)
    for text in ("", "1;2", "0", "-1", "9", "nan"):
        with pytest.raises(RecipeError):
            parse_scales(text)


def test_expected_score_is_shown_for_the_whole_validation_split_as_the_recipe_scores_it():
    usual = PredictionSettings("paper", (0.5, 1.0), True)
    expect = expected_score(TRAINED, "val", 9, usual)
    assert (expect.miou, expect.source) == (0.5, "a table")
    assert expected_score(TRAINED, "train", 9, usual) is None
    assert expected_score(TRAINED, "val", 8, usual) is None
    assert expected_score(TRAINED, "val", 9, PredictionSettings("paper", (1.0,), True)) is None
    assert expected_score(TRAINED, "val", 9, PredictionSettings("tight", (0.5, 1.0), True)) is None
    assert expected_score(TRAINED, "val", 9, PredictionSettings("paper", (0.5, 1.0), True, CrfParams())) is None
    assert expected_score(FOREIGN, "val", 9, PredictionSettings()) is None


def test_settings_are_described_in_words_and_as_json():
    chosen = PredictionSettings("paper", (0.5, 1.0), True, CrfParams(), True)
    words = "images at their own size; pad paper; scales 0.5, 1; with the mirrored image; adaptive CRF with bi_w 4, "
    assert str(chosen).startswith(words)
    assert chosen.to_dict()["crf"]["bi_xy_std"] == 49
    assert chosen.to_dict()["crf"]["adaptive"] is True
    plain = {"pad": "tight", "image_size": 0, "scales": [1.0], "flip": False, "crf": None, "precision": "float32"}
    assert str(PredictionSettings(image_size=640)) == "images of at most 640 pixels"
    assert PredictionSettings().to_dict() == plain | {"engine": "auto", "tile": "auto"}
