import math
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from run_files import LINES, make_run, train_line, validation_line
from scipy.ndimage import gaussian_filter1d

from deeplabctl.errors import OutputError
from deeplabctl.reports import curves
from deeplabctl.reports.curves import (
    DARK,
    LIGHT,
    NARROW,
    WIDE,
    curves_png,
    draw_curves,
    line_style,
    needs_log_scale,
    smoothed,
    tick_text,
)
from deeplabctl.reports.run_records import Metrics


def metrics(lines=LINES):
    return Metrics(*([line for line in lines if line["kind"] == kind] for kind in ("train", "validation")))


def pixels(png):
    with Image.open(BytesIO(png)) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB"))


def where(picture, color):
    """Return (row, column) of the pixels of a colour, as "#rrggbb"."""
    return np.argwhere((picture == tuple(bytes.fromhex(color[1:]))).all(-1))


def test_smoothed_values_are_those_of_a_gaussian_filter():
    values = np.random.default_rng(0).normal(size=300)
    expected = gaussian_filter1d(values, 5.0, truncate=3.0)
    assert smoothed(values)[15:-15] == pytest.approx(expected[15:-15])


def test_smoothing_leaves_out_what_is_not_finite_and_keeps_a_constant_to_the_ends():
    values = np.full(200, 3.0)
    values[[0, 50, 51, 199]] = math.nan, math.inf, -math.inf, math.nan
    assert smoothed(values) == pytest.approx(np.full(200, 3.0))
    assert np.isnan(smoothed(np.full(20, math.nan))).all()
    assert smoothed(np.array([4.0])) == pytest.approx([4.0])


@pytest.mark.parametrize(
    ("values", "log"),
    [
        ([2.0, 0.5, 0.4], False),
        ([3000.0, 2.0, 1.0, 0.7], True),  # diverged once
        ([1e-3] * 20 + [1e-4] * 20 + [1e-5] * 20, True),  # the policy step
        ([1e-3 * (1 - step / 100) ** 0.9 for step in range(100)], False),  # the policy poly
        ([9.0, 0.5, 0.0], False),
    ],
)
def test_log_scale_is_for_values_of_which_most_would_lie_at_the_bottom(values, log):
    assert needs_log_scale(np.array(values)) == log


def test_numbers_of_a_scale_are_written_alike():
    values = (0.0, 5e-05, 0.0001, 0.1 + 0.2, 1500.0, 2e-07)
    assert [tick_text(value) for value in values] == ["0", "0.00005", "0.0001", "0.3", "1500", "2e-07"]


@pytest.mark.parametrize("rate", [2e-5, 1.05e-5])
def test_numbers_of_a_constant_learning_rate_are_whole(rate):
    picture = pixels(curves_png([("", metrics([train_line(1, learning_rate=rate)]))], width=NARROW))
    assert (picture[:, :10] == 255).all()


def test_runs_that_share_a_colour_have_other_dashes():
    assert line_style(0, LIGHT) == (LIGHT.lines[0], "solid")
    assert len({line_style(index, DARK) for index in range(24)}) == 24


def test_falling_loss_is_drawn_falling_and_rising_score_rising():
    falling = [train_line(step, 2.0 - step / 60) for step in range(1, 61)]
    rising = [validation_line(step, step / 100) for step in (10, 20, 30, 40)]
    picture = pixels(curves_png([("run", metrics([*falling, *rising]))]))
    blue = where(picture, LIGHT.lines[0])
    height, width = picture.shape[:2]
    for panel, grows in ((blue[blue[:, 0] < 0.45 * height], False), (blue[blue[:, 0] > 0.5 * height], True)):
        panel = panel[panel[:, 0] < 0.75 * height]
        left, right = (panel[side][:, 0].mean() for side in (panel[:, 1] < 0.4 * width, panel[:, 1] > 0.6 * width))
        assert (right < left) == grows


def test_title_names_no_loss_as_metrics_do_not_say_which_it_is(monkeypatch):
    titles = []
    monkeypatch.setattr(curves, "_title", lambda axes, text, theme: titles.append(text))
    curves_png([("", metrics())])
    assert sorted(titles) == ["learning rate", "mean IoU of the validations, %", "training loss"]


def test_loss_as_logged_is_drawn_around_the_smoothed_one():
    noise = np.random.default_rng(0).normal(size=300)
    picture = pixels(curves_png([("run", metrics([train_line(n + 1, 3 + noise[n] / 4) for n in range(300)]))]))
    picture = picture[: picture.shape[0] // 2]
    blue = np.array(tuple(bytes.fromhex(LIGHT.lines[0][1:])))
    pale = "#" + bytes(np.rint(0.35 * blue + 0.65 * 255).astype(int).tolist()).hex()
    logged, smooth = where(picture, pale)[:, 0], where(picture, LIGHT.lines[0])[:, 0]
    assert len(logged) > 100
    assert logged.mean() == pytest.approx(smooth.mean(), abs=0.1 * np.ptp(logged))
    assert np.ptp(logged) > 3 * np.ptp(smooth)


def test_best_validation_is_marked_at_its_step():
    picture = pixels(curves_png([("run", metrics())]))
    marked = where(picture, LIGHT.best)
    ring = marked[marked[:, 0] > np.quantile(marked[:, 0], 0.8)]  # below its label
    left, right = 0.075 * picture.shape[1], 0.975 * picture.shape[1]
    step = 60 * 1.01 * (ring[:, 1].mean() - left) / (right - left)
    assert step == pytest.approx(40, abs=0.5)


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [train_line(1)],
        [validation_line(20, 0.0)],
        [train_line(step, math.nan, math.inf) for step in range(1, 40)] + [validation_line(20, math.nan)],
        [{"kind": "train", "step": 3}, {"kind": "validation", "step": 5, "miou": "high"}],
        [train_line(step, 0.0, 0.0) for step in range(40)],
        [train_line(step, 3e38 if step == 5 else 1e-45) for step in range(40)],
        [train_line(step, -1.0) for step in range(2)],
    ],
)
def test_metrics_without_a_curve_still_give_a_picture(lines):
    assert pixels(curves_png([("run", metrics(lines))])).shape == (1384, 2000, 3)


@pytest.mark.parametrize("name", ["$x_1$ $", r"$\nope$", "日本語\n<b>&", "_hidden", "a" * 300, "\x00\ud800"])
def test_any_name_can_be_drawn(name):
    for runs in ([(name, metrics())], [(name, metrics()), (name, metrics([]))]):
        assert pixels(curves_png(runs)).shape[1] == 2000


def test_a_small_gain_of_mean_iou_looks_small():
    lines = [train_line(1), train_line(100), *(validation_line(10 * n, 0.672 + 0.0004 * n) for n in range(11))]
    picture = pixels(curves_png([("", metrics(lines))]))
    middle = picture[int(0.45 * len(picture)) : int(0.75 * len(picture))]
    marked = where(middle, LIGHT.lines[0])
    assert np.ptp(marked[:, 0]) < 0.15 * len(middle)  # of 0.4 % of mean IoU


def test_narrow_curves_are_as_high_and_have_no_more_than_their_width():
    runs = [("a run of a long name, " * 4, metrics()), ("b", metrics())]
    for drawn in (runs[:1], runs):
        narrow, wide = (pixels(curves_png(drawn, LIGHT, width)) for width in (NARROW, WIDE))
        assert narrow.shape[1] == pytest.approx(200 * NARROW, abs=1)
        assert len(narrow) == len(wide)
        assert (narrow[:, -20:] == 255).all()  # nothing is cut off


def test_long_names_differ_in_the_legend_of_narrow_curves():
    pictures = [
        pixels(curves_png([(f"20261125-223844-{end}", metrics()), ("b", metrics())], LIGHT, NARROW))
        for end in ("resnet101-one", "resnet101-two")
    ]
    assert (pictures[0] != pictures[1]).any(), "the end of a name is shown, not only its beginning"


def test_each_run_has_a_colour_of_its_own():
    runs = [(f"run {number}", metrics([train_line(1, number), train_line(9, number)])) for number in range(1, 5)]
    for theme in (LIGHT, DARK):
        picture = pixels(curves_png(runs, theme))
        assert [len(where(picture, color)) > 2000 for color in theme.lines] == [True] * 4 + [False] * 4


def test_many_runs_and_many_lines_can_be_drawn():
    lines = [train_line(step, 2.0 + math.sin(step)) for step in range(2_000)]
    lines += [validation_line(step, 0.3 + step / 1e5) for step in range(0, 2_000, 20)]
    runs = [(f"run {index}", metrics(lines)) for index in range(15)]
    assert pixels(curves_png(runs)).shape[0] > pixels(curves_png(runs[:2])).shape[0] > 1300


def test_pictures_can_be_drawn_in_threads_and_leave_the_settings_of_matplotlib_alone():
    import matplotlib

    runs = [("run", metrics())]
    alone = curves_png(runs)
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: curves_png(runs), range(4))) == {alone}
    assert dict(matplotlib.rcParams) == dict(matplotlib.rcParamsOrig)


def test_curves_are_written_whole_or_not_at_all(tmp_path):
    run = make_run(tmp_path / "run")
    draw_curves(run)
    assert pixels((run / "curves.png").read_bytes()).shape[1] == 2000
    (run / "curves.png").unlink()
    (run / "curves.png").mkdir()
    before = sorted(path.name for path in run.iterdir())
    with pytest.raises(OutputError, match=r"curves\.png"):
        draw_curves(run)
    assert sorted(path.name for path in run.iterdir()) == before


def test_own_settings_of_matplotlib_change_nothing(tmp_path):
    import matplotlib

    runs = [("x", Metrics([{"step": 1, "loss": 1.0, "learning_rate": 0.1}], []))]
    expected = curves_png(runs)
    with matplotlib.rc_context({"text.usetex": True, "lines.linewidth": 9}):
        assert curves_png(runs) == expected
