"""The client against a server that misbehaves, over real sockets on loopback."""

from __future__ import annotations

import datetime
import gzip
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import responses
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from providers import errors
from providers.address import AddressRefused
from providers.http import Client, Deadlines, HttpExchange, NotSent
from tests.upstream import Close, Hang, Reset, Send, Signal, Upstream, Wait, answer, chunked, events, head, trickle

SHORT = Deadlines(connect_s=2, first_byte_s=0.2, idle_s=0.2, total_s=5)
LONG = Deadlines(connect_s=5, idle_s=10, total_s=10)
SECRET = "sk-planted-1234567890"


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as running:
        yield running


@pytest.fixture
def client(upstream: Upstream) -> Iterator[Client]:
    made = make_client(upstream)
    yield made
    made.close()


def make_client(upstream: Upstream, *, max_answer_bytes: int = 1_000_000, ca_bundle: str = "") -> Client:
    return Client(
        provider="fake",
        base_url=f"{upstream.url}/v1/",
        headers={"Authorization": f"Bearer {SECRET}"},
        allow_plain_http=True,
        allow_private_address=True,
        max_answer_bytes=max_answer_bytes,
        ca_bundle=ca_bundle,
    )


def post(client: Client, *, deadlines: Deadlines = LONG, stream: bool = False, body: bytes = b"{}") -> HttpExchange:
    return client.post(path="/chat/completions", body=body, deadlines=deadlines, stream=stream)


def test_it_sends_the_body_with_its_own_headers_and_nothing_else(upstream: Upstream, client: Client) -> None:
    upstream.script(answer(body=b'{"ok": 1}', headers={"X-Request-Id": "req_1"}))
    exchange = client.post(
        path="/chat/completions", body=b'{"a": 1}', deadlines=LONG, headers={"Idempotency-Key": "k1"}
    )
    assert (exchange.status, exchange.body(), exchange.upstream_request_id) == (200, b'{"ok": 1}', "req_1")
    assert exchange.headers["content-TYPE"] == "application/json"
    arrival = upstream.arrivals[0]
    assert (arrival.method, arrival.path, arrival.body) == ("POST", "/v1/chat/completions", b'{"a": 1}')
    assert arrival.headers == {
        "host": f"127.0.0.1:{upstream.port}",
        "user-agent": "tollbook",
        "content-type": "application/json",
        "authorization": f"Bearer {SECRET}",
        "accept-encoding": "gzip, deflate",
        "idempotency-key": "k1",
        "content-length": "8",
    }


def test_it_gets_without_a_body(upstream: Upstream, client: Client) -> None:
    upstream.script(answer(body=b"{}"))
    assert client.get(path="/models?limit=1", deadlines=LONG).body() == b"{}"
    assert upstream.arrivals[0].path == "/v1/models?limit=1"
    assert "content-length" not in upstream.arrivals[0].headers


def test_a_connection_whose_answer_was_read_is_used_again(upstream: Upstream, client: Client) -> None:
    for _ in range(3):
        post(client).close()
    assert upstream.connections == 3
    for _ in range(3):
        post(client).body()
    assert upstream.connections == 4
    assert client.idle_connections == 1


def test_a_stream_read_to_its_end_gives_its_connection_back(upstream: Upstream, client: Client) -> None:
    upstream.script(events([b"data: 1\n\n"]))
    assert list(post(client, stream=True).chunks()) == [b"data: 1\n\n"]
    assert client.idle_connections == 1


def test_a_half_read_stream_is_never_used_again(upstream: Upstream, client: Client) -> None:
    release = threading.Event()
    upstream.script(events([b"data: 1\n\n", Wait(release), b"data: 2\n\n"]))
    exchange = post(client, stream=True)
    assert next(exchange.chunks()) == b"data: 1\n\n"
    exchange.close()
    release.set()
    assert client.idle_connections == 0
    assert post(client).body()
    assert upstream.connections == 2


def test_each_event_is_handed_on_before_the_next_is_sent(upstream: Upstream, client: Client) -> None:
    seen = [threading.Event() for _ in range(3)]
    steps = [step for number in range(3) for step in (b"data: %d\n\n" % number, Wait(seen[number]))]
    upstream.script(events(steps))
    received = []
    for number, chunk in enumerate(post(client, stream=True).chunks()):
        received.append(chunk)
        seen[number].set()
    assert received == [b"data: 0\n\n", b"data: 1\n\n", b"data: 2\n\n"]


def test_events_without_chunked_encoding_are_handed_on_as_they_come(upstream: Upstream, client: Client) -> None:
    seen = threading.Event()
    upstream.script((Send(head() + b"data: 0\n\n"), Wait(seen), Send(b"data: 1\n\n"), Close()))
    chunks = post(client, stream=True).chunks()
    assert next(chunks) == b"data: 0\n\n"
    seen.set()
    assert b"".join(chunks) == b"data: 1\n\n"


def test_a_stream_asks_for_no_compression(upstream: Upstream, client: Client) -> None:
    post(client, stream=True).close()
    assert upstream.arrivals[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("streamed", [False, True])
def test_it_decompresses(upstream: Upstream, client: Client, streamed: bool) -> None:
    packed = gzip.compress(b"data: 1\n\n" * 1000)
    headers = {"Content-Encoding": "gzip"}
    upstream.script(
        events([packed[:50], packed[50:]], headers=headers) if streamed else answer(body=packed, headers=headers)
    )
    assert b"".join(post(client, stream=streamed).chunks()) == b"data: 1\n\n" * 1000
    assert client.idle_connections == 1


def test_broken_compression_is_a_malformed_answer(upstream: Upstream, client: Client) -> None:
    upstream.script(answer(body=b"not gzip at all", headers={"Content-Encoding": "gzip"}))
    with pytest.raises(errors.MalformedAnswer, match="compression"):
        post(client).body()


@pytest.mark.parametrize("packed", [False, True])
def test_an_answer_above_the_bound_is_refused(upstream: Upstream, client: Client, packed: bool) -> None:
    body = b" " * 1_000_001
    if packed:
        upstream.script(events([gzip.compress(body), Hang()], headers={"Content-Encoding": "gzip"}))
    else:
        upstream.script(events([body, Hang()]))
    with pytest.raises(errors.MalformedAnswer, match="larger than 1000000 bytes"):
        post(client).body()
    assert client.idle_connections == 0


def test_an_answer_at_the_bound_is_read(upstream: Upstream, client: Client) -> None:
    upstream.script(answer(body=b" " * 1_000_000))
    assert len(post(client).body()) == 1_000_000


def test_no_answer_is_a_first_byte_timeout_that_may_be_retried(upstream: Upstream, client: Client) -> None:
    upstream.script((Hang(),))
    with pytest.raises(errors.Timeout) as caught:
        post(client, deadlines=SHORT)
    assert (caught.value.phase, caught.value.timeout_s, caught.value.retryable) == ("first_byte", 0.2, True)
    assert caught.value.provider == "fake"


def test_without_a_first_byte_limit_the_total_bounds_the_wait(upstream: Upstream, client: Client) -> None:
    upstream.script((Hang(),))
    with pytest.raises(errors.Timeout) as caught:
        post(client, deadlines=Deadlines(total_s=0.2))
    assert (caught.value.phase, caught.value.timeout_s, caught.value.retryable) == ("total", 0.2, False)


@pytest.mark.parametrize("streamed", [False, True])
def test_silence_in_the_middle_is_an_idle_timeout(upstream: Upstream, client: Client, streamed: bool) -> None:
    upstream.script((Send(head(headers={"Content-Length": "9"}) + b"data"), Hang()))
    exchange = post(client, deadlines=SHORT, stream=streamed)
    with pytest.raises(errors.Timeout) as caught:
        b"".join(exchange.chunks()) if streamed else exchange.body()
    assert (caught.value.phase, caught.value.timeout_s, caught.value.retryable) == ("idle", 0.2, False)
    assert (caught.value.status, caught.value.provider) == (200, "fake")
    assert client.idle_connections == 0


_TRICKLED_BODY = head(headers={"Content-Length": "500"}) + b"x" * 500
_TRICKLED_CHUNK_SIZE = b"0" * 500


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(trickle(_TRICKLED_BODY, pause_s=0.05), id="headers"),
        pytest.param((Send(_TRICKLED_BODY[:-500]), *trickle(b"x" * 500, pause_s=0.05)), id="body"),
        pytest.param(
            (Send(head(headers={"Transfer-Encoding": "chunked"})), *trickle(_TRICKLED_CHUNK_SIZE, pause_s=0.05)),
            id="chunk size",
        ),
        pytest.param(
            (Send(head(headers={"Transfer-Encoding": "chunked"})), *trickle(chunked(b"x") * 500, pause_s=0.05)),
            id="chunks",
        ),
    ],
)
def test_a_trickling_server_does_not_outlive_the_total(upstream: Upstream, client: Client, reply: object) -> None:
    upstream.script(reply)  # type: ignore[arg-type]
    with pytest.raises(errors.Timeout) as caught:
        post(client, deadlines=Deadlines(first_byte_s=0.3, idle_s=0.3, total_s=0.4)).body()
    assert (caught.value.phase, caught.value.timeout_s) == ("total", 0.4)


def test_a_server_that_does_not_read_is_left_at_the_first_byte_deadline(upstream: Upstream, client: Client) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        client = Client(
            provider="deaf",
            base_url=f"http://127.0.0.1:{deaf.getsockname()[1]}",
            headers={},
            allow_plain_http=True,
            allow_private_address=True,
        )
        with pytest.raises(errors.Timeout) as caught:
            post(client, deadlines=SHORT, body=b"x" * 30_000_000)
        assert caught.value.phase == "first_byte"


def test_a_reset_before_the_answer_is_a_connection_failure_that_may_be_retried(
    upstream: Upstream, client: Client
) -> None:
    upstream.script((Reset(),))
    with pytest.raises(errors.ConnectionFailed) as caught:
        post(client)
    assert caught.value.retryable
    assert not isinstance(caught.value, NotSent)


def test_a_connection_closed_before_the_answer_is_a_connection_failure(upstream: Upstream, client: Client) -> None:
    upstream.script((Close(),))
    with pytest.raises(errors.ConnectionFailed) as caught:
        post(client)
    assert not isinstance(caught.value, NotSent)


def test_a_refused_connection_says_that_nothing_was_sent() -> None:
    with Upstream() as gone:
        client = make_client(gone)
    with pytest.raises(NotSent) as caught:
        post(client)
    assert caught.value.retryable


def test_a_connection_that_is_never_accepted_is_a_connect_timeout() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        # With a backlog of 0 the kernel queues one connection; the next one's SYN is dropped.
        waiting = [socket.socket() for _ in range(3)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(address)
        client = Client(
            provider="full",
            base_url=f"http://127.0.0.1:{address[1]}",
            headers={},
            allow_plain_http=True,
            allow_private_address=True,
        )
        with pytest.raises(errors.Timeout) as caught:
            post(client, deadlines=Deadlines(connect_s=0.2))
        for one in waiting:
            one.close()
    assert (caught.value.phase, caught.value.retryable) == ("connect", True)


def test_a_name_that_does_not_resolve_says_that_nothing_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_such_name(*_: object, **__: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", no_such_name)
    client = Client(provider="lost", base_url="https://nowhere.example/v1", headers={})
    with pytest.raises(NotSent, match="does not resolve"):
        post(client)


@pytest.mark.parametrize("ending", [Close(), Reset()], ids=["closed", "reset"])
@pytest.mark.parametrize("lengthy", [False, True], ids=["chunked", "with length"])
def test_a_stream_that_is_cut_raises_after_what_arrived(
    upstream: Upstream, client: Client, ending: Close | Reset, lengthy: bool
) -> None:
    seen = threading.Event()
    framing = {"Content-Length": "99"} if lengthy else {"Transfer-Encoding": "chunked"}
    piece = b"data: 1\n\n" if lengthy else chunked(b"data: 1\n\n")
    upstream.script((Send(head(headers=framing) + piece), Wait(seen), ending))
    chunks = post(client, stream=True).chunks()
    assert next(chunks) == b"data: 1\n\n"
    seen.set()
    with pytest.raises(errors.StreamInterrupted) as caught:
        next(chunks)
    assert not caught.value.retryable
    assert client.idle_connections == 0


def test_a_body_that_is_cut_is_not_taken_for_an_answer(upstream: Upstream, client: Client) -> None:
    upstream.script(answer(body=b'{"a": 1}', cut_at=4))
    with pytest.raises(errors.StreamInterrupted):
        post(client).body()


def test_another_thread_can_stop_a_stream(upstream: Upstream, client: Client) -> None:
    upstream.script(events([b"data: 1\n\n", Hang()]))
    exchange = post(client, stream=True)
    chunks = exchange.chunks()
    next(chunks)
    stopper = threading.Timer(0.05, exchange.abort)
    stopper.start()
    with pytest.raises(errors.StreamInterrupted):
        next(chunks)
    stopper.join()
    assert client.idle_connections == 0


def test_what_is_not_http_is_a_malformed_answer(upstream: Upstream, client: Client) -> None:
    upstream.script((Send(b"SSH-2.0-OpenSSH_9.9\r\n\r\n"), Close()))
    with pytest.raises(errors.MalformedAnswer, match="not HTTP"):
        post(client)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_error_and_is_not_followed(upstream: Upstream, client: Client, status: int) -> None:
    upstream.script(answer(status=status, body=b"", headers={"Location": f"{upstream.url}/v1/elsewhere"}))
    with pytest.raises(errors.UpstreamError, match="redirect") as caught:
        post(client)
    assert (caught.value.status, caught.value.retryable) == (status, False)
    assert len(upstream.arrivals) == 1


def test_an_error_status_is_left_to_the_caller(upstream: Upstream, client: Client) -> None:
    upstream.script(answer(status=429, body=b'{"error": 1}'))
    exchange = post(client)
    assert (exchange.status, exchange.body()) == (429, b'{"error": 1}')


def test_cookies_are_not_kept(upstream: Upstream, client: Client) -> None:
    upstream.script(answer(body=b"{}", headers={"Set-Cookie": "session=1; Path=/"}))
    post(client).body()
    post(client).body()
    assert "cookie" not in upstream.arrivals[1].headers


def test_proxies_of_the_environment_are_not_used(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert post(make_client(upstream)).body()


def test_a_connection_that_the_server_closed_while_idle_does_not_fail_the_next_call(
    upstream: Upstream, client: Client
) -> None:
    upstream.script((*answer(body=b"1"), Close()), answer(body=b"2"))
    assert post(client).body() == b"1"
    # The close is seen by the client's kernel once this read of the idle socket returns.
    (idle,) = [conn for conn in client._pool.pool.queue if conn is not None]  # type: ignore[union-attr]
    idle.sock.settimeout(5)
    assert idle.sock.recv(1, socket.MSG_PEEK) == b""
    assert post(client).body() == b"2"
    assert upstream.connections == 2


def test_many_threads_share_a_client(upstream: Upstream, client: Client) -> None:
    bodies: list[bytes] = []

    def call(number: int) -> None:
        body = b'{"model": "fake-words-%d", "messages": []}' % (number + 1)
        bodies.append(post(client, body=body).body())

    threads = [threading.Thread(target=call, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(body.count(b" ") for body in bodies) == list(range(50))
    assert client.idle_connections <= 20


def test_errors_do_not_hold_the_credential(upstream: Upstream, client: Client) -> None:
    upstream.script((Reset(),), (Hang(),), answer(body=b"{}", cut_at=1), (Send(b"junk\r\n\r\n"), Close()))
    for _ in range(4):
        with pytest.raises(errors.ProviderError) as caught:
            post(client, deadlines=SHORT).body()
        assert SECRET not in f"{caught.value} {caught.value.__dict__} {caught.value.__cause__!r}"


def test_a_closed_client_keeps_no_connection_but_lets_streams_end(upstream: Upstream, client: Client) -> None:
    release, sent = threading.Event(), threading.Event()
    upstream.script(answer(body=b"{}"), events([b"1", Signal(sent), Wait(release), b"2"]))
    post(client).body()
    exchange = post(client, stream=True)
    assert sent.wait(5)
    client.close()
    release.set()
    assert b"".join(exchange.chunks()) == b"12"
    assert client.idle_connections == 0
    assert post(client).body()
    assert client.idle_connections == 0


def test_plain_http_is_refused_unless_meant() -> None:
    with pytest.raises(AddressRefused):
        Client(provider="p", base_url="http://127.0.0.1:1/v1", headers={}, allow_private_address=True)


def test_the_address_is_checked_again_when_connecting(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    def resolving_to(ip: str) -> None:
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, upstream.port))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)

    resolving_to("93.184.216.34")
    client = Client(provider="p", base_url=f"http://rebound.example:{upstream.port}", headers={}, allow_plain_http=True)
    resolving_to("127.0.0.1")
    with pytest.raises(AddressRefused):
        post(client)
    assert upstream.connections == 0


def test_requests_carries_the_call() -> None:
    """So that what wraps or mocks requests' transport sees calls of ours as well."""
    with responses.RequestsMock() as mocked:
        mocked.post("https://api.example.com/v1/chat/completions", json={"ok": 1}, headers={"X-Request-Id": "r"})
        client = Client(provider="p", base_url="https://93.184.216.34/v1", headers={})
        client.base_url = "https://api.example.com/v1"
        exchange = post(client)
        assert (exchange.status, exchange.upstream_request_id) == (200, "r")
        assert exchange.body() == b'{"ok": 1}'


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the key and the certificate of 127.0.0.1, signed by nobody."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "fake upstream")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "upstream.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture
def tls_upstream(certificate: Path) -> Iterator[Upstream]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with Upstream(tls=context) as running:
        yield running


def test_a_certificate_of_nobody_is_refused_and_not_retried(tls_upstream: Upstream) -> None:
    with pytest.raises(NotSent, match="TLS certificate") as caught:
        post(make_client(tls_upstream))
    assert not caught.value.retryable
    assert tls_upstream.arrivals == []


def test_deadlines_hold_over_tls_too(tls_upstream: Upstream, certificate: Path) -> None:
    client = make_client(tls_upstream, ca_bundle=str(certificate))
    assert post(client).status == 400
    tls_upstream.script((Hang(),), (Send(head(headers={"Content-Length": "9"}) + b"data"), Hang()))
    with pytest.raises(errors.Timeout) as caught:
        post(client, deadlines=SHORT)
    assert caught.value.phase == "first_byte"
    with pytest.raises(errors.Timeout) as caught:
        post(client, deadlines=SHORT).body()
    assert caught.value.phase == "idle"


def test_a_tls_handshake_that_stalls_is_a_connect_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = Client(
            provider="silent",
            base_url=f"https://127.0.0.1:{silent.getsockname()[1]}",
            headers={},
            allow_private_address=True,
        )
        with pytest.raises(errors.Timeout) as caught:
            post(client, deadlines=Deadlines(connect_s=0.2))
    assert caught.value.phase == "connect"
