"""Months listed, made ahead, archived and dropped; what is left still adds up."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import Error, connection, transaction

from ledger import archive, partitions, restore, verify
from ledger.models import Adjustment, ArchivedBatch, ArchivedMonth, ArchivedRollup, ArchivedWindow, Call, LimitWindow
from tests import factories
from tests.ledger.rows import Pen, make_hold, make_settle
from tests.ledger.settled import request_id_at, settle_at

pytest.importorskip("pyarrow", reason="requirements-parquet.txt is not installed")
pytestmark = pytest.mark.django_db
MARCH = date(2024, 3, 1)
NOW = datetime(2026, 11, 23, tzinfo=UTC)
IN_MARCH = datetime(2024, 3, 31, 23, 59, tzinfo=UTC)
IN_APRIL = datetime(2024, 4, 1, 0, 1, tzinfo=UTC)


class Books:
    """Three batches: one all of March, one across the end of the month, one all of April; and an adjustment."""

    def __init__(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT ledger_make_partitions('2024-03-01', 2)")
        sheet = factories.make_sheet()
        self.model, self.key = sheet.model, factories.make_key()
        self.limit = factories.make_limit(key=self.key, amount="1000", period="total")
        self.pen = Pen()
        moments = (IN_MARCH, IN_MARCH, IN_APRIL, IN_APRIL)
        self.march, self.late, self.early, self.april = (self._hold(at) for at in moments)
        for batch in ([self.march], [self.late, self.early], [self.april]):
            self.pen.write(settles=[self._settle(hold, sheet.pk) for hold in batch])
        Adjustment.objects.create(
            call_id=self.march.id, delta_usd=Decimal("0.1"), counted_delta_usd=Decimal("0.1"), reason="manual"
        )

    def _hold(self, at: datetime) -> Any:
        hold = make_hold(key=self.key, model=self.model, limits=(self.limit,), request_id=request_id_at(at))
        self.pen.write(holds=[hold])
        return hold

    def _settle(self, hold: Any, sheet: int) -> Any:
        return make_settle(
            hold, sheet=sheet, cost_usd=Decimal("0.0006"), raw_usage={"é": [1, None]}, usage_flags=["a", "b"]
        )


@pytest.fixture
def books() -> Books:
    return Books()


def _differences() -> list[str]:
    return [f"{each.check}: {each.line}" for each in verify.differences()]


def _archive(tmp_path: Path) -> ArchivedMonth:
    return archive.archive(month=MARCH, folder=tmp_path, now=NOW)


def _exists() -> bool:
    return any(each.month == MARCH and each.dropped_at is None for each in partitions.partitions())


def test_every_month_is_listed_with_its_calls_and_size(books: Books) -> None:
    found = {each.month: each for each in partitions.partitions(count=True)}
    assert (found[MARCH].calls, found[date(2024, 4, 1)].calls, found[None].calls) == (2, 2, 0)
    assert found[MARCH].size_bytes > 0
    assert (found[MARCH].state, found[None].state) == ("open", "default: must stay empty")


def test_months_are_made_ahead_once() -> None:
    before = {each.name for each in partitions.partitions()}
    made = partitions.create_ahead(months=14)
    after = {each.name for each in partitions.partitions()}
    assert made == len(after - before) > 8
    assert partitions.create_ahead(months=14) == 0


def test_a_call_without_a_month_raises_the_alarm(capsys: pytest.CaptureFixture[str]) -> None:
    assert partitions.strays() is None
    call = factories.make_call(id=None, key=factories.make_key())
    stray = request_id_at(datetime(2021, 1, 1, tzinfo=UTC))
    factories.make_call(id=type(stray)(int=stray.int | 1), key=call.key)
    assert "default partition" in (partitions.strays() or "")
    with pytest.raises(CommandError, match="default partition"):
        call_command("partitions")


def test_the_documented_way_gives_a_stray_call_its_month() -> None:
    sheet = factories.make_sheet()
    stray = settle_at(
        datetime(2030, 5, 5, tzinfo=UTC), key=factories.make_key(), model=sheet.model, sheet=sheet.pk,
        cost_usd=Decimal("0.0006"),
    )  # fmt: skip
    assert partitions.strays() is not None
    page = (Path(__file__).parents[2] / "docs" / "operating.md").read_text()
    [statements] = re.findall(r"```sql\nBEGIN;\n(.*ATTACH PARTITION.*?)COMMIT;\n```", page, re.DOTALL)
    with connection.cursor() as cursor:
        cursor.execute(statements)
        cursor.execute("SELECT tableoid::regclass::text FROM ledger_call WHERE id = %s", [stray.pk])
        assert cursor.fetchone() == ("ledger_call_2030_05",)
    assert partitions.strays() is None
    assert _differences() == []


def test_an_archive_holds_every_column_of_every_call(books: Books, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    row = _archive(tmp_path)
    assert (row.calls, row.sha256) == (2, archive.sha256_of(Path(row.path)))
    table = pq.read_table(row.path)
    assert set(table.column_names) == {field.column for field in Call._meta.concrete_fields} | {"row_bytes"}
    assert table["id"].to_pylist() == sorted(str(hold.id) for hold in (books.march, books.late))
    assert table["cost_usd"].to_pylist() == [Decimal("0.0006")] * 2
    assert table["usage_flags"].to_pylist() == [["a", "b"]] * 2


def test_calls_beyond_one_chunk_are_archived_too(
    books: Books, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "_CHUNK", 1)
    assert _archive(tmp_path).calls == 2


def test_a_batch_hash_can_be_recomputed_from_the_archive_alone(books: Books, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    table = pq.read_table(_archive(tmp_path).path, filters=[("batch_seq", "=", 1)])
    [row] = table["row_bytes"].to_pylist()
    with connection.cursor() as cursor:
        cursor.execute("SELECT previous_hash, hash FROM ledger_batch WHERE writer_id = %s AND seq = 1", [books.pen.id])
        previous, wanted = (bytes(value) for value in cursor.fetchone())
    assert hashlib.sha256(b"\x01" + previous + row).digest() == wanted


def test_after_a_drop_the_books_still_add_up(books: Books, tmp_path: Path) -> None:
    assert _differences() == []
    _archive(tmp_path)
    archive.drop(month=MARCH, now=NOW)
    assert not _exists()
    assert set(Call.objects.values_list("pk", flat=True)) == {books.early.id, books.april.id}
    assert _differences() == []
    assert verify.differences(verify.month(datetime(2024, 3, 1, tzinfo=UTC))) == []


def test_after_a_drop_a_changed_sum_is_still_seen(books: Books, tmp_path: Path) -> None:
    _archive(tmp_path)
    archive.drop(month=MARCH, now=NOW)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE ledger_dailyspend SET cost_usd = cost_usd + 1 WHERE day = '2024-03-31' AND slot > 0")
    LimitWindow.objects.update(used=Decimal("77"))
    found = _differences()
    assert any(line.startswith("1 rollups: rollup 2024-03-31") for line in found)
    assert any(line.startswith("1 windows") for line in found)


def test_of_a_batch_across_the_months_end_the_rows_are_kept_and_of_a_whole_one_the_count(
    books: Books, tmp_path: Path
) -> None:
    _archive(tmp_path)
    archive.drop(month=MARCH, now=NOW)
    kept = {row.seq: row for row in ArchivedBatch.objects.all()}
    assert {seq: (row.count, row.positions) for seq, row in kept.items()} == {1: (1, None), 2: (1, [1])}
    assert ArchivedWindow.objects.get().used == Decimal("0.1012")
    rollup = ArchivedRollup.objects.get()
    assert (rollup.calls, rollup.cost_usd, rollup.adjustments_usd) == (2, Decimal("0.0012"), Decimal("0.1"))


def test_what_is_kept_of_a_dropped_month_is_final(books: Books, tmp_path: Path) -> None:
    _archive(tmp_path)
    archive.drop(month=MARCH, now=NOW)
    for table in ("archivedrollup", "archivedwindow", "archivedbatch", "archivedmonth"):
        for what in ("DELETE FROM {}", "UPDATE {} SET month = month", "TRUNCATE {}"):
            with pytest.raises(Error, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(what.format(f"ledger_{table}"))


def test_a_month_that_is_not_archived_is_not_dropped(books: Books) -> None:
    with pytest.raises(archive.ArchiveError, match="is not archived"):
        archive.drop(month=MARCH, now=NOW)
    assert _exists()


def test_another_file_than_the_archived_one_drops_nothing(books: Books, tmp_path: Path) -> None:
    row = _archive(tmp_path)
    Path(row.path).write_bytes(Path(row.path).read_bytes() + b"x")
    with pytest.raises(archive.ArchiveError, match="is not the file"):
        archive.drop(month=MARCH, now=NOW)
    Path(row.path).unlink()
    with pytest.raises(archive.ArchiveError, match="is not the file"):
        archive.drop(month=MARCH, now=NOW)
    assert _exists()


def test_a_file_that_was_moved_can_be_named(books: Books, tmp_path: Path) -> None:
    row = _archive(tmp_path)
    moved = Path(row.path).rename(tmp_path / "elsewhere.parquet")
    archive.drop(month=MARCH, now=NOW, path=moved)
    assert not _exists()


def test_a_call_that_came_after_the_archive_keeps_the_month(books: Books, tmp_path: Path) -> None:
    _archive(tmp_path)
    hold = books._hold(IN_MARCH)
    with pytest.raises(archive.ArchiveError, match="still open"):
        archive.drop(month=MARCH, now=NOW)
    books.pen.write(settles=[make_settle(hold, usage_source="none", meters={}, cost_usd=Decimal(0))])
    with pytest.raises(archive.ArchiveError, match="differs from the table"):
        archive.drop(month=MARCH, now=NOW)
    assert _exists()


def test_books_that_are_wrong_are_not_archived(books: Books, tmp_path: Path) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE ledger_dailyspend SET calls = calls + 1 WHERE day = '2024-03-31'")
    with pytest.raises(archive.ArchiveError, match="are wrong: rollup 2024-03-31"):
        _archive(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_differs_from_the_table_is_not_recorded(
    books: Books, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = archive.file_rows

    def wrong(path: Path) -> Any:
        for row in real(path):
            yield (*row[:-1], row[-1] + b"!")

    monkeypatch.setattr(archive, "file_rows", wrong)
    with pytest.raises(archive.ArchiveError, match="differs from the table"):
        _archive(tmp_path)
    assert not ArchivedMonth.objects.exists()
    assert list(tmp_path.iterdir()) == []


def test_the_month_that_runs_cannot_be_archived(tmp_path: Path) -> None:
    with pytest.raises(archive.ArchiveError, match="is not over"):
        archive.archive(month=date(2026, 11, 1), folder=tmp_path, now=NOW)
    with pytest.raises(archive.ArchiveError, match="no partition"):
        archive.archive(month=date(1999, 1, 1), folder=tmp_path, now=NOW)


def test_the_command_archives_and_drops(books: Books, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("partitions", archive="2024-03", dir=str(tmp_path))
    assert "2 calls in" in capsys.readouterr().out
    call_command("partitions", drop="2024-03")
    call_command("partitions")
    assert "dropped" in capsys.readouterr().out
    with pytest.raises(CommandError, match="already"):
        call_command("partitions", drop="2024-03")


# --- back again ---


@pytest.fixture
def dropped(books: Books, tmp_path: Path) -> ArchivedMonth:
    _archive(tmp_path)
    # As in a transaction of its own: nothing waits to be checked when the triggers are switched.
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    return archive.drop(month=MARCH, now=NOW)


def _rows_of_march() -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT c.*, ledger_call_bytes(c.*) FROM ledger_call_2024_03 c ORDER BY id")
        return [tuple(bytes(each) if isinstance(each, memoryview) else each for each in row) for row in cursor]


def test_a_restored_month_is_as_it_was(books: Books, tmp_path: Path) -> None:
    before = _rows_of_march()
    _archive(tmp_path)
    archive.drop(month=MARCH, now=NOW)
    row = restore.restore(month=MARCH)
    assert (row.calls, row.dropped_at, len(before)) == (2, None, 2)
    assert _rows_of_march() == before
    assert _differences() == []
    for table in (ArchivedBatch, ArchivedRollup, ArchivedWindow):
        assert not table.objects.exists()
    assert {each.month: each.state for each in partitions.partitions()}[MARCH] == "archived"


def test_a_restored_month_can_be_adjusted_and_dropped_again(dropped: ArchivedMonth, books: Books) -> None:
    restore.restore(month=MARCH)
    Adjustment.objects.create(
        call_id=books.late.id, delta_usd=Decimal("0.2"), counted_delta_usd=Decimal("0.2"), reason="manual"
    )
    assert _differences() == []
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    archive.drop(month=MARCH, now=NOW)
    assert ArchivedRollup.objects.get().adjustments_usd == Decimal("0.3")
    assert _differences() == []


def test_a_restored_month_and_what_is_kept_of_others_are_as_final_as_before(dropped: ArchivedMonth) -> None:
    restore.restore(month=MARCH)
    for table in ("call_2024_03", "archivedmonth"):
        for what in ("DELETE FROM {}", "TRUNCATE {}"):
            with pytest.raises(Error, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(what.format(f"ledger_{table}"))
    archive.drop(month=MARCH, now=NOW)
    for table in ("archivedrollup", "archivedwindow", "archivedbatch", "archivedmonth"):
        with pytest.raises(Error, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"UPDATE ledger_{table} SET month = month")


def test_only_a_dropped_month_and_only_its_own_file_come_back(books: Books, tmp_path: Path) -> None:
    with pytest.raises(archive.ArchiveError, match="was not dropped"):
        restore.restore(month=MARCH)
    row = _archive(tmp_path)
    archive.drop(month=MARCH, now=NOW)
    moved = Path(row.path).rename(tmp_path / "elsewhere.parquet")
    with pytest.raises(archive.ArchiveError, match="is not the file"):
        restore.restore(month=MARCH)
    other = tmp_path / "other.parquet"
    other.write_bytes(moved.read_bytes() + b"x")
    with pytest.raises(archive.ArchiveError, match="is not the file"):
        restore.restore(month=MARCH, path=other)
    restore.restore(month=MARCH, path=moved)
    assert _exists()


def _nothing_came_back() -> None:
    assert not _exists()
    assert ArchivedRollup.objects.count() == 1
    assert _differences() == []


def test_a_row_that_is_not_as_it_was_brings_nothing_back(
    dropped: ArchivedMonth, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = archive.file_rows, [0]

    def wrong(path: Path) -> Any:
        """Another cost, the first time the file is read: what is filled in differs from what is compared."""
        calls[0] += 1
        for row in real(path):
            yield tuple(value + 1 if value == Decimal("0.0006") and calls[0] == 1 else value for value in row)

    monkeypatch.setattr(archive, "file_rows", wrong)
    with pytest.raises(archive.ArchiveError, match="differs from the table"):
        restore.restore(month=MARCH)
    _nothing_came_back()


def test_a_row_too_few_brings_nothing_back(dropped: ArchivedMonth, monkeypatch: pytest.MonkeyPatch) -> None:
    real = archive.file_rows

    def short(path: Path) -> Any:
        rows = real(path)
        yield next(rows)

    monkeypatch.setattr(archive, "file_rows", short)
    with pytest.raises(archive.ArchiveError, match="holds 1 calls, 2 were archived"):
        restore.restore(month=MARCH)
    _nothing_came_back()


def test_books_that_would_be_wrong_bring_nothing_back(dropped: ArchivedMonth) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE ledger_dailyspend SET calls = calls + 1 WHERE day = '2024-03-31' AND slot > 0")
    with pytest.raises(archive.ArchiveError, match="the books are wrong: rollup 2024-03-31"):
        restore.restore(month=MARCH)
    assert not _exists()
    assert ArchivedRollup.objects.count() == 1


def test_a_call_of_the_month_that_lies_elsewhere_is_named(dropped: ArchivedMonth) -> None:
    stray = request_id_at(IN_MARCH)
    factories.make_call(id=type(stray)(int=stray.int | 1))
    with pytest.raises(archive.ArchiveError, match="default partition"):
        restore.restore(month=MARCH)
    assert not _exists()


def test_a_file_of_other_columns_is_named(dropped: ArchivedMonth, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "columns_of", lambda path: ["id", "colour"])
    with pytest.raises(archive.ArchiveError, match=r"other columns than the calls have now: .*colour"):
        restore.restore(month=MARCH)
    assert not _exists()


def test_the_command_restores(dropped: ArchivedMonth, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("partitions", restore="2024-03")
    assert capsys.readouterr().out == "2024-03 is back: 2 calls, each as it was archived; the books are right.\n"
    with pytest.raises(CommandError, match="was not dropped"):
        call_command("partitions", restore="2024-03")
