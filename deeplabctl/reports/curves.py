"""Draw the curves of trainings from their metrics: loss, mean IoU of the validations, learning rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np

from deeplabctl.arrays import Floats
from deeplabctl.errors import DeepLabError
from deeplabctl.files import whole_file
from deeplabctl.reports.run_records import Metrics, number
from deeplabctl.run_layout import CURVES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDE, NARROW = 10.0, 4.6  # inches: images for screens, and for phones
_PANELS, _LINE = 6.4, 0.27  # inches: the height of the panels, and of a line above them
_DPI = 200
_LEFT = 0.75  # inches: where the panels begin
_LETTER = 0.08  # inches of a title, at least for what titles have
_FONT = "DejaVu Sans"  # matplotlib brings it along
_FEWEST_TO_SMOOTH = 15  # points; fewer are drawn as they are
_MOST_DOTS = 60  # points; more are a line without dots
_FROM_ZERO = 2 / 3  # of the largest value: a smallest value below it begins the scale at 0
_LOG_BELOW = 1 / 8  # of the largest value: a median below it needs a log scale
_LETTERS = 85  # of a line of the legend, at most
_WIDEST_COLUMN = 50  # letters, where the legend has two columns
_LEAST_SPAN = 10.0  # % of mean IoU that the scale covers: smaller changes look small
_ROUND = (1, 2, 5, 10)  # steps between ticks, times a power of 10


@dataclass(frozen=True)
class Theme:
    """Hold the colours of an image."""

    paper: str
    ink: str
    soft: str
    grid: str
    best: str
    lines: tuple[str, ...]  # of the runs


LIGHT = Theme(
    "#ffffff", "#1c2024", "#60666d", "#e3e5e8", "#d9480f",
    ("#0b5cad", "#e8890c", "#2b8a3e", "#c2255c", "#7048b6", "#0c8599", "#845a33", "#6b7280"),
)  # fmt: skip
DARK = Theme(
    "#16181b", "#e8eaed", "#9aa0a6", "#33373c", "#ff9f5a",
    ("#6fb1ff", "#ffb454", "#69db7c", "#ff7fa5", "#b197fc", "#4dd4e4", "#d0a777", "#adb5bd"),
)  # fmt: skip
_DASHES = ("solid", "dashed", "dotted")  # for the first runs, and for those that take a colour again


@dataclass(frozen=True)
class _Run:
    name: str
    metrics: Metrics
    color: str
    dashes: str

    @property
    def style(self) -> dict[str, Any]:
        return {"color": self.color, "linestyle": self.dashes}

    def caption(self, letters: int) -> str:
        """Return the name and the best score, in so many letters at most."""
        best = self.metrics.best
        score = (
            "no validation yet" if best is None else f"mIoU {100 * number(best, 'miou'):.2f} at step {best['step']:,}"
        )
        return f"{_shortened(self.name, letters - 3 - len(score))}   {score}"


def draw_curves(run: Path) -> None:
    """Draw a run's curves into its curves.png.

    Raises RunError where the metrics cannot be read, and OutputError where the image cannot be written.
    """
    png = curves_png([(run.resolve().name, Metrics.read(run))])
    with whole_file(run / CURVES) as temporary:
        temporary.write_bytes(png)


def curves_png(runs: Sequence[tuple[str, Metrics]], theme: Theme = LIGHT, width: float = WIDE) -> bytes:
    """Return a PNG with the curves of one run, or of several in a colour each.

    A run is a name, which may be empty for one run, and its metrics. The user's settings of matplotlib have no effect.
    Raises DeepLabError where matplotlib is not installed.
    """
    try:
        from matplotlib import style
    except ImportError:
        raise DeepLabError("curves need the package matplotlib: pip install matplotlib") from None

    with style.context("default"):
        return _drawn(runs, theme, width)


def _drawn(runs: Sequence[tuple[str, Metrics]], theme: Theme, width: float) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = [_Run(name, metrics, *line_style(index, theme)) for index, (name, metrics) in enumerate(runs)]
    columns = 2 if max(len(run.caption(_LETTERS)) for run in drawn) <= _WIDEST_COLUMN and width == WIDE else 1
    head = 0.25 + _LINE * math.ceil(len(runs) / columns) if drawn[0].name else 0.0  # inches
    height = head + _PANELS
    left = _LEFT / width
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor=theme.paper)
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        3, 1, height_ratios=(3, 3, 1), hspace=0.3 if width == WIDE else 0.4,
        left=left, right=1 - 0.25 / width, bottom=0.55 / height,
        top=1 - (head + (0.35 if width == WIDE else 0.55)) / height,
    )  # fmt: skip
    loss, miou, rate = (figure.add_subplot(grid[row]) for row in range(3))
    end = max([run.metrics.last_step for run in drawn] + [1])
    for axes in (loss, miou, rate):
        _prepare(axes, end, theme)
    _draw_loss(loss, drawn, theme)
    _draw_miou(miou, drawn, theme)
    _draw_rate(rate, drawn, theme)
    loss.tick_params(labelbottom=False)
    miou.tick_params(labelbottom=False)
    rate.set_xlabel("step", fontfamily=_FONT, fontsize=10, color=theme.soft)
    if len(drawn) == 1:
        _text(
            figure,
            left,
            1 - head / 2 / height,
            _shortened(drawn[0].name, int(8 * width)),
            theme,
            fontsize=13,
            fontweight="bold",
        )
    else:
        _draw_legend(figure, drawn, columns, theme)
    png = BytesIO()
    figure.savefig(png, format="png", dpi=_DPI)
    return png.getvalue()


def line_style(index: int, theme: Theme) -> tuple[str, str]:
    """Return the colour of a run's line, and its dashes: "solid", "dashed" or "dotted"."""
    again, color = divmod(index, len(theme.lines))
    return theme.lines[color], _DASHES[again % len(_DASHES)]


def smoothed(values: Floats) -> Floats:
    """Return values (N,) averaged with their neighbours by a Gaussian, of 1/60 of their number and at least 1."""
    width = max(1.0, len(values) / 60)
    reach = min(round(3 * width), (len(values) - 1) // 2)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    known = np.isfinite(values)
    weights = np.convolve(known.astype(float), kernel, "same")
    sums = np.convolve(np.where(known, values, 0.0), kernel, "same")
    averages: Floats = np.divide(sums, weights, out=np.full(len(values), math.nan), where=weights > 0)
    return averages


def tick_text(value: float) -> str:
    """Return a number of a scale; down to a millionth without an exponent, so that 0.00005 stands beside 0.0001."""
    return f"{value:g}" if abs(value) < 1e-6 else f"{value:.8f}".rstrip("0").rstrip(".")


def needs_log_scale(values: Floats) -> bool:
    """Tell whether most of the values (N,) would lie near the bottom of a linear scale; all must be above 0."""
    return bool(values.min() > 0 and np.median(values) < _LOG_BELOW * values.max())


def _draw_loss(axes: Axes, runs: Sequence[_Run], theme: Theme) -> None:
    points = [_points(run.metrics.train, "loss") for run in runs]
    title = f"training loss{_scale(axes, points, theme)}"
    for run, (steps, values) in zip(runs, points, strict=True):
        if len(values) < _FEWEST_TO_SMOOTH:
            axes.plot(steps, values, lw=2, marker="o", ms=4, **run.style)
            continue
        smooth = np.exp(smoothed(np.log(values))) if axes.get_yscale() == "log" else smoothed(values)
        axes.plot(steps, values, lw=0.8, alpha=0.35, **run.style)
        axes.plot(steps, smooth, lw=2.2, **run.style)
    if any(len(values) >= _FEWEST_TO_SMOOTH for _, values in points):
        title += " (thin: as logged, bold: smoothed)"
    _title(axes, title, theme)


def _draw_miou(axes: Axes, runs: Sequence[_Run], theme: Theme) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    points = [_points(run.metrics.validations, "miou") for run in runs]
    for run, (steps, values) in zip(runs, points, strict=True):
        dots: dict[str, Any] = {"marker": "o", "ms": 4} if len(values) <= _MOST_DOTS else {}
        axes.plot(steps, 100 * values, lw=1.6, **dots, **run.style)
    values = 100 * np.concatenate([values for _, values in points])
    if len(values):
        low, high = float(values.min()), max(float(values.max()), 1.0)
        low = 0.0 if low < _FROM_ZERO * high or low == high else min(low - 0.1 * (high - low), high - _LEAST_SPAN)
        axes.set_ylim(low, high + 0.2 * (high - low))  # with room for the name of the best
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=_ROUND))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        _say_empty(axes, "no validation yet", theme)
    for run in runs:
        if run.metrics.best is not None:
            _mark_best(axes, run.metrics.best, run.color if len(runs) > 1 else theme.best, theme, named=len(runs) == 1)
    _title(axes, "mean IoU of the validations, %", theme)


def _mark_best(axes: Axes, best: dict[str, Any], color: str, theme: Theme, *, named: bool) -> None:
    step, miou = best["step"], 100 * number(best, "miou")
    axes.plot([step], [miou], "o", clip_on=False, ms=9, mfc=theme.paper, mec=color, mew=2.2, zorder=5)
    if named:
        share = step / axes.get_xlim()[1]
        axes.annotate(
            f"best {miou:.2f} at step {step:,}", (step, miou), (0, 10), textcoords="offset points",
            ha="left" if share < 0.15 else "right" if share > 0.85 else "center",
            fontfamily=_FONT, fontsize=10, fontweight="bold", color=color,
        )  # fmt: skip


def _draw_rate(axes: Axes, runs: Sequence[_Run], theme: Theme) -> None:
    points = [_points(run.metrics.train, "learning_rate") for run in runs]
    _title(axes, f"learning rate{_scale(axes, points, theme)}", theme)
    for run, (steps, values) in zip(runs, points, strict=True):
        axes.plot(steps, values, lw=1.6, marker="o" if len(values) == 1 else "", ms=4, **run.style)


def _points(entries: Sequence[dict[str, Any]], key: str) -> tuple[Floats, Floats]:
    """Return steps and finite values (N,) of the lines that have some."""
    points = [(float(entry["step"]), number(entry, key)) for entry in entries]
    array = np.array([point for point in points if math.isfinite(point[1])], np.float64).reshape(-1, 2)
    return array[:, 0], array[:, 1]


def _scale(axes: Axes, points: Sequence[tuple[Floats, Floats]], theme: Theme) -> str:
    """Choose the scale for the values of all runs, and return what the title says of it."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    values = np.concatenate([values for _, values in points])
    if not len(values):
        _say_empty(axes, "nothing logged yet", theme)
        return ""
    low, high = float(values.min()), float(values.max())
    log = needs_log_scale(values)
    if log:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 50 * low else (1,), numticks=5))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=_ROUND))
        if 0 <= low < _FROM_ZERO * high or 0 < low == high:
            axes.set_ylim(0, 1.08 * high)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: tick_text(value)))
    return ", log scale" if log else ""


def _prepare(axes: Axes, end: int, theme: Theme) -> None:
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    axes.set_facecolor(theme.paper)
    for side in ("top", "left", "right"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(theme.grid)
    axes.grid(color=theme.grid, lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=theme.soft, length=0, labelsize=9.5, labelfontfamily=_FONT)
    axes.set_xlim(0, end * 1.01)
    wide = axes.figure.get_figwidth() == WIDE  # type: ignore[union-attr]
    axes.xaxis.set_major_locator(MaxNLocator(10 if wide else 4, integer=True, steps=_ROUND))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def _title(axes: Axes, text: str, theme: Theme) -> None:
    width = axes.figure.get_figwidth() - _LEFT  # type: ignore[union-attr]
    axes.set_title(
        "\n".join(wrap(text, int(width / _LETTER))), loc="left", fontsize=10.5, color=theme.ink, fontfamily=_FONT
    )


def _say_empty(axes: Axes, text: str, theme: Theme) -> None:
    axes.set_yticks([])
    axes.text(
        0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=theme.soft, fontfamily=_FONT,
        fontsize=11,
    )  # fmt: skip


def _draw_legend(figure: Figure, runs: Sequence[_Run], columns: int, theme: Theme) -> None:
    """Write the names of the runs above the panels, each with its line."""
    from matplotlib.lines import Line2D

    width, height = figure.get_size_inches()
    for index, run in enumerate(runs):
        row, column = divmod(index, columns)
        x, y = _LEFT / width + 0.46 * column, 1 - (0.15 + _LINE * (row + 0.5)) / height
        figure.add_artist(Line2D([x, x + 0.3 / width], [y, y], lw=2.6, **run.style))
        _text(figure, x + 0.4 / width, y, run.caption(_LETTERS if width == WIDE else 40), theme, fontsize=10)


def _text(figure: Figure, x: float, y: float, text: str, theme: Theme, **style: Any) -> None:
    figure.text(x, y, _drawable(text), va="center", color=theme.ink, fontfamily=_FONT, parse_math=False, **style)


def _shortened(name: str, letters: int) -> str:
    """Cut the middle out of a long name."""
    return name if len(name) <= letters else f"{name[: letters // 2 - 1]}…{name[-(letters // 2) :]}"


def _drawable(text: str) -> str:
    """Put a box for what the font has no letter for; matplotlib would warn."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    letters = get_font(findfont(FontProperties(family=_FONT))).get_charmap()
    return "".join(letter if ord(letter) in letters else "\N{WHITE SQUARE}" for letter in text)
