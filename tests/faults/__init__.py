"""The harness that tries to break the books: real processes, a real PostgreSQL, faults on a seeded schedule.

`python -m tests.faults --help`; the quick set is `tests/faults/test_quick.py`. Where to read what:

- `cluster`: PostgreSQL, the fake provider, gunicorn and its workers, with two proxies between them
- `proxy`: delays, cuts, half-opens, and eats the answer to a commit
- `world`: what stands in the catalog; `audit`: triggers that note what the ledger does while it does it
- `load`: clients that write down what they were told; `races`: many writers at a limit with little room
- `nemesis`: the faults; `checker`: the invariants; `run`: one run from start to figures
- `broken`: the code broken on purpose; `teeth`: the schedules that must show it; `gunicorn_conf`: what puts it in
"""
