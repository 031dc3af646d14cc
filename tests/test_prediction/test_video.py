"""Videos: the frames, times and rotation of what comes out, and nothing half-written."""

import re
import sys
from contextlib import nullcontext
from fractions import Fraction
from importlib.util import find_spec

import numpy as np
import pytest
from brightness_net import CLASSES, BrightnessNet, expected_label
from video_clips import read_clip, set_matrix, write_clip

from deeplabctl.errors import DataError, OutputError
from deeplabctl.prediction import video as module
from deeplabctl.prediction.outputs.plan import OutputRequest, plan_outputs
from deeplabctl.prediction.video import check_videos, segment_video, segment_videos, written_before
from deeplabctl.prediction.video_files import VideoReader
from deeplabctl.render import overlay
from deeplabctl.reporting import Advanced, Started

pytestmark = pytest.mark.skipif(find_spec("av") is None, reason="PyAV is not installed")


def plan(out, *paths, **options):
    return plan_outputs(paths, OutputRequest(out, **options))


def segment(path, out, net=None):
    (job,) = plan(out, path).videos
    events = []
    return segment_video(net or BrightnessNet(), job, events.append), job, events


def test_ten_seconds_keep_their_frames_and_times(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", range(0, 900_000, 3600))  # 25 frames a second
    result, job, events = segment(clip, tmp_path / "out")
    times, frames = read_clip(clip)
    assert len(times) == 250
    assert times[-1] == Fraction(249, 25)
    assert (result.frames, result.seconds) == (250, 10.0)
    assert job.files == {"overlay": tmp_path / "out" / "clip_overlay.mp4", "mask": tmp_path / "out" / "clip_masks.mkv"}
    assert events[0] == Started("segmenting clip.mp4", 250, "frames")
    assert events.count(Advanced(1)) == 250

    shown_times, shown = read_clip(job.files["overlay"])
    assert shown_times == times
    mask_times, masks = read_clip(job.files["mask"])
    assert len(masks) == 250
    assert max(abs(one - other) for one, other in zip(mask_times, times, strict=True)) <= Fraction(1, 2000)
    total = np.zeros(4, np.int64)
    for frame, mask, picture in zip(frames, masks, shown, strict=True):
        label = expected_label(frame)
        np.testing.assert_array_equal(mask, label)
        total += np.bincount(label.ravel(), minlength=4)
        inside = np.s_[20:44:6, 4:60:6]  # away from the corner, whose colours H.264 lets run
        expected = overlay(frame, label, CLASSES)[inside].astype(int)
        assert np.abs(picture[inside].astype(int) - expected).max() <= 12
    assert result.pixels == {index: count for index, count in enumerate(total.tolist()) if count}


def test_frames_that_wait_do_not_grow_with_the_cores(tmp_path, monkeypatch):
    clip = write_clip(tmp_path / "clip.mp4", range(0, 60 * 3600, 3600))
    counts = {"read": 0, "written": 0, "most": 0}
    upright = module.VideoReader.upright

    def read(item):
        counts["read"] += 1
        counts["most"] = max(counts["most"], counts["read"] - counts["written"])
        return upright(item)

    def advance():
        counts["written"] += 1

    monkeypatch.setattr(module.VideoReader, "upright", staticmethod(read))
    monkeypatch.setattr(module, "task", lambda *arguments: nullcontext(advance))
    monkeypatch.setattr("deeplabctl.parallel.available_cpus", lambda: 16)
    monkeypatch.setattr(module, "ROOM", 1)  # for one frame, whatever it takes
    assert segment(clip, tmp_path / "out")[0].frames == 60
    assert counts["most"] <= 4


def test_uneven_times_are_kept(tmp_path):
    steps = np.random.default_rng(2).integers(500, 20_000, 60)
    clip = write_clip(tmp_path / "clip.mp4", np.cumsum(steps).tolist())
    result, job, _ = segment(clip, tmp_path / "out")
    assert written_before(job, CLASSES).seconds == pytest.approx(result.seconds, abs=0.002)
    assert read_clip(job.files["overlay"])[0] == read_clip(clip)[0]
    assert len(set(np.diff(np.array(read_clip(job.files["overlay"])[0], float)).round(6))) > 30


@pytest.mark.parametrize(
    ("name", "base", "codec"),
    [
        ("a.mov", Fraction(1001, 30000), "libx264"), ("a.mkv", Fraction(1, 1000), "libx264"),
        ("a.avi", Fraction(1, 25), "mpeg4"), ("a.webm", Fraction(1, 1000), "libvpx"),
    ],
)  # fmt: skip
def test_containers_and_time_bases_are_kept(tmp_path, name, base, codec):
    step = 1 if base > Fraction(1, 100) else 40
    clip = write_clip(tmp_path / name, range(0, 30 * step, step), base=base, codec=codec)
    _, job, _ = segment(clip, tmp_path / "out")
    times = read_clip(clip)[0]
    assert len(times) == 30
    assert read_clip(job.files["overlay"])[0] == times
    assert len(read_clip(job.files["mask"])[0]) == 30


def test_frames_are_turned_upright_as_the_file_says(tmp_path):
    clip = set_matrix(write_clip(tmp_path / "clip.mp4", range(0, 36_000, 3600)), (0, 1, -1, 0))
    result, job, _ = segment(clip, tmp_path / "out")
    assert result.size == (64, 48)
    for mask in read_clip(job.files["mask"])[1]:
        assert mask.shape == (64, 48)
        assert (mask[:18, 34:] == 3).all()  # the white corner, on the right now
        assert (mask[24:] < 3).all()
    assert read_clip(job.files["overlay"])[1][0].shape == (64, 48, 3)


def test_odd_sides_grow_by_a_pixel_in_the_overlay_only(tmp_path):
    clip = write_clip(tmp_path / "clip.mkv", range(0, 400, 40), size=(33, 47), base=Fraction(1, 1000), codec="ffv1")
    _, job, _ = segment(clip, tmp_path / "out")
    assert read_clip(job.files["mask"])[1][0].shape == (33, 47)
    assert read_clip(job.files["overlay"])[1][0].shape == (34, 48, 3)


class Failing(BrightnessNet):
    """Stop in the middle of a video."""

    def __init__(self, error):
        super().__init__()
        self._error = error

    def segment(self, results, **options):
        for outcome in super().segment(results, **options):
            if self.taken == 20:
                raise self._error
            yield outcome


def test_error_of_a_frame_names_the_video_and_the_time(tmp_path):
    class Full(BrightnessNet):
        def segment(self, results, **options):
            for result in super().segment(results, **options):
                result.error = DataError("no memory") if self.taken == 3 else None
                yield result

    job = plan(tmp_path / "out", write_clip(tmp_path / "clip.mp4", range(0, 10 * 3600, 3600))).videos
    (failed,) = segment_videos(Full(), job, lambda event: None)
    assert re.fullmatch(r".*clip\.mp4: frame at 0\.\d+ s: no memory", failed.error)
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(143), DataError("no memory")])
def test_interrupted_video_leaves_nothing(tmp_path, error):
    clip = write_clip(tmp_path / "clip.mp4", range(0, 180_000, 3600))
    with pytest.raises(type(error)):
        segment(clip, tmp_path / "out", Failing(error))
    assert list((tmp_path / "out").iterdir()) == []


def test_damaged_videos_are_reported_and_the_others_done(tmp_path):
    import av

    good = write_clip(tmp_path / "good.mp4", range(0, 36_000, 3600))
    content = good.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: len(content) // 2])
    with av.open(str(tmp_path / "empty.avi"), "w") as empty:
        empty.add_stream("mpeg4", rate=25, width=32, height=32, pix_fmt="yuv420p")
        empty.start_encoding()
    jobs = plan(tmp_path / "out", tmp_path / "cut.mp4", tmp_path / "empty.avi", good).videos
    bad, none, result = segment_videos(BrightnessNet(), jobs, lambda event: None)
    assert "cut.mp4: expected a complete video, got one that is damaged or truncated (" in bad.error
    assert "Errno" not in bad.error
    assert "empty.avi: expected a complete video, got one that is damaged or truncated (no frame" in none.error
    assert result.frames == 10
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["good_masks.mkv", "good_overlay.mp4"]


def test_finished_videos_are_skipped(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", range(0, 36_000, 3600))
    segment(clip, tmp_path / "out")
    again = plan(tmp_path / "out", clip, skip_existing=True)
    assert again.videos_todo == []
    with pytest.raises(OutputError, match="exists; use `overwrite`"):
        plan(tmp_path / "out", clip)


def test_formats_of_pictures_are_refused_for_videos(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", range(0, 36_000, 3600))
    with pytest.raises(OutputError, match="is a video: expected the format mask or json or csv, got coco"):
        plan(tmp_path / "out", clip, formats=("mask", "coco"))
    with pytest.raises(OutputError, match="is a video: expected the format mask or json or csv, got contact sheet"):
        plan(tmp_path / "out", clip, formats=("mask", "thumbnail"))
    assert plan(tmp_path / "out", clip, formats=("mask", "overlay")).videos


def test_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    check_videos([])
    with pytest.raises(DataError, match=r"clip\.mp4 is a video, .* pip install 'deeplabctl\[video\]'"):
        check_videos([tmp_path / "clip.mp4"])


# a, b, c, d of the display matrix, and how numpy shows the stored frame so; (p, q) goes to (a p + c q, b p + d q).
SHOWN = {
    "turned clockwise": ((0, 1, -1, 0), lambda frame: np.rot90(frame, -1)),
    "turned counterclockwise": ((0, -1, 1, 0), np.rot90),
    "upside down": ((-1, 0, 0, -1), lambda frame: frame[::-1, ::-1]),
    "mirrored": ((-1, 0, 0, 1), lambda frame: frame[:, ::-1]),
    "flipped": ((1, 0, 0, -1), lambda frame: frame[::-1]),
    "mirrored at the diagonal": ((0, 1, 1, 0), lambda frame: frame.swapaxes(0, 1)),
    "mirrored at the other diagonal": ((0, -1, -1, 0), lambda frame: frame.swapaxes(0, 1)[::-1, ::-1]),
    "no matrix": ((0, 0, 0, 0), lambda frame: frame),
}


@pytest.mark.parametrize(("matrix", "shown"), SHOWN.values(), ids=SHOWN)
def test_frames_are_turned_and_mirrored_as_players_show_them(tmp_path, matrix, shown):
    clip = write_clip(tmp_path / "clip.mp4", range(0, 10_800, 3600))
    stored = read_clip(clip)[1]
    with VideoReader.open(set_matrix(clip, matrix)) as video:
        for frame, before in zip(video.frames(), stored, strict=True):
            np.testing.assert_array_equal(VideoReader.upright(frame)[1], shown(before))


@pytest.mark.parametrize(("matrix", "aspect"), [((1, 0, 0, 1), Fraction(4, 3)), ((0, 1, -1, 0), Fraction(3, 4))])
def test_oblong_pixels_are_turned_with_the_frame(tmp_path, matrix, aspect):
    clip = set_matrix(write_clip(tmp_path / "clip.mp4", range(0, 10_800, 3600), aspect=Fraction(4, 3)), matrix)
    _, job, _ = segment(clip, tmp_path / "out")
    import av

    with av.open(str(job.files["overlay"])) as container:
        assert container.streams.video[0].sample_aspect_ratio == aspect


def test_video_that_is_cut_off_says_so(tmp_path):
    whole = write_clip(tmp_path / "whole.mkv", range(0, 4000, 40), base=Fraction(1, 1000))
    content = whole.read_bytes()
    (tmp_path / "cut.mkv").write_bytes(content[: len(content) * 3 // 4])
    result, job, _ = segment(whole, tmp_path / "out")
    assert (result.frames, result.note) == (100, "")
    result, job, _ = segment(tmp_path / "cut.mkv", tmp_path / "out")
    assert 0 < result.frames < 100
    assert re.search(r"cut\.mkv: cut off: frames end after \d\.\d of 4\.0 s", result.note)
    assert len(read_clip(job.files["mask"])[1]) == result.frames


@pytest.mark.parametrize(("name", "base"), [("late.mkv", Fraction(1, 1000)), ("late.mp4", Fraction(1, 90000))])
def test_video_that_begins_late_is_whole_and_lasts_as_long_as_its_frames(tmp_path, name, base):
    step = Fraction(1, 25) / base
    clip = write_clip(tmp_path / name, range(int(250 * step), int(275 * step), int(step)), base=base)
    result, job, _ = segment(clip, tmp_path / "out")
    assert (result.frames, result.seconds, result.note) == (25, 1.0, "")
    assert read_clip(job.files["mask"])[0][0] == 10
    before = written_before(job, CLASSES)
    assert (before.frames, before.seconds, before.error) == (25, 1.0, "")


def test_one_bad_frame_is_left_out(tmp_path):
    clip = write_clip(tmp_path / "clip.avi", range(30), base=Fraction(1, 25), codec="png")
    content = bytearray(clip.read_bytes())
    begins = [match.start() for match in re.finditer(b"\x89PNG", content)]
    content[begins[9] : begins[9] + 40] = bytes(40)
    clip.write_bytes(content)
    result, job, _ = segment(clip, tmp_path / "out")
    assert 28 <= result.frames <= 29  # the one behind it may be lost, too
    assert "damaged frames are left out, the first at 0.4 s" in result.note
    times = [round(25 * time) for time in read_clip(job.files["overlay"])[0]]
    assert times == [number for number in range(30) if number != 9 and not (number == 10 and result.frames == 28)]


def test_of_two_streams_one_is_taken_with_a_note(tmp_path):
    import av

    with av.open(str(tmp_path / "two.mkv"), "w") as container:
        for size in ((48, 64), (16, 32)):
            stream = container.add_stream("ffv1", rate=25)
            stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        for number in range(3):
            for stream in container.streams.video:
                frame = av.VideoFrame.from_ndarray(np.zeros((stream.height, stream.width, 3), np.uint8), format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, 25)
                container.mux(stream.encode(frame))
        for stream in container.streams.video:
            container.mux(stream.encode())
    result, _, _ = segment(tmp_path / "two.mkv", tmp_path / "out")
    assert result.size == (48, 64)
    assert "2 video streams: using that of 64x48 pixels" in result.note


def test_masks_that_are_cut_off_are_not_taken_for_those_of_before(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", range(0, 180_000, 3600))
    _, job, _ = segment(clip, tmp_path / "out")
    content = job.files["mask"].read_bytes()
    job.files["mask"].write_bytes(content[: len(content) // 2])
    assert "cut off: frames end after" in written_before(job, CLASSES).error
