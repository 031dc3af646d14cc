"""Archives from a web server in this process: mirrors, resuming, checksums."""

import hashlib
import http.server
import threading

import pytest

from deeplabctl.data.voc_archives import SBD, VOC, Archive, download
from deeplabctl.errors import DataError
from deeplabctl.reporting import Note, silent

CONTENT = bytes(range(256)) * 20_000  # 5 MB
MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.fixture
def server():
    """Serve /whole (with ranges), /deaf (without), /cut, /cut-deaf (end early), /page (a web page), /other (zeros)."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            begin = int(self.headers.get("Range", "bytes=0-")[6:-1])
            asked.append((self.path, begin))
            if self.path not in ("/whole", "/cut", "/page", "/deaf", "/cut-deaf", "/other"):
                self.send_error(404)
                return
            if begin >= len(CONTENT) and self.path == "/whole":
                self.send_error(416)
                return
            if self.path in ("/deaf", "/cut-deaf", "/page"):
                begin = 0
            content = b"<html>moved</html>" if self.path == "/page" else CONTENT[begin:]
            if self.path == "/other":
                content = bytes(len(content))
            self.send_response(206 if begin else 200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(
                content[: len(content) // (8 if self.path == "/cut-deaf" else 2)] if "cut" in self.path else content
            )

        def log_message(self, *_):
            pass

    serving = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=serving.serve_forever)
    thread.start()
    serving.asked = asked
    serving.base = f"http://127.0.0.1:{serving.server_port}"
    yield serving
    serving.shutdown()
    thread.join()
    serving.server_close()


def archive(server, *paths, md5=MD5):
    return Archive("a.tar", tuple(server.base + path for path in paths), md5, len(CONTENT))


def test_first_address_that_answers_is_used(server, tmp_path):
    notes = []
    download(archive(server, "/gone", "/whole"), tmp_path / "x" / "a.tar", notes.append)
    assert (tmp_path / "x" / "a.tar").read_bytes() == CONTENT
    assert [event.text.rsplit("/", 1)[1] for event in notes if isinstance(event, Note)] == ["gone", "whole"]
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["a.tar"]


def test_interrupted_download_is_resumed(server, tmp_path):
    with pytest.raises(DataError, match=r"cannot download a\.tar .*connection ended.*run it again to resume"):
        download(archive(server, "/cut"), tmp_path / "a.tar", silent)
    assert (tmp_path / "a.tar.part").read_bytes() == CONTENT[: len(CONTENT) // 2]
    assert not (tmp_path / "a.tar").exists()
    download(archive(server, "/whole"), tmp_path / "a.tar", silent)
    assert server.asked[-1] == ("/whole", len(CONTENT) // 2)
    assert (tmp_path / "a.tar").read_bytes() == CONTENT


def test_server_without_ranges_sends_the_whole_again(server, tmp_path):
    (tmp_path / "a.tar.part").write_bytes(b"x" * 100)
    download(archive(server, "/deaf"), tmp_path / "a.tar", silent)
    assert (tmp_path / "a.tar").read_bytes() == CONTENT


def test_complete_part_is_checked_and_used(server, tmp_path):
    (tmp_path / "a.tar.part").write_bytes(CONTENT)
    download(archive(server, "/whole"), tmp_path / "a.tar", silent)
    assert (tmp_path / "a.tar").read_bytes() == CONTENT


def test_other_content_is_refused_and_the_next_address_is_tried(server, tmp_path):
    download(archive(server, "/page", "/whole"), tmp_path / "a.tar", silent)
    assert (tmp_path / "a.tar").read_bytes() == CONTENT
    with pytest.raises(DataError, match=rf"a different file, with md5 {MD5}\); .*\(md5 {'0' * 32}\)"):
        download(archive(server, "/whole", md5="0" * 32), tmp_path / "b.tar", silent)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar"]


def test_existing_file_is_kept_and_nothing_is_requested(server, tmp_path):
    (tmp_path / "a.tar").write_bytes(b"mine")
    download(archive(server, "/whole"), tmp_path / "a.tar", silent)
    assert (tmp_path / "a.tar").read_bytes() == b"mine"
    assert server.asked == []


def test_without_a_network_one_line_says_what_to_do(tmp_path):
    nowhere = Archive("a.tar", ("http://127.0.0.1:9/a.tar",), MD5, 1)
    with pytest.raises(DataError, match=rf"cannot download a\.tar \(127.*\(md5 {MD5}\) by other means") as caught:
        download(nowhere, tmp_path / "a.tar", silent)
    assert "\n" not in str(caught.value)


def test_official_addresses_come_first():
    assert VOC.addresses[0] == "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar"
    assert SBD.addresses[0].endswith(
        "eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz"
    )
    assert all(address.endswith(archive.name) for archive in (VOC, SBD) for address in archive.addresses)


@pytest.mark.parametrize("address", ["/page", "/cut-deaf", "/other", "/gone"])
def test_what_was_downloaded_is_not_lost_to_another_address(server, tmp_path, address):
    part = tmp_path / "a.tar.part"
    begun = CONTENT[: len(CONTENT) // 2]
    part.write_bytes(begun)
    if address != "/other":  # which sends a whole archive, though a wrong one
        with pytest.raises(DataError, match=r"cannot download a\.tar"):
            download(archive(server, address), tmp_path / "a.tar", silent)
        assert part.read_bytes() == begun
    download(archive(server, address, "/whole"), tmp_path / "a.tar", silent)
    assert (tmp_path / "a.tar").read_bytes() == CONTENT
    assert server.asked[-1] == ("/whole", len(begun))


def test_part_that_no_address_can_complete_is_begun_anew(server, tmp_path):
    (tmp_path / "a.tar.part").write_bytes(b"x" * 100)
    with pytest.raises(DataError, match="a different file, with md5"):
        download(archive(server, "/whole"), tmp_path / "a.tar", silent)
    download(archive(server, "/whole"), tmp_path / "a.tar", silent)
    assert (tmp_path / "a.tar").read_bytes() == CONTENT
