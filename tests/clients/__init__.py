"""Clients of other people, each in `<name>_client.py`: functions `check_*(base_url, api_key, model)` that use only it.

They run in `.venv-clients` (`make requirements-clients`), where there is neither Django nor pytest:
`python -m tests.clients.run NAME < jobs.json` answers with a line of JSON for each job. Whoever starts it against a
gateway is `tests/live/test_other_clients.py`; the provider behind it is `tests/upstream/obliging.py`. By its name a
check is run

- `check_embed*`, `check_rerank*`: for models that do that
- `check_count*`: for a model of every provider that can count tokens
- `check_refused*`, `check_errors*`: once
- `check_own*`: for a model of the client's own vendor
- any other: for a model of every provider's wire
"""
