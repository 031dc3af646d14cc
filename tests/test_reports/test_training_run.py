import re

import pytest
from browser import browser, violations
from run_files import LINES, make_run, train_line, validation_line, write_lines
from small_training import without_curves

from deeplabctl.errors import OutputError, RunError
from deeplabctl.reports.run_records import RunResults
from deeplabctl.reports.training_run import render_training_report, write_report


def page_of(run):
    """Return the page of a run without its curves."""
    with without_curves():
        return render_training_report(RunResults.read(run))


def test_report_loads_nothing_and_holds_its_pictures(tmp_path):
    page = render_training_report(RunResults.read(make_run(tmp_path / "run")))
    assert 'http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:' in page
    assert re.findall(r"https?:|//[a-z]|url\(|@import", re.sub(r"base64,[^'\"]*", "", page)) == []
    sources = re.findall(r"src(?:set)?=[\"']([^\"']{0,30})", page)
    assert len(sources) == 6  # curves for light and for dark pages, for screens and for phones, and two previews
    assert all(source.startswith("data:image/") for source in sources)
    assert "<script" not in page
    assert "<link" not in page


def test_report_escapes_what_comes_from_outside(tmp_path):
    classes = ("background", "<b>disc</b>", "salt & 'pepper'")
    run = make_run(
        tmp_path / "a <i> & b", [train_line(1), validation_line(1, 0.5, classes)],
        settings=['data.root="/sets/<u>set</u>"', 'model.init="<w>.keras"'],
        argv=["deeplabctl", "<s>"], device="<q>", error="<em>", status="<dd>",
        expect={"miou": 0.5, "tolerance": 0.1, "source": "<cite>"},
    )  # fmt: skip
    with (run / "recipe.toml").open("a") as file:
        file.write('["<kbd>"]\n"<var>" = 1\n')
    page = page_of(run)
    body = page[page.index("<body>") :]
    for text in (
        "a &lt;i&gt; &amp; b", "&lt;b&gt;disc", "salt &amp; &#x27;pepper&#x27;", "&lt;w&gt;.keras", "&lt;s&gt;",
        "&lt;q&gt;", "&lt;em&gt;", "&lt;dd&gt;", "&lt;cite&gt;", "/sets/&lt;u&gt;set",
        "&lt;kbd&gt;", "&lt;var&gt;",
    ):  # fmt: skip
        assert text in body
    assert not re.search(r"<(i|u|w|em|q|dd|cite|kbd|var)>|<s>|<b>disc", body)


def test_report_of_a_resumed_run_has_the_command_that_began_it_and_the_last(tmp_path):
    first = {"argv": ["deeplabctl", "train", "--data", "set"], "started": "monday", "status": "interrupted"}
    again = {"argv": ["deeplabctl", "train", "--resume", "run", "--steps", "50"], "started": "tuesday"}
    last = ["deeplabctl", "train", "--resume", "run"]
    page = page_of(make_run(tmp_path / "run", argv=last, started="wednesday", earlier=[first, again]))
    rows = dict(re.findall(r"<td>([a-z ]+)</td><td>([^<]*)</td>", page))
    assert (rows["command"], rows["started"]) == ("deeplabctl train --data set", "monday")
    assert (rows["resumed"], rows["resumed with"]) == ("2 times", "deeplabctl train --resume run")
    assert "<td>1 time</td>" in page_of(make_run(tmp_path / "once", argv=last, earlier=[first]))
    page = page_of(make_run(tmp_path / "other", argv=last))
    assert "resumed with" not in page
    assert "<td>command</td><td>deeplabctl train --resume run</td>" in page


def test_report_shows_the_classes_of_the_best_validation(tmp_path):
    page = page_of(make_run(tmp_path / "run"))
    rows = dict(re.findall(r"</s>(\w+)</td>.*?<td>([\d.]+)</td>", page))
    assert rows == {"background": "50.00", "disc": "51.00", "ring": "52.00"}  # of step 40, not of step 60
    assert "<b>50.00</b><span>best mIoU %, step 40</span>" in page


@pytest.mark.slow
@pytest.mark.parametrize(("media", "width"), [("screen", 768), ("print", 794)])
def test_table_of_classes_is_whole_on_tablets_and_on_paper(tmp_path, media, width):
    lines = [train_line(1), validation_line(1, 0.5, ("background", "a traffic light", "a bicycle lane"))]
    with browser() as chromium:
        page = chromium.new_page(viewport={"width": width, "height": 800})
        page.emulate_media(media=media)
        page.set_content(page_of(make_run(tmp_path / "run", lines)))
        assert page.locator(".columns .scroll").evaluate("frame => frame.scrollWidth === frame.clientWidth")
        assert violations(page) == []


def test_report_of_an_older_run_has_no_table_of_classes(tmp_path):
    lines = [train_line(1), validation_line(1, 0.5, classes=())]
    page = page_of(make_run(tmp_path / "run", lines))
    assert "The metrics of this run have none." in page
    assert "<b>50.00</b>" in page
    assert "class=bar" not in page


def test_report_before_the_first_validation_and_without_previews(tmp_path):
    lines, error = [train_line(1, 2.5)], "KeyboardInterrupt: "
    page = page_of(make_run(tmp_path / "run", lines, previews=(), status="interrupted", error=error))
    assert "There was no validation yet." in page
    assert "<b>2.5000</b><span>last loss</span>" in page
    assert "<b>1 of 60</b><span>steps</span>" in page
    assert "1 of 60 steps, interrupted</p>" in page
    assert "Previews" not in page


def test_report_of_a_failed_run_says_why_under_its_title(tmp_path):
    page = page_of(make_run(tmp_path / "run", status="failed", error="disk <full>"))
    assert "60 steps, failed: disk &lt;full&gt;</p>" in page
    assert page.count("disk &lt;full&gt;") == 1


def test_report_shows_the_first_and_the_last_preview_and_leaves_out_a_damaged_one(tmp_path):
    run = make_run(tmp_path / "run")
    assert re.findall("<figcaption>(.*?)</figcaption>", page_of(run)) == ["step 20", "step 60"]
    (run / "previews" / "step-000060.png").rename(run / "previews" / "step-1000000.png")
    assert re.findall("<figcaption>(.*?)</figcaption>", page_of(run)) == ["step 20", "step 1000000"]
    (run / "previews" / "step-000020.png").write_bytes(b"\x89PNG\r\n")
    assert re.findall("<figcaption>(.*?)</figcaption>", page_of(run)) == ["step 1000000"]


def test_report_shows_the_settings_but_not_the_expected_score(tmp_path):
    page = page_of(make_run(tmp_path / "run", settings=["solver.learning_rate=0.0125", "solver.freeze=[]"]))
    assert "<td>learning_rate</td><td>0.0125</td>" in page
    assert "<td>freeze</td><td>none</td>" in page
    assert "<td>time</td><td>none</td>" in page
    assert "seeds 0, 1 and 2 gave" not in page


def test_report_shows_the_expected_score_where_the_run_recorded_one(tmp_path):
    run = make_run(tmp_path / "run", expect={"miou": 0.685, "tolerance": 0.03, "source": "three seeds"})
    assert "expected mIoU 68.50, give or take 3.00 (three seeds)" in page_of(run)


def test_training_time_is_that_of_the_logged_speed(tmp_path):
    lines = [
        train_line(1, images_per_second=2.0), train_line(20, images_per_second=19.0),
        train_line(60, images_per_second=40.0),
    ]  # fmt: skip
    run = make_run(tmp_path / "run", lines, settings=["solver.batch_size=4", "solver.accumulate=2"])
    assert RunResults.read(run).seconds == pytest.approx(8 / 2 + 19 * 8 / 19 + 40 * 8 / 40)
    write_lines(run, [train_line(1, images_per_second=0.0)])
    assert RunResults.read(run).seconds == 0


def test_time_in_all_is_that_of_every_process_that_continued_the_run(tmp_path):
    page = page_of(make_run(tmp_path / "run", seconds=65.0, earlier=[{"status": "interrupted", "seconds": 60.0}]))
    assert "<b>2:05</b><span>time in all</span>" in page
    assert "<td>time of the steps</td><td>0:12, without validations</td>" in page
    killed = RunResults.read(make_run(tmp_path / "killed", seconds=65.0, earlier=[{"seconds": None}]))
    assert killed.seconds_in_all is None


def test_recipe_is_named_as_it_was_recorded(tmp_path):
    assert RunResults.read(make_run(tmp_path / "run", recipe="mine.toml")).recipe_name == "mine.toml"


def test_training_whose_last_step_is_not_validated_yet_is_running(tmp_path):
    run = make_run(tmp_path / "run", LINES[:-1], status="running")
    assert RunResults.read(run).status == "running"
    assert ", running or killed</" in render_training_report(RunResults.read(run))


def test_folders_that_are_not_runs_are_refused(tmp_path):
    with pytest.raises(RunError, match=r"gone: expected a run directory .* got nothing of that name"):
        RunResults.read(tmp_path / "gone")
    with pytest.raises(RunError, match="got a folder without it"):
        RunResults.read(tmp_path)
    run = make_run(tmp_path / "run", [])
    with pytest.raises(RunError, match=r"expected at least one training step in metrics\.jsonl, got none"):
        RunResults.read(run)
    (run / "recipe.toml").write_text("[data\n")
    with pytest.raises(RunError, match=r"cannot read .*recipe\.toml"):
        RunResults.read(run)


def test_run_without_its_facts_still_gives_a_report(tmp_path):
    run = make_run(tmp_path / "run")
    for text in ("", "{", "[]", '{"versions": 3, "argv": "x", "earlier": 5, "expect": [], "recipe": 7}'):
        (run / "run.json").write_text(text)
        assert "<b>50.00</b>" in page_of(run)
        assert RunResults.read(run).recipe_name is None


def test_report_is_written_whole_or_not_at_all(tmp_path, no_curves):
    run = make_run(tmp_path / "run")
    write_report(run)
    assert (run / "report.html").read_text("utf-8") == page_of(run)
    (run / "report.html").unlink()
    (run / "report.html").mkdir()
    with pytest.raises(OutputError, match=r"report\.html"):
        write_report(run)
    assert not list(run.glob(".report*"))
