"""The whole gateway: requests a second and added latency, against a C upstream with a fixed answer.

    python bench/relay.py [--seconds 10] [--rounds 3] [--connections 32] [--peers FILE.json]

Needs nginx and wrk (Debian packages of these names). One gunicorn process is pinned to core 0; nginx and wrk to core 1.
The ledger is durable on PostgreSQL on the same machine, and three limits apply to every call. Runs on a scratch
database beside the configured one, dropped at the end. Each round measures nginx alone, the gateway, and every peer, in
turn. A peer is another gateway that you started yourself, on core 0, with its upstream at 127.0.0.1:8391:
[{"name": "other", "url": "http://127.0.0.1:4000/v1/chat/completions", "headers": {"Authorization": "Bearer x"}}].
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway.settings")

import django  # noqa: E402

django.setup()

from django.conf import settings as django_settings  # noqa: E402
from django.db import connection  # noqa: E402

from bench.scratch import drop, scratch_database  # noqa: E402

UPSTREAM_PORT, GATEWAY_PORT = 8391, 8392
ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "bench-model",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello! " * 20}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 24, "completion_tokens": 40, "total_tokens": 64},
}
REQUEST = {
    "model": "bench-model",
    "max_tokens": 100,
    "messages": [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "Say hello twenty times."},
    ],
}


@contextlib.contextmanager
def nginx(folder: Path) -> Iterator[None]:
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; pid {folder}/nginx.pid; error_log stderr; worker_processes 1;\n"
        "events { worker_connections 2048; }\n"
        "http { access_log off; keepalive_requests 1000000; client_body_buffer_size 64k; server {\n"
        f"listen 127.0.0.1:{UPSTREAM_PORT};\n"
        f"location / {{ default_type application/json; return 200 '{json.dumps(ANSWER)}'; }} }} }}\n"
    )
    process = subprocess.Popen(["taskset", "-c", "1", "nginx", "-c", str(config)], stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def gateway(*, database: str, folder: Path) -> Iterator[int]:
    settings = connection.settings_dict
    host = settings["HOST"] or settings["OPTIONS"].get("host", "localhost")
    url = f"postgresql://{settings['USER']}:{settings['PASSWORD']}@/{database}?host={host}"
    environment = {
        **os.environ,
        "DATABASE_URL": url,
        "TOLLBOOK_VAR_DIR": str(folder),
        "TOLLBOOK_CREDENTIAL_KEYS": ",".join(django_settings.CREDENTIAL_KEYS),
        "TOLLBOOK_WORKERS": "1",
        "TOLLBOOK_BIND": f"127.0.0.1:{GATEWAY_PORT}",
        "LOG_LEVEL": os.environ.get("LOG_LEVEL", "INFO"),
    }
    with (folder / "gunicorn.log").open("wb") as log:
        process = subprocess.Popen(
            [
                "taskset",
                "-c",
                "0",
                sys.executable,
                "-m",
                "gunicorn",
                "-c",
                "gateway/gunicorn.conf.py",
                "--no-control-socket",
            ],
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        for _ in range(100):
            with contextlib.suppress(OSError):
                if urllib.request.urlopen(f"http://127.0.0.1:{GATEWAY_PORT}/readyz", timeout=1).status == 200:
                    break
            time.sleep(0.1)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(40)


def catalog() -> str:
    """One priced model at the fixed upstream, and a key under three limits. Returns the key's text."""
    from datetime import UTC, datetime
    from decimal import Decimal

    from django.contrib.auth.models import User

    from ledger.keys import create_key
    from ledger.models import Limit, PriceSheet, Rate
    from providers.models import Model, Provider

    provider = Provider.objects.create(
        name="fixed",
        adapter="openai_compatible",
        base_url=f"http://127.0.0.1:{UPSTREAM_PORT}/v1",
        credential_secret="sk-none",
        allow_plain_http=True,
        allow_private_address=True,
    )
    model = Model.objects.create(provider=provider, name="bench-model", upstream_name="bench-model")
    sheet = PriceSheet.objects.create(
        model=model, book="list", source="file", valid_from=datetime(2025, 1, 1, tzinfo=UTC)
    )
    Rate.objects.create(sheet=sheet, meter="input", amount_usd=Decimal("2.5"))
    Rate.objects.create(sheet=sheet, meter="output", amount_usd=Decimal("10"))
    PriceSheet.objects.filter(pk=sheet.pk).update(status="published", published_at=datetime.now(UTC))
    user = User.objects.create(username="bench")
    key, text = create_key(user=user)
    Limit.objects.create(subject="key", key=key, metric="usd", period="day", amount=10**6)
    Limit.objects.create(subject="user", user=user, metric="tokens", period="month", amount=10**11)
    Limit.objects.create(subject="everyone", metric="usd", period="month", amount=10**6)
    return text


def wrk(url: str, *, script: Path, connections: int, seconds: float) -> dict[str, float]:
    threads = 1
    output = subprocess.run(
        [
            "taskset",
            "-c",
            "1",
            "wrk",
            f"-t{threads}",
            f"-c{connections}",
            f"-d{seconds:g}s",
            "--latency",
            "-s",
            str(script),
            url,
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = {"requests_s": float(re.search(r"Requests/sec:\s+([\d.]+)", output)[1])}
    for name in ("50%", "99%"):
        value, unit = re.search(rf"\s{name}\s+([\d.]+)(us|ms|s)", output).groups()
        found[name] = float(value) * {"us": 0.001, "ms": 1, "s": 1000}[unit]
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    found["bad"] = int(bad[1]) if bad else 0
    return found


def request_script(path: Path, headers: dict[str, str]) -> Path:
    """A wrk script that posts REQUEST with these headers."""
    lines = ['wrk.method = "POST"', f"wrk.body = {json.dumps(json.dumps(REQUEST))}"]
    for name, value in {"Content-Type": "application/json", **headers}.items():
        lines.append(f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}")
    path.write_text("\n".join(lines) + "\n")
    return path


def report(name: str, busy: dict[str, float], one: dict[str, float], alone: dict[str, float]) -> None:
    print(
        f"{name:10} {busy['requests_s']:7.0f} requests/s (p50 {busy['50%']:.1f} ms, p99 {busy['99%']:.1f} ms, "
        f"bad {busy['bad']})   added at 1: p50 {one['50%'] - alone['50%']:.2f} ms, "
        f"p99 {one['99%'] - alone['99%']:.2f} ms   nginx alone p50 {alone['50%']:.2f} ms",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--peers", type=Path, help="a JSON file; see above")
    parser.add_argument("--py-spy", help="write a profile of the middle round here")
    options = parser.parse_args()
    home = connection.settings_dict["NAME"]
    name = scratch_database()
    folder = Path(tempfile.mkdtemp(prefix="bench-relay-"))
    try:
        key = catalog()
        connection.close()
        script = request_script(folder / "ours.lua", {"Authorization": f"Bearer {key}"})
        peers = json.loads(options.peers.read_text()) if options.peers else []
        scripts = {peer["name"]: request_script(folder / f"{peer['name']}.lua", peer["headers"]) for peer in peers}
        with nginx(folder), gateway(database=name, folder=folder) as pid:
            ours = f"http://127.0.0.1:{GATEWAY_PORT}/v1/chat/completions"
            theirs = f"http://127.0.0.1:{UPSTREAM_PORT}/v1/chat/completions"
            wrk(ours, script=script, connections=options.connections, seconds=2)
            for turn in range(options.rounds):
                if options.py_spy and turn == options.rounds // 2:
                    child = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout.split()[0]
                    subprocess.Popen(
                        [
                            "py-spy",
                            "record",
                            "-p",
                            child,
                            "-d",
                            str(int(options.seconds)),
                            "-f",
                            "raw",
                            "--gil",
                            "-o",
                            options.py_spy,
                            "-r",
                            "200",
                        ],
                        stdout=subprocess.DEVNULL,
                        stderr=subprocess.DEVNULL,
                    )
                busy = wrk(ours, script=script, connections=options.connections, seconds=options.seconds)
                one = wrk(ours, script=script, connections=1, seconds=options.seconds / 2)
                alone = wrk(theirs, script=script, connections=1, seconds=1)
                report("tollbook", busy, one, alone)
                for peer in peers:
                    its = scripts[peer["name"]]
                    busy = wrk(peer["url"], script=its, connections=options.connections, seconds=options.seconds)
                    one = wrk(peer["url"], script=its, connections=1, seconds=options.seconds / 2)
                    report(peer["name"], busy, one, alone)
    finally:
        drop(name, home)
        if not os.environ.get("BENCH_KEEP"):
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
