"""Clients of other people, each with only its address and key changed, against models of every provider's wire.

What they check is in `tests/clients/`; they run in `.venv-clients`, one process for all checks of a client. Where the
suite is split over workers, the first that needs a client runs it for all.
"""

from __future__ import annotations

import ast
import fcntl
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live import books
from tests.live.database import ROOT
from tests.live.gateway import Account, Gateway, running
from tests.upstream import obliging

PYTHON = ROOT / ".venv-clients" / "bin" / "python"
# `make test` says so, having made it.
REQUIRED = os.environ.get("TOLLBOOK_TEST_CLIENTS") == "required"
# Which providers' models a check is run for, by how its name begins; the last line is for all others.
PROVIDERS: dict[str, tuple[str, ...]] = {
    "check_embed": ("openai", "gemini", "cohere", "mistral"),
    # Who has a word for what vectors are for.
    "check_task": ("gemini", "cohere"),
    "check_rerank": ("cohere", "together"),
    # Wrong keys from one address are counted, so these are few.
    "check_refused": ("anthropic",),
    "check_errors": ("anthropic",),
    "check_own": (),
    "check_count": ("openai", "anthropic", "gemini", "bedrock"),
    "check_": ("openai", "anthropic", "gemini", "cohere", "bedrock"),
}
# What a provider's wire cannot say: a budget of thoughts is for Claude alone there, and the model is not one.
REFUSED = {("google_genai", "check_thinking", "bedrock")}
# A client's own provider, where it is none of these: its bytes pass through.
OWN = {"mistral": ("mistral",)}
# Where the fake upstream speaks a vendor's own way, from its root on.
ROOTS = {"cohere": "", "gemini": "/v1beta", "mistral": "/mistral"}
# A count of tokens uses nothing, and so reports none.
_USAGE = {"count_tokens": "none"}
Job = tuple[str, str, str]


def _checks(path: Path) -> list[str]:
    tree = ast.parse(path.read_text())
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("check_")]


def _jobs() -> list[Job]:
    """(client, check, provider), the checks of one client beside each other."""
    found = []
    for path in sorted((ROOT / "tests" / "clients").glob("*_client.py")):
        client = path.stem.removesuffix("_client")
        for check in _checks(path):
            begins = next(begins for begins in PROVIDERS if check.startswith(begins))
            own = OWN.get(client, ()) if begins in ("check_", "check_own") else ()
            found += [(client, check, provider) for provider in (*PROVIDERS[begins], *own)]
    return [job for job in found if job not in REFUSED]


JOBS = _jobs()
CLIENTS = sorted({client for client, _, _ in JOBS})


class Clients:
    """Runs each client once, whoever asks first; `results` are shared between workers by files in `folder`."""

    def __init__(self, request: pytest.FixtureRequest, folder: Path) -> None:
        self._request = request
        self._folder = folder
        self._known: dict[str, dict[str, str | None]] = {}

    def results(self, client: str) -> dict[str, str | None]:
        """ "check provider" -> what went wrong, or None; and under "books" what is wrong there."""
        if client not in self._known:
            self._folder.mkdir(exist_ok=True)
            path = self._folder / f"{client}.json"
            with (self._folder / f"{client}.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not path.exists():
                    path.write_text(json.dumps(self._run(client)))
            self._known[client] = json.loads(path.read_text())
        return self._known[client]

    def _run(self, client: str) -> dict[str, str | None]:
        accounts: dict[str, Account] = self._request.getfixturevalue("accounts")
        gateway: Gateway = self._request.getfixturevalue("gateway")
        key = accounts["openai"]
        before = {call.pk for call in books.calls(key_id=key.key.pk)}
        jobs = [
            {"check": check, "provider": provider, "model": accounts[provider].model.name}
            for name, check, provider in JOBS
            if name == client
        ]
        told = {"base_url": gateway.url, "api_key": key.text, "jobs": jobs}
        done = subprocess.run(
            [str(PYTHON), "-m", "tests.clients.run", client], cwd=ROOT, input=json.dumps(told), text=True,
            capture_output=True, timeout=120, env=_environment(gateway.var_dir),
        )  # fmt: skip
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"check"')]
        broke_off = None if len(lines) == len(jobs) else f"the client broke off: {done.stderr[-3000:]}"
        results = {f"{job['check']} {job['provider']}": broke_off for job in jobs}
        results |= {f"{line['check']} {line['provider']}": line["error"] for line in lines}
        return {**results, "books": _wrong_in_the_books(key, before=before)}


def _environment(home: Path) -> dict[str, str]:
    """No setting of whoever runs the tests: no proxy, no key of a provider, no tracing."""
    return {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1", "HF_HUB_OFFLINE": "1"}


def _wrong_in_the_books(key: Account, *, before: set[Any]) -> str | None:
    """Every call of a client was answered, and is there with what the provider reported and its cost."""
    calls = [call for call in books.calls(key_id=key.key.pk) if call.pk not in before]
    wrong = [
        f"{call.surface} {call.requested_name} {call.outcome} {call.usage_source} {call.cost_usd}"
        for call in calls
        if (call.outcome, call.usage_source) != ("ok", _USAGE.get(call.surface, "reported")) or call.cost_usd is None
    ]
    return "\n".join(wrong) or (None if calls else "no call")


@pytest.fixture(scope="module")
def gateway(own_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    var_dir = tmp_path_factory.mktemp("var")
    with running(database_url=own_database, var_dir=var_dir, handler=obliging.reply_to) as made:
        yield made
        books.verify()


@pytest.fixture(scope="module")
def accounts(gateway: Gateway) -> dict[str, Account]:
    """A model at a provider of each wire, which chats, embeds and ranks under one name."""
    made = {}
    rates = {"input": "3", "output": "15", "search_units": "2000"}
    for adapter in sorted({provider for _, _, provider in JOBS} | {"openai"}):
        made[adapter] = gateway.account(wire=adapter, rates=rates, default_max_output_tokens=512, sync=False)
        provider = made[adapter].model.provider
        provider.base_url = f"{gateway.upstream.url}{ROOTS.get(adapter, '/v1')}"
        provider.save()
    gateway.sync()
    return made


@pytest.fixture(scope="module")
def clients(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Clients:
    if not PYTHON.exists():
        told = ".venv-clients is missing: make requirements-clients"
        pytest.fail(told) if REQUIRED else pytest.skip(told)
    base = tmp_path_factory.getbasetemp()
    return Clients(request, (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "clients")


@pytest.mark.parametrize(("client", "check", "provider"), JOBS, ids=lambda value: value)
def test_it_works(clients: Clients, client: str, check: str, provider: str) -> None:
    wrong = clients.results(client)[f"{check} {provider}"]
    assert wrong is None, wrong


@pytest.mark.parametrize("client", CLIENTS)
def test_every_call_is_in_the_books_with_its_cost(clients: Clients, client: str) -> None:
    wrong: Any = clients.results(client)["books"]
    assert wrong is None, wrong
