"""Files from a web server in this process: mirrors, resuming, checks, two processes at once."""

import errno
import hashlib
import io
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from web_host import web_host

from deeplabctl import downloads
from deeplabctl.data.voc_archives import SBD, VOC
from deeplabctl.downloads import WebFile, download
from deeplabctl.errors import DownloadError, OutputError, WeightsError
from deeplabctl.reporting import Note, silent

CONTENT = bytes(range(256)) * 20_000  # 5 MB
SIZE, HALF = len(CONTENT), len(CONTENT) // 2
MD5 = hashlib.md5(CONTENT).hexdigest()
NOWHERE = "http://127.0.0.1:9/a.tar"


@pytest.fixture
def host(monkeypatch):
    monkeypatch.setattr(downloads, "ATTEMPTS", 1)
    monkeypatch.setattr(downloads, "PAUSE", 0.0)
    with web_host(**{"a.tar": CONTENT}) as serving:
        yield serving


def archive(host, *ways, md5=MD5, size=SIZE):
    return WebFile("a.tar", tuple(f"{host.base}/{way}/a.tar" for way in ways), md5, size)


def test_first_address_that_answers_is_used(host, tmp_path):
    notes = []
    download(archive(host, "gone", "503", "whole"), tmp_path / "x" / "a.tar", notes.append)
    assert (tmp_path / "x" / "a.tar").read_bytes() == CONTENT
    assert [event.text.split("/")[3] for event in notes if isinstance(event, Note)] == ["gone", "503", "whole"]
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["a.tar"]


@pytest.mark.parametrize("checksum", [MD5, hashlib.sha256(CONTENT).hexdigest(), hashlib.sha384(CONTENT).hexdigest()])
def test_checksum_of_each_kind_is_compared(host, tmp_path, checksum):
    download(archive(host, "whole", md5=checksum), tmp_path / "a.tar", silent)
    wrong = checksum[:-1] + ("0" if checksum[-1] != "0" else "1")
    with pytest.raises(DownloadError, match=rf"a different file, with (md5|sha256|sha384) {checksum}\).*{wrong}"):
        download(archive(host, "whole", md5=wrong), tmp_path / "b.tar", silent)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]


def test_interrupted_download_is_resumed(host, tmp_path):
    with pytest.raises(DownloadError, match=r"cannot download a\.tar .*connection ended.*run it again to resume"):
        download(archive(host, "cut"), tmp_path / "a.tar", silent)
    assert (tmp_path / "a.tar.part").read_bytes() == CONTENT[:HALF]
    assert not (tmp_path / "a.tar").exists()
    download(archive(host, "whole"), tmp_path / "a.tar", silent)
    assert host.asked[-1] == ("whole", HALF)
    assert (tmp_path / "a.tar").read_bytes() == CONTENT


def test_cut_connection_is_tried_again_while_it_gets_further(host, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "ATTEMPTS", 3)
    with pytest.raises(DownloadError):
        download(archive(host, "cut"), tmp_path / "a.tar", silent)
    assert host.asked == [("cut", 0), ("cut", HALF), ("cut", HALF + HALF // 2)]
    host.asked.clear()
    with pytest.raises(DownloadError, match=f"connection ended after 0 of {SIZE:,} bytes"):
        download(archive(host, "mute"), tmp_path / "b.tar", silent)
    assert host.asked == [("mute", 0)]
    host.asked.clear()
    with pytest.raises(DownloadError, match="Connection refused"):
        download(WebFile("b.tar", (NOWHERE,), MD5), tmp_path / "b.tar", silent)
    with pytest.raises(DownloadError, match="404 Not Found"):
        download(archive(host, "gone"), tmp_path / "b.tar", silent)
    assert host.asked == [("gone", 0)]


def test_server_without_ranges_sends_the_whole_again(host, tmp_path):
    (tmp_path / "a.tar.part").write_bytes(b"x" * 100)
    download(archive(host, "deaf"), tmp_path / "a.tar", silent)
    assert (tmp_path / "a.tar").read_bytes() == CONTENT


def test_part_that_is_longer_than_the_file_is_cut(host, tmp_path):
    (tmp_path / "a.tar.part").write_bytes(CONTENT + b"x" * 100)
    download(archive(host, "deaf"), tmp_path / "a.tar", silent)
    assert (tmp_path / "a.tar").read_bytes() == CONTENT


def test_complete_part_is_checked_and_used(host, tmp_path):
    (tmp_path / "a.tar.part").write_bytes(CONTENT)
    download(archive(host, "whole"), tmp_path / "a.tar", silent)
    assert (tmp_path / "a.tar").read_bytes() == CONTENT


def test_other_content_is_refused_and_the_next_address_is_tried(host, tmp_path):
    download(archive(host, "page", "whole"), tmp_path / "a.tar", silent)
    assert (tmp_path / "a.tar").read_bytes() == CONTENT
    with pytest.raises(DownloadError, match=rf"a different file, with md5 {MD5}\); .*\(md5 {'0' * 32}\)"):
        download(archive(host, "whole", md5="0" * 32), tmp_path / "b.tar", silent)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar"]


def test_check_of_the_content_is_asked(host, tmp_path):
    def refuse(path):
        assert path.read_bytes() == CONTENT
        raise WeightsError("these are no weights")

    with pytest.raises(DownloadError, match=r"127\.0\.0\.1: these are no weights"):
        download(archive(host, "whole"), tmp_path / "a.tar", silent, check=refuse)
    assert list(tmp_path.iterdir()) == []


def test_existing_file_is_kept_and_nothing_is_requested(host, tmp_path):
    (tmp_path / "a.tar").write_bytes(b"mine")
    download(archive(host, "whole"), tmp_path / "a.tar", silent)
    assert (tmp_path / "a.tar").read_bytes() == b"mine"
    assert host.asked == []


def test_without_a_network_one_line_says_what_to_do(tmp_path):
    nowhere = WebFile("a.tar", (NOWHERE,), MD5, 1)
    with pytest.raises(DownloadError, match=rf"cannot download a\.tar \(127.*\(md5 {MD5}\) by other means") as caught:
        download(nowhere, tmp_path / "a.tar", silent)
    assert str(caught.value).endswith(f"to {tmp_path / 'a.tar'}")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_official_addresses_come_first():
    assert VOC.addresses[0] == "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar"
    assert SBD.addresses[0].endswith(
        "eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz"
    )
    assert all(address.endswith(archive.name) for archive in (VOC, SBD) for address in archive.addresses)


@pytest.mark.parametrize("way", ["page", "cut-deaf", "other", "gone"])
def test_what_was_downloaded_is_not_lost_to_another_address(host, tmp_path, way):
    part = tmp_path / "a.tar.part"
    begun = CONTENT[:HALF]
    part.write_bytes(begun)
    if way != "other":  # which sends a whole archive, though a wrong one
        with pytest.raises(DownloadError, match=r"cannot download a\.tar"):
            download(archive(host, way), tmp_path / "a.tar", silent)
        assert part.read_bytes() == begun
    download(archive(host, way, "whole"), tmp_path / "a.tar", silent)
    assert (tmp_path / "a.tar").read_bytes() == CONTENT
    assert host.asked[-1] == ("whole", len(begun))


def test_other_bytes_than_those_that_are_missing_are_refused(host, tmp_path):
    (tmp_path / "a.tar.part").write_bytes(CONTENT[:HALF])
    with pytest.raises(DownloadError, match="other bytes than those requested"):
        download(archive(host, "shifted"), tmp_path / "a.tar", silent)
    assert (tmp_path / "a.tar.part").read_bytes() == CONTENT[:HALF]


def test_part_that_no_address_can_complete_is_begun_anew(host, tmp_path):
    (tmp_path / "a.tar.part").write_bytes(b"x" * 100)
    with pytest.raises(DownloadError, match="a different file, with md5"):
        download(archive(host, "whole"), tmp_path / "a.tar", silent)
    download(archive(host, "whole"), tmp_path / "a.tar", silent)
    assert (tmp_path / "a.tar").read_bytes() == CONTENT


def test_file_without_checksum_is_resumed_only_while_the_address_has_it_unchanged(host, tmp_path):
    file = archive(host, "cut", md5=None, size=None)
    host.etag = '"1"'
    for begins in ([0], [HALF]):
        with pytest.raises(DownloadError, match="connection ended"):
            download(file, tmp_path / "a.tar", silent)
        assert [begin for _, begin in host.asked] == begins
        host.asked.clear()
    host.files["a.tar"], host.etag = b"new" * 1000, '"2"'
    with pytest.raises(DownloadError, match=r"connection ended after 1,500 of 3,000"):
        download(file, tmp_path / "a.tar", silent)
    assert (tmp_path / "a.tar.part").read_bytes() == b"new" * 500
    download(archive(host, "whole", md5=None, size=None), tmp_path / "a.tar", silent)  # another address: from 0
    assert host.asked[-1] == ("whole", 0)
    assert (tmp_path / "a.tar").read_bytes() == b"new" * 1000
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]


@pytest.mark.parametrize("etag", ["", 'W/"1"'])
def test_file_that_cannot_be_told_from_another_is_not_resumed(host, tmp_path, etag):
    host.etag = etag
    for _ in range(2):
        with pytest.raises(DownloadError, match="connection ended"):
            download(archive(host, "cut", md5=None, size=None), tmp_path / "a.tar", silent)
    assert host.asked == [("cut", 0), ("cut", 0)]


def test_redirections_are_followed_to_the_web_only(host, tmp_path):
    download(archive(host, "moved"), tmp_path / "a.tar", silent)
    for way, reason in (("away", "302 Found"), ("404", "404 Not Found")):
        with pytest.raises(DownloadError, match=rf"\(127.0.0.1: {reason}\)"):
            download(archive(host, way, md5=None), tmp_path / "b.tar", silent)
    for address in ("file:///etc/hostname", "ftp://127.0.0.1/a", "a.tar"):
        with pytest.raises(DownloadError, match=r"cannot download a\.tar"):
            download(WebFile("a.tar", (address,)), tmp_path / "b.tar", silent)


def test_file_of_another_size_is_refused_before_it_fills_the_disk(host, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "LARGEST", 8 << 20)
    for size, way, message in (
        (len(CONTENT), "large", f"of {1 << 40:,} bytes, expected {len(CONTENT):,}"),
        (None, "large", f"of {1 << 40:,} bytes, expected at most {8 << 20:,}"),
        (len(CONTENT), "endless", f"of more than {len(CONTENT):,} bytes"),
        (None, "endless", f"of more than {8 << 20:,} bytes"),
    ):
        with pytest.raises(DownloadError, match=message):
            download(archive(host, way, md5=None, size=size), tmp_path / "a.tar", silent)
        assert list(tmp_path.iterdir()) == []
    download(archive(host, "chunked", md5=None, size=None), tmp_path / "a.tar", silent)
    assert (tmp_path / "a.tar").read_bytes() == CONTENT


def test_folder_that_cannot_be_written_is_named(host, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(OutputError, match=rf"cannot write {tmp_path}/cache/x/a.tar.part: Not a directory"):
        download(archive(host, "whole"), tmp_path / "cache" / "x" / "a.tar", silent)


def test_full_disk_leaves_what_was_downloaded(host, tmp_path, monkeypatch):
    class Full(io.FileIO):
        def write(self, block):
            if self.tell() + len(block) > 2 << 20:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(block)

    monkeypatch.setattr(Path, "open", lambda path, mode: Full(path, "r+"))
    with pytest.raises(OutputError, match=r"a\.tar\.part: No space left on device; run it again to resume"):
        download(archive(host, "whole"), tmp_path / "a.tar", silent)
    monkeypatch.undo()
    assert (tmp_path / "a.tar.part").read_bytes() == CONTENT[: 2 << 20]
    download(archive(host, "whole"), tmp_path / "a.tar", silent)
    assert host.asked[-1] == ("whole", 2 << 20)
    assert (tmp_path / "a.tar").read_bytes() == CONTENT


def test_second_process_waits_for_the_file_of_the_first(host, tmp_path):
    script = (
        "import sys; from pathlib import Path; from deeplabctl.downloads import WebFile, download\n"
        "address, md5, target = sys.argv[1:]\n"
        "download(WebFile('a.tar', (address,), md5), Path(target), lambda event: print(event, flush=True))"
    )
    command = [sys.executable, "-c", script, f"{host.base}/slow/a.tar", MD5, str(tmp_path / "a.tar")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        while "Started" not in first.stdout.readline():  # it has the lock, and half of the file
            pass
        threading.Timer(0.5, host.go_on.set).start()
        notes = []
        download(archive(host, "whole"), tmp_path / "a.tar", notes.append)
        assert first.wait(30) == 0
    assert [note.text.split(" ")[0] for note in notes] == ["waiting", str(tmp_path / "a.tar")]
    assert host.asked == [("slow", 0)]
    assert (tmp_path / "a.tar").read_bytes() == CONTENT
