"""A running service, byte by byte: slow, half-sent and oversized requests, full queues, bombs."""

import itertools
import json
import select
import time
from contextlib import suppress
from pathlib import Path

import pytest
from bombs import HUGE, jpeg, png, zeros
from png_files import blank_png
from served import head, rest_of

CHUNKED = head(transfer_encoding="chunked")
END = b"0\r\n\r\n"


def chunk(content):
    return b"%x\r\n%s\r\n" % (len(content), content)


def refused(answer, status, code):
    """Check that an answer is a refusal; returns its headers in lower case."""
    headers, _, body = answer.partition(b"\r\n\r\n")
    assert headers.startswith(b"HTTP/1.1 %d " % status), answer
    whole = body.removesuffix(b"(reset)")  # where bytes were still on their way when the service had closed
    assert json.loads(whole)["error"]["code"] == code
    return headers.lower()


def wait_for(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def places_taken(served):
    lines = served.get("/metrics").decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("deeplabctl_places_taken "))


def test_body_that_stops_half_way_is_answered_in_time_and_closed(served, photo):
    for request in (head(content_length=len(photo)) + photo[:1000], CHUNKED + chunk(photo)):
        begin = time.monotonic()
        refused(served.exchange(request), 408, "upload_timed_out")
        assert 1.9 < time.monotonic() - begin < 20  # the limit is 2 s
    form = head(kind="multipart/form-data; boundary=b", transfer_encoding="chunked")
    part = b'--b\r\ncontent-disposition: form-data; name="image"; filename="a"\r\n\r\n'
    refused(served.exchange(form + chunk(part)), 408, "upload_timed_out")


def test_body_that_trickles_is_answered_in_time(served):
    with served.connect() as connection:
        connection.sendall(CHUNKED)
        for _ in range(40):
            connection.sendall(chunk(b"x"))
            if select.select([connection], [], [], 0.2)[0]:
                break
        else:
            pytest.fail("it may go on for ever")
        refused(rest_of(connection), 408, "upload_timed_out")


def test_head_that_stops_or_trickles_is_closed(served):
    assert served.exchange(b"POST /api/segment HTT") == b""
    assert served.exchange() == b""
    with served.connect() as connection:
        for byte in itertools.cycle(b"x"):
            try:
                connection.sendall(bytes([byte]))
            except OSError:
                break
            if select.select([connection], [], [], 0.2)[0]:
                break
        assert rest_of(connection) in (b"", b"(reset)")


def test_second_head_on_a_connection_has_as_little_time(served):
    with served.connect() as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
        answer = b""
        while not answer.endswith(b"}"):
            answer += connection.recv(1 << 16)
        connection.sendall(b"GET /healthz HTT")
        assert rest_of(connection) == b""


def test_sender_that_goes_away_leaves_no_place_taken(served, photo):
    with served.connect() as connection:
        connection.sendall(head(content_length=len(photo)) + photo[:1000])
        wait_for(lambda: places_taken(served) == 1)
    wait_for(lambda: places_taken(served) == 0)


def test_full_queue_is_answered_429_before_the_body_is_read(served, photo):
    closing = head(content_length=len(photo), connection="close")
    assert served.exchange(closing, photo).startswith(b"HTTP/1.1 200")  # which compiles what is not compiled yet
    stalled = [served.connect() for _ in range(3)]
    try:
        for connection in stalled:
            connection.sendall(CHUNKED)
        wait_for(lambda: places_taken(served) == 3)
        headers = refused(served.exchange(closing), 429, "queue_full")
        assert b"\r\nretry-after: 1" in headers
        for connection in stalled:  # those in the queue are not disturbed
            connection.sendall(chunk(photo) + END)
        for connection in stalled:
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")
    finally:
        for connection in stalled:
            connection.close()


def test_readers_that_do_not_read_lose_their_connections(served):
    picture = blank_png(440, 440)
    request = head("/api/segment?format=overlay", content_length=len(picture)) + picture
    slow = [served.connect_slow() for _ in range(9)]
    try:
        for connection in slow:
            connection.sendall(b"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n" * 400)
        wait_for(lambda: connections_of(served) >= 9)
        wait_for(lambda: connections_of(served) < 9)
        assert (
            served.exchange(request.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n", 1))[:12] == b"HTTP/1.1 200"
        )
    finally:
        for connection in slow:
            connection.close()


def connections_of(served):
    """Return how many connections a service holds."""
    count = 0
    for link in Path(f"/proc/{served.process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            count += "socket:" in str(link.readlink())
    return count


def test_chunks_of_a_byte_are_taken_but_not_without_end(served, photo):
    small = blank_png(40, 30)
    content = b"".join(chunk(bytes([byte])) for byte in small)
    closing = head(transfer_encoding="chunked", connection="close")
    assert served.exchange(closing, content, END).startswith(b"HTTP/1.1 200")
    begin = time.monotonic()
    answer = served.exchange(closing, chunk(b"x") * 50_000)
    assert answer == b"(reset)" or b"chunks of 128 bytes" in answer
    assert time.monotonic() - begin < 10
    pieces = b"".join(chunk(photo[at : at + 128]) for at in range(0, len(photo), 128))
    assert served.exchange(closing, pieces, END).startswith(b"HTTP/1.1 200")


def test_too_many_connections_are_answered_503(served):
    idle = [served.connect() for _ in range(12)]
    try:
        headers = refused(served.exchange(), 503, "too_many_connections")
        assert b"connection: close" in headers
    finally:
        for connection in idle:
            connection.close()
    wait_for(lambda: served.exchange(b"GET /healthz HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200"))


def test_larger_body_than_allowed_is_answered_413_while_it_arrives(served):
    most = bytes(8 << 20)
    refused(served.exchange(head(content_length=10 << 30), most), 413, "body_too_large")
    refused(served.exchange(CHUNKED, chunk(most), chunk(b"x")), 413, "body_too_large")
    refused(served.exchange(head(content_length=10 << 30, expect="100-continue")), 413, "body_too_large")
    answer = served.exchange(head(content_length=100, expect="100-continue"))
    assert answer.startswith(b"HTTP/1.1 100 ")


def test_what_is_no_http_is_answered_400(served):
    for request in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"GET / HTTP/1.1\r\n: x\r\n\r\n"):
        assert served.exchange(request).startswith(b"HTTP/1.1 400 ")
    huge = b"GET / HTTP/1.1\r\nhost: localhost\r\nx: " + b"x" * (1 << 20)
    assert served.exchange(huge).startswith((b"HTTP/1.1 400 ", b"(reset)"))
    assert served.exchange(CHUNKED, b"zz\r\n\r\n").startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 408 "))


@pytest.fixture(scope="module")
def packed_zeros():
    return zeros()


def test_bombs_are_refused_in_little_memory(served, packed_zeros):
    before = served.peak_memory()
    bombs = [
        png(60_000, 60_000),
        blank_png(20_000, 20_000),
        jpeg(65_500, 65_500),
        png(10, 10, (b"zTXt", b"a\0\0" + packed_zeros)),
        png(10, 10, (b"iCCP", b"a\0\0" + packed_zeros)),
        png(100, 100, data=packed_zeros),
        b"BM" + bytes(12) + b"\x28\0\0\0" + 2 * HUGE.to_bytes(4, "little") + b"\1\0\x18\0" + bytes(24),
    ]
    for bomb in bombs:
        for _ in range(3):
            answer = served.exchange(head(content_length=len(bomb), connection="close") + bomb)
            assert answer[:12] in (b"HTTP/1.1 415", b"HTTP/1.1 413", b"HTTP/1.1 422", b"HTTP/1.1 200"), answer
            assert (answer[:12] == b"HTTP/1.1 200") <= (bomb is bombs[5]), "only the head of it is read"
    assert served.peak_memory() - before < 100 << 20


def test_nothing_was_written_and_nothing_went_wrong(served):
    assert list(served.folder.iterdir()) == []
    assert "Traceback" not in served.errors()
    assert json.loads(served.get("/healthz"))["status"] == "ok"
