"""The harness that tries to break the books: real processes, a real PostgreSQL, faults on a seeded schedule.

`python -m tests.faults --help`; the quick sets: `test_quick`, `test_machine`, `test_scenarios`. Where to read what:

- `cluster`: PostgreSQL, the fake provider, gunicorn and its workers, with two proxies between them
- `proxy`: delays, cuts, half-opens, and eats the answer to a commit
- `world`: what stands in the catalog; `audit`: triggers that note what the ledger does while it does it
- `load`: clients that write down what they were told; `races`: many writers at a limit with little room
- `nemesis`: the faults; `checker`: the invariants; `run`: one run from start to figures
- `machine`: the machine's own faults, one act each, in `machine_outage`, `machine_disk`, `machine_clock` and
  `machine_deaths`; `machine_acts`: all of them; `disks`, `clock`: small disks, and a clock that can be set; `past`: a
  month that is over; `commander`: manage.py commands that are quick to start and to kill
- `scenarios`: clients, bodies, providers and limits at their worst, in four files; `stage`: what each of them is given;
  `catalog`: their accounts; `performing`: a run of them
- `broken`: the code broken on purpose; `teeth`: the schedules that must show it; `gunicorn_conf`: what puts it in
"""
