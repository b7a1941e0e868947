"""The command as people run it: committed books, several jobs, one snapshot, shipped anchors."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection

from ledger import anchors, database, verify
from ledger.models import Anchor
from ledger.verify import run
from tests.ledger.written import Sender, make_hold, make_priced, make_settle

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def sender() -> Sender:
    """Two batches of one call each, committed."""
    key, sheet = make_priced()
    made = Sender()
    for _ in range(2):
        hold = make_hold(key=key, sheet=sheet)
        made.write(holds=[hold])
        made.write(settles=[make_settle(hold)])
    return made


def take(*, interval_s: float = 0) -> int:
    with database.connect(application_name="test") as own:
        return anchors.take(own, interval_s=interval_s)


def verified(*options: str) -> tuple[int, str]:
    """(exit code, what it printed)."""
    out = io.StringIO()
    try:
        call_command("verify_ledger", "--quiet", *options, stdout=out)
    except SystemExit as end:
        return int(str(end.code)), out.getvalue()
    return 0, out.getvalue()


def harm(sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)


@pytest.mark.parametrize("jobs", ["1", "3"])
def test_it_says_that_right_books_are_right_and_exits_1_where_they_are_not(sender: Sender, jobs: str) -> None:
    code, text = verified("--jobs", jobs)
    assert (code, text.split(":")[0]) == (0, "The books are right")
    harm("UPDATE ledger_dailyspend SET calls = calls + 1")
    harm("UPDATE ledger_writer SET head = sha256(head)")
    code, text = verified("--jobs", jobs)
    assert code == 1
    assert [line.split(":")[0] for line in text.splitlines()] == ["1 rollups", "3 chain"]


def test_progress_counts_every_slice_once(sender: Sender) -> None:
    seen: list[verify.Progress] = []
    assert verify.verify(jobs=2, report=seen.append) == []
    assert [each.done for each in seen] == list(range(1, seen[0].slices + 1))
    assert {each.check for each in seen} == set(verify.CHECKS)


def test_a_check_that_fails_is_not_a_check_that_found_nothing(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(scope: verify.Scope) -> None:
        raise DatabaseError("the server went away")

    monkeypatch.setitem(run.CHECKS, "2 holds", (fail, run.CHECKS["2 holds"][1]))
    for jobs in (1, 2):
        with pytest.raises(DatabaseError, match="went away"):
            verify.verify(jobs=jobs)


def test_all_jobs_look_at_one_instant(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is committed after the snapshot is seen by none, though each job connects later."""
    real = run._alongside

    def meanwhile(state: run._State, snapshot: str) -> None:
        with database.connect(application_name="test") as own:
            own.execute("UPDATE ledger_dailyspend SET calls = calls + 1")
        real(state, snapshot)

    monkeypatch.setattr(run, "_alongside", meanwhile)
    assert verify.verify(jobs=2) == []
    monkeypatch.undo()
    assert [found.check for found in verify.verify(jobs=2)] == ["1 rollups"]


def test_heads_are_anchored_once_and_not_more_often_than_asked(sender: Sender) -> None:
    assert take() == 1
    [anchor] = Anchor.objects.all()
    assert (anchor.writer_id, anchor.seq) == (sender.id, 2)
    assert take() == 0, "nothing moved"
    key, sheet = make_priced()
    hold = make_hold(key=key, sheet=sheet)
    sender.write(holds=[hold])
    sender.write(settles=[make_settle(hold)])
    assert take(interval_s=60) == 0, "too early"
    assert take() == 1
    assert [row.seq for row in Anchor.objects.order_by("id")] == [2, 3]
    assert verify.verify() == []


def test_a_chain_that_was_rewritten_whole_is_not_the_one_that_was_anchored(sender: Sender) -> None:
    take()
    rewrite(sender)
    [found] = verify.verify()
    assert found.check == "3 anchors"
    assert f"writer {sender.id} stood at batch 2 with" in found.line


def test_an_anchor_whose_batches_are_gone_is_a_difference(sender: Sender) -> None:
    take()
    harm("ALTER TABLE ledger_anchor DISABLE TRIGGER append_only")
    harm("UPDATE ledger_anchor SET seq = 7")
    harm("ALTER TABLE ledger_anchor ENABLE ALWAYS TRIGGER append_only")
    [found] = verify.verify()
    assert found.line.endswith("there is no such batch")


def test_shipped_lines_prove_what_the_table_no_longer_does(
    sender: Sender, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="tollbook.ledger.anchors"):
        take()
    [record] = caplog.records
    line = json.dumps({"event": record.message, "heads": record.__dict__["heads"]})
    log = tmp_path / "shipped.log"
    log.write_text(f'{{"event": "call"}}\n{line}\n')
    assert verified("--anchors", str(log))[0] == 0
    rewrite(sender)
    harm("ALTER TABLE ledger_anchor DISABLE TRIGGER USER")
    harm("DELETE FROM ledger_anchor")
    for name in ("append_only", "append_only_truncate"):
        harm(f"ALTER TABLE ledger_anchor ENABLE ALWAYS TRIGGER {name}")
    assert verified()[0] == 0, "whoever owns the database can make it agree with itself"
    code, text = verified("--anchors", str(log))
    assert code == 1
    assert text.startswith(f"3 shipped anchors: line 2: writer {sender.id} at batch 2: ")


@pytest.mark.parametrize(
    ("text", "says"),
    [("", "no ledger_anchor line"), ('{"event": "ledger_anchor"}', "line 1 is no anchor"),
     ('{"event": "ledger_anchor", "heads": {"x": {}}}', "line 1 is no anchor"), ("ledger_anchor {", "line 1")],
)  # fmt: skip
def test_a_file_that_proves_nothing_is_refused(tmp_path: Path, text: str, says: str) -> None:
    log = tmp_path / "shipped.log"
    log.write_text(text)
    with pytest.raises(CommandError, match=says):
        verified("--anchors", str(log))


@pytest.mark.parametrize(
    "options", [("--jobs", "0"), ("--since", "soon"), ("--partition", "2026-13"), ("--partition", "2020-01"),
                ("--anchors", "/nowhere"), ("--since", "2026-11-01", "--partition", "2026-11")],
)  # fmt: skip
def test_options_that_make_no_sense_are_refused(options: tuple[str, ...]) -> None:
    with pytest.raises(CommandError):
        verified(*options)


def rewrite(sender: Sender) -> None:
    """Change a call and hash the whole chain anew, as an owner of the database could."""
    for table in ("ledger_call", "ledger_batch"):
        harm(f"ALTER TABLE {table} DISABLE TRIGGER USER")
    harm("UPDATE ledger_call SET duration_ms = duration_ms + 1 WHERE batch_seq = 1")
    harm(
        """DO $$ DECLARE b record; head bytea := decode(repeat('00', 32), 'hex'); next bytea; BEGIN
        FOR b IN SELECT * FROM ledger_batch ORDER BY seq LOOP
          next := ledger_chain_hash(head, (SELECT string_agg(ledger_call_bytes(c.*), ''::bytea ORDER BY position)
                                           FROM ledger_call c WHERE batch_seq = b.seq));
          UPDATE ledger_batch SET previous_hash = head, hash = next WHERE id = b.id;
          head := next;
        END LOOP;
        UPDATE ledger_writer w SET head = next; END $$"""
    )
    harm("UPDATE ledger_writer SET head = (SELECT hash FROM ledger_batch ORDER BY seq DESC LIMIT 1)")
    for table in ("ledger_call", "ledger_batch"):
        for name in ("append_only", "append_only_truncate"):
            harm(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}")
