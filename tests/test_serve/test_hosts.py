"""Names under which a service is asked: other sites cannot lead a browser here."""

import pytest
from served import rest_of

from deeplabctl.errors import RecipeError

OWN = ("localhost", "LocalHost.", "photos.localhost", "127.0.0.1", "127.9.9.9", "[::1]")
OTHERS = (
    "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "x@localhost", "local host", "[::1", "",
    "192.0.2.7", "[2001:db8::1]", "0.0.0.0", "localhost:80:80", "localhost/", "evil.example#localhost",
)  # fmt: skip


def refused(hosts, method="GET", **headers):
    """Return the code of the refusal, or None."""
    found = hosts.refusal(method, {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()})
    return found and found.code


@pytest.fixture
def hosts():
    from deeplabctl.serve.access import Hosts

    return Hosts


@pytest.mark.parametrize("port", ["", ":8000"])
def test_names_of_this_machine_are_asked_for_and_no_others(hosts, port):
    for name in OWN:
        assert refused(hosts(), host=name + port) is None, name
    for name in OTHERS:
        assert refused(hosts(), host=name + port) == "host_not_allowed", name
    assert refused(hosts()) is None  # HTTP/1.0 without a Host


def test_names_can_be_allowed_with_stars(hosts):
    allowed = hosts(["photos.example", "*.lab.example", "2001:db8::5", "fe80::1%eth0"])
    names = ("photos.example", "PHOTOS.example:1", "a.lab.example", "a.b.lab.example", "[2001:db8::5]:80")
    for name in (*names, "[fe80::1]:80", "[fe80::1%25eth0]:80"):
        assert refused(allowed, host=name) is None, name
    for name in ("x.photos.example", "lab.example", "evillab.example", "photos.example.evil.example", "[fe80::1%]"):
        assert refused(allowed, host=name) == "host_not_allowed", name
    assert refused(hosts(["*"]), host="any.example") is None
    for name in ("http://x", "a b", ""):
        with pytest.raises(RecipeError, match="expected the name of a host"):
            hosts([name])


def test_addresses_in_numbers_and_this_machines_name_are_asked_for_where_others_can_reach_the_service(
    hosts, monkeypatch
):
    monkeypatch.setattr("socket.gethostname", lambda: "LabPC")
    assert refused(hosts(), host="labpc:8000") == "host_not_allowed"
    public = hosts(any_address=True)
    assert refused(public, host="labpc:8000") is None
    for name in ("192.0.2.7:8000", "[2001:db8::1]:8000", "0.0.0.0:8000"):
        assert refused(public, host=name) is None, name
    assert refused(public, host="evil.example") == "host_not_allowed"
    own, other = "http://192.0.2.7:8000", "http://198.51.100.1"
    assert refused(public, "POST", host="192.0.2.7:8000", origin=own) is None
    assert refused(public, "POST", host="192.0.2.7:8000", origin=other) == "origin_not_allowed"


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, None),  # no browser
        ({"origin": "http://127.0.0.1:8000"}, None),
        ({"origin": "http://localhost:3000"}, None),  # another program of this machine
        ({"origin": "https://evil.example"}, "origin_not_allowed"),
        ({"origin": "http://evil.example:8000", "sec_fetch_site": "cross-site"}, "origin_not_allowed"),
        ({"origin": "null"}, "origin_not_allowed"),
        ({"origin": "null", "sec_fetch_site": "same-origin"}, None),
        ({"sec_fetch_site": "cross-site"}, "origin_not_allowed"),
        ({"sec_fetch_site": "none"}, None),
    ],
)
def test_pages_of_other_sites_may_not_post(hosts, headers, code):
    assert refused(hosts(), "POST", host="127.0.0.1:8000", **headers) == code
    assert refused(hosts(), "GET", host="127.0.0.1:8000", **headers) is None  # a link


def test_requests_are_refused_before_their_body_is_read_and_a_url_counts_as_a_host(served, photo):
    def answer(target, *lines):
        return served.exchange("\r\n".join([f"{target} HTTP/1.1", *lines, "connection: close", "", ""]).encode())

    assert b'"host_not_allowed"' in answer("GET /healthz", "host: evil.example")
    assert b'"host_not_allowed"' in answer("POST /api/segment", "host: evil.example", "content-length: 1000000")
    origin = answer("POST /api/segment", "host: localhost", "origin: http://evil.example", "content-length: 1000000")
    assert origin.startswith(b"HTTP/1.1 403 ")
    assert b'"origin_not_allowed"' in origin
    with served.connect() as connection:  # whose sender reads the answer after the whole body
        connection.sendall(b"POST /api/segment HTTP/1.1\r\nhost: evil.example\r\ncontent-length: 1000000\r\n\r\n")
        assert connection.recv(9999).startswith(b"HTTP/1.1 403 ")
        connection.sendall(bytes(1_000_000) + b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        assert b"HTTP/1.1 200 " in rest_of(connection)
    assert answer("GET http://127.0.0.1:1/healthz?x=1", "host: x.example").startswith(b"HTTP/1.1 200 ")
    assert answer("GET HTTP://localhost", "host: x.example").endswith(b"</html>\n")
    assert b'"host_not_allowed"' in answer("GET http://evil.example/healthz", "host: localhost")
    assert answer("HEAD /healthz", "host: localhost").endswith(b"\r\n\r\n")
