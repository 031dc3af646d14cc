import copy
import dataclasses
import pickle
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from deeplabctl import recipes
from deeplabctl.errors import RecipeError
from deeplabctl.limits import beyond_limits
from deeplabctl.network import ARCHITECTURES
from deeplabctl.recipe import read_recipe, recipe_from_dict, recipe_text


def test_papers_recipes_hold_their_published_settings_and_scores():
    v1, v2, seed = (read_recipe(name) for name in ("paper-v1", "paper-v2", "seed"))
    assert (v1.solver.batch_size, v1.solver.steps, v1.solver.policy, v1.expect.miou) == (30, 6000, "step", 0.6225)
    assert (v2.solver.batch_size, v2.solver.steps, v2.solver.policy, v2.expect.miou) == (10, 20_000, "poly", 0.6588)
    for paper in (v1, v2):
        solver = paper.solver
        assert (solver.learning_rate, solver.momentum, solver.weight_decay) == (1e-3, 0.9, 5e-4)
        assert (paper.augment.crop_size, paper.augment.scale, solver.head_multiplier) == (321, (1.0, 1.0), 10)
        assert paper.eval.pad == "paper"
    assert (seed.solver.optimizer, seed.solver.learning_rate, seed.solver.weight_decay) == ("adam", 1e-4, 0)
    assert (seed.augment.scale, seed.solver.batch_size) == ((0.75, 1.25), 10)


@pytest.mark.parametrize("name", recipes.names())
def test_written_recipe_reads_back_the_same(name, tmp_path):
    recipe = read_recipe(name)
    (tmp_path / "recipe.toml").write_text(recipe_text(recipe))
    again = read_recipe(str(tmp_path / "recipe.toml"))
    assert recipe_text(again) == recipe_text(recipe)


def test_numbers_of_numpy_are_numbers():
    options = {"solver.steps": np.int64(9), "solver.learning_rate": np.float64(1e-3), "model.width": np.float32(0.5)}
    solver = (recipe := read_recipe("shapes", (), options)).solver
    assert (solver.steps, solver.learning_rate, recipe.model.width) == (9, 1e-3, 0.5)
    assert type(solver.steps) is int
    with pytest.raises(RecipeError, match=r"solver\.steps: expected an integer, got 2\.5"):
        read_recipe("shapes", (), {"solver.steps": np.float64(2.5)})


def test_option_beats_set_beats_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("[solver]\nsteps = 10\nbatch_size = 2\npower = 1\n")
    recipe = read_recipe(
        str(path), ["solver.steps=20", "solver.batch_size = 3"], {"solver.steps": 30, "run.seed": None}
    )
    assert (recipe.solver.steps, recipe.solver.batch_size, recipe.solver.power) == (30, 3, 1.0)
    assert isinstance(recipe.solver.power, float)
    assert recipe.run.seed == 0


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("solver.step=10", r"no setting solver\.step; did you mean steps"),
        ("solvr.steps=10", r"no setting solvr; did you mean solver"),
        ("steps=10", "expected SECTION.KEY=VALUE"),
        ("solver.steps", "expected SECTION.KEY=VALUE"),
        ("solver.steps=ten", r"solver\.steps: expected an integer, got 'ten'"),
        ("solver.steps=1.5", r"solver\.steps: expected an integer, got 1\.5"),
        ("solver.steps=0", r"solver\.steps: expected 1 to 2147483647, got 0"),
        ("solver.steps=3000000000", r"solver\.steps: expected 1 to 2147483647, got 3000000000"),
        ("solver.learning_rate=true", r"solver\.learning_rate: expected a number, got True"),
        ("solver.learning_rate=nan", r"solver\.learning_rate: expected a number above 0"),
        ("solver.policy=polly", r"solver\.policy: expected one of poly, step, fixed, got 'polly'; did you mean poly"),
        (
            "solver.loss=cross-entrpy",
            r"solver\.loss: expected one of cross-entropy, focal, .*; did you mean cross-entropy",
        ),
        ("solver.optimizer=[1]", r"solver\.optimizer: expected one of sgd, adam"),
        ("solver.freeze=['conv9_1']", r"largefov has no layer 'conv9_1'; solver\.freeze=\[\] trains all"),
        ("solver.freeze=conv1_1", r"solver\.freeze: expected auto or a list, got 'conv1_1'"),
        ("solver.class_weights=heavy", r"solver\.class_weights: expected one of none, median, sqrt-median or a list"),
        (
            "augment.crop_size=320",
            r"crop_size: expected 8k \+ 1 pixels \(161, 321, 513, \.\.\.\), so .* logits, got 320",
        ),
        ("augment.crop_size=-1", r"augment\.crop_size: expected 8k \+ 1 pixels .*, got -1"),
        ("solver.label_stride=3", r"solver\.label_stride: expected 1, 2, 4 or 8, got 3"),
        ("augment.scale=[1.5, 0.5]", r"augment\.scale: expected \[smallest, largest\]"),
        ("augment.scale=[1.0, inf]", r"augment\.scale: expected \[smallest, largest\]"),
        ("solver.class_weights=[nan, 1.0]", r"solver\.class_weights: expected none, median"),
        (f"solver.steps={'9' * 5000}", "solver.steps"),
        (f"solver.momentum={'9' * 400}", r"solver\.momentum: expected at least 0 and below 1, got inf"),
        (f"solver.freeze={'[' * 3000}", "not valid TOML"),
        ("run.log_every=9999999999999999999", r"run\.log_every: expected 1 to 2147483647, got 9999999999999999999"),
        ("solver.learning_rate=1e39", r"solver\.learning_rate: expected a number above 0, got 1e\+39"),  # in float32
        ("solver.gradient_clip=1e39", r"solver\.gradient_clip: expected at least 0, got 1e\+39"),
        ("solver.class_weights=[0, 1e39]", r"solver\.class_weights: expected none, median"),
        ("augment.turns=[]", r"augment\.turns: expected true or false, got \[\]"),
        ("augment.scale=[1.0]", r"augment\.scale: expected a list of 2"),
        ("model.architecture=resnet", r"model\.architecture: expected one of largefov"),
        ("model.dropout=1", r"model\.dropout: expected a share"),
        ("expect.miou=61", r"expect\.miou: expected a share of at least 0 and below 1, got 61"),
        ("expect.tolerance=-1", r"expect\.tolerance: expected a share"),
        ("solver=3", "expected SECTION.KEY=VALUE"),
        ("data.root=a b [", "not valid TOML"),
    ],
)
def test_wrong_setting_is_refused_in_one_line_with_a_guess(override, message):
    with pytest.raises(RecipeError, match=message) as caught:
        read_recipe("paper-v2", [override])
    assert "\n" not in str(caught.value)


def test_architecture_says_which_crops_and_strides_of_labels_there_are(monkeypatch):
    fine = dataclasses.replace(ARCHITECTURES["largefov"], name="fine", output_stride=4)
    monkeypatch.setitem(ARCHITECTURES, "largefov", fine)
    assert read_recipe("paper-v1", ["solver.label_stride=4"]).solver.label_stride == 4
    with pytest.raises(RecipeError, match=r"solver\.label_stride: expected 1, 2 or 4, got 8"):
        read_recipe("paper-v1", ["solver.label_stride=8"])


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda recipe: pickle.loads(pickle.dumps(recipe))])
def test_copy_of_a_recipe_is_within_the_limits(copied):
    assert not list(beyond_limits(copied(read_recipe("own")).solver))


def test_lists_and_bare_words_are_taken():
    overrides = ["solver.class_weights=[1, 2.5]", "model.init=random", "solver.freeze=['conv1_1', 'conv1_2']"]
    recipe = read_recipe("paper-v2", overrides)
    assert recipe.solver.class_weights == (1.0, 2.5)
    assert recipe.model.init == "random"
    assert recipe.solver.freeze == ("conv1_1", "conv1_2")


def test_recipes_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(RecipeError, match=r"no recipe 'paper-v3'; did you mean paper-v"):
        read_recipe("paper-v3")
    with pytest.raises(RecipeError, match="No such file"):
        read_recipe(str(tmp_path / "gone.toml"))
    (tmp_path / "bad.toml").write_text("[solver\n")
    with pytest.raises(RecipeError, match="not valid TOML"):
        read_recipe(str(tmp_path / "bad.toml"))
    with pytest.raises(RecipeError, match=r"cannot read the recipe n+: File name too long; expected a TOML file"):
        read_recipe("n" * 300)
    (tmp_path / "flat.toml").write_text("solver = 3\n")
    with pytest.raises(RecipeError, match=r"expected a table \[solver\]"):
        read_recipe(str(tmp_path / "flat.toml"))


def test_documentation_lists_every_setting_with_its_default():
    page = (Path(__file__).parents[1] / "docs" / "recipes.md").read_text("utf-8")
    block = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)[0]
    listed = tomllib.loads(block)
    defaults = {name: dataclasses.asdict(section) for name, section in vars(recipe_from_dict({}, "test")).items()}
    for section in defaults.values():
        section |= {key: list(value) for key, value in section.items() if isinstance(value, tuple)}
    assert listed == defaults


@pytest.mark.parametrize("name", ["paper-v1", "paper-v2", "seed"])
def test_papers_recipes_use_nothing_that_the_papers_do_not(name):
    recipe = read_recipe(name)
    augment, solver = recipe.augment, recipe.solver
    colours = (augment.jitter, augment.gamma, augment.contrast, augment.saturation, augment.channel_gain)
    assert (colours, augment.class_crops) == ((0, 0, 0, 0, 0), 0)
    assert (solver.average, solver.freeze, solver.hard_pixels, solver.label_stride) == (0, (), 1, 8)
