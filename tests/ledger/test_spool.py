"""The spool: whole records come back, in order, whatever was torn; nobody takes the file of one who lives."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ledger.spool import Spool

RECORDS = [b'{"id": 1}', b"y", b"x" * 300, "\u00e9".encode() * 5]


def written(folder: Path, records: list[bytes]) -> Path:
    """The spool file of a process that is gone."""
    spool = Spool(folder=folder)
    for record in records:
        spool.append(record)
    (path,) = folder.glob("*.spool")
    data = path.read_bytes()
    spool.clear(len(records))
    spool.close()
    left = folder / "1-dead.spool"
    left.write_bytes(data)
    return left


def test_what_was_appended_is_read_in_order(tmp_path: Path) -> None:
    spool = Spool(folder=tmp_path)
    for record in RECORDS:
        spool.append(record)
    assert (spool.read(), spool.records) == (RECORDS, len(RECORDS))


def test_clearing_keeps_what_came_meanwhile(tmp_path: Path) -> None:
    spool = Spool(folder=tmp_path)
    for record in RECORDS:
        spool.append(record)
    spool.clear(2)
    assert (spool.read(), spool.records) == (RECORDS[2:], 2)
    spool.append(b"later")
    assert spool.read() == [*RECORDS[2:], b"later"]


def test_a_tail_torn_at_any_byte_loses_only_the_torn_record(tmp_path: Path) -> None:
    whole = written(tmp_path / "source", RECORDS).read_bytes()
    ends = [sum(8 + len(record) for record in RECORDS[: count + 1]) for count in range(len(RECORDS))]
    assert ends[-1] == len(whole)
    for cut in range(len(whole)):
        folder = tmp_path / str(cut)
        folder.mkdir()
        (folder / "1-dead.spool").write_bytes(whole[:cut])
        spool = Spool(folder=folder)
        kept = sum(end <= cut for end in ends)
        assert spool.adopt() == kept, cut
        assert spool.read() == RECORDS[:kept], cut
        spool.clear(kept)
        spool.close()


def test_a_flipped_bit_ends_the_spool_there(tmp_path: Path) -> None:
    whole = bytearray(written(tmp_path / "source", RECORDS).read_bytes())
    whole[8 + len(RECORDS[0]) + 8 + len(RECORDS[1]) + 8 + 20] ^= 1
    (tmp_path / "1-dead.spool").write_bytes(whole)
    spool = Spool(folder=tmp_path)
    assert spool.adopt() == 2
    assert spool.read() == RECORDS[:2]


def test_an_absurd_length_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "1-dead.spool").write_bytes(b"\xff\xff\xff\xff\0\0\0\0rest")
    assert Spool(folder=tmp_path).adopt() == 0


def test_the_file_of_a_living_process_is_left_alone(tmp_path: Path) -> None:
    living = Spool(folder=tmp_path)
    living.append(b"mine")
    assert Spool(folder=tmp_path).adopt() == 0
    assert living.read() == [b"mine"]


def test_what_was_adopted_is_gone_once_it_is_in_the_ledger(tmp_path: Path) -> None:
    left = written(tmp_path, RECORDS)
    spool = Spool(folder=tmp_path)
    assert spool.adopt() == len(RECORDS)
    # Where they lie, and for nobody else: a copy would need room on a disk that may have none.
    assert Spool(folder=tmp_path).adopt() == 0
    spool.clear(len(RECORDS))
    assert not left.exists()


def test_an_empty_spool_leaves_no_file(tmp_path: Path) -> None:
    spool = Spool(folder=tmp_path)
    spool.append(b"x")
    spool.clear(1)
    spool.close()
    assert list(tmp_path.glob("*.spool")) == []


def test_a_full_disk_leaves_no_half_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(folder=tmp_path)
    spool.append(b"first")

    def half(descriptor: int, data: bytes, offset: int) -> int:
        return real(descriptor, data[: len(data) // 2], offset)

    real = os.pwrite
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", half)
        with pytest.raises(OSError, match="short write"):
            spool.append(b"second")
    spool.append(b"third")
    assert (spool.read(), spool.records) == ([b"first", b"third"], 2)


def test_a_disk_that_cannot_even_be_cut_hides_no_later_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(folder=tmp_path)
    spool.append(b"first")

    def half(descriptor: int, data: bytes, offset: int) -> int:
        return real(descriptor, data[: len(data) // 2], offset)

    def refuse(*_: int) -> None:
        raise OSError(errno.EIO, "the disk is broken")

    real = os.pwrite
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", half)
        patch.setattr(os, "ftruncate", refuse)
        with pytest.raises(OSError, match="short write"):
            spool.append(b"a long second record, of which a half stays in the file")
    spool.append(b"third")
    left = tmp_path / "1-dead.spool"
    left.write_bytes(next(tmp_path.glob(f"{os.getpid()}-*.spool")).read_bytes())
    assert spool.read() == [b"first", b"third"]
    other = Spool(folder=tmp_path)
    assert other.adopt() == 2
    assert other.read() == [b"first", b"third"]


def test_what_was_settled_needs_no_room_to_be_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came meanwhile is not written anew: a full disk, or a death in between, would take it along."""
    spool = Spool(folder=tmp_path)
    for record in RECORDS:
        spool.append(record)
    monkeypatch.setattr(os, "pwrite", _full)
    monkeypatch.setattr(os, "write", _full)
    spool.clear(2)
    assert (spool.read(), spool.records) == (RECORDS[2:], 2)
    (path,) = tmp_path.glob("*.spool")
    assert path.read_bytes().endswith(RECORDS[-1])


def test_a_full_disk_does_not_keep_the_spool_of_a_dead_process_from_the_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = written(tmp_path, RECORDS)
    monkeypatch.setattr(os, "pwrite", _full)
    spool = Spool(folder=tmp_path)
    assert spool.adopt() == len(RECORDS)
    assert spool.read() == RECORDS
    spool.clear(len(RECORDS))
    assert not left.exists()


def _full(*_: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_file_that_cannot_be_made_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    spool = Spool(folder=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(OSError, match="No space"):
            spool.append(b"first")
    spool.append(b"second")
    assert spool.read() == [b"second"]


def test_reading_takes_as_many_as_are_asked_for_the_oldest_first(tmp_path: Path) -> None:
    written(tmp_path, RECORDS[:2])
    spool = Spool(folder=tmp_path)
    spool.append(b"mine")
    assert spool.adopt() == 2
    assert spool.read(1) == RECORDS[:1]
    spool.clear(1)
    assert (spool.read(5), spool.records) == ([RECORDS[1], b"mine"], 2)


def test_zeros_behind_the_last_record_are_no_records(tmp_path: Path) -> None:
    """A crash may leave a file longer than what was synced of it."""
    whole = written(tmp_path / "source", RECORDS[:1]).read_bytes()
    (tmp_path / "1-dead.spool").write_bytes(whole + bytes(4096))
    assert Spool(folder=tmp_path).adopt() == 1


def test_a_quarantined_record_is_kept_for_a_person(tmp_path: Path) -> None:
    spool = Spool(folder=tmp_path)
    spool.quarantine(b'{"a": 1}')
    spool.quarantine(b'{"b": 2}')
    assert (tmp_path / "quarantine.jsonl").read_bytes() == b'{"a": 1}\n{"b": 2}\n'
    assert spool.records == 0
