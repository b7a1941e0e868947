"""Check 3: the chain of batches, the hashes over the calls, and the anchors that were taken of the heads."""

from __future__ import annotations

from collections.abc import Iterator

from ledger.verify.scope import Scope, rows

_LINKS = """
WITH ordered AS (
  SELECT writer_id, seq, count, previous_hash, hash,
    lag(hash, 1, decode(repeat('00', 32), 'hex')) OVER w AS should_follow, row_number() OVER w AS place
  FROM ledger_batch WINDOW w AS (PARTITION BY writer_id ORDER BY seq)
), last AS (
  SELECT DISTINCT ON (writer_id) writer_id, hash, count(*) OVER (PARTITION BY writer_id) AS batches
  FROM ledger_batch ORDER BY writer_id, seq DESC
)
SELECT writer_id, seq, 'does not follow the batch before it' FROM ordered
  WHERE place <> seq OR previous_hash <> should_follow
UNION ALL
SELECT w.id, w.batches, 'is not the last of its writer''s row'
  FROM ledger_writer w LEFT JOIN last l ON l.writer_id = w.id
  WHERE w.batches <> coalesce(l.batches, 0) OR w.head <> coalesce(l.hash, decode(repeat('00', 32), 'hex'))
ORDER BY 1, 2
"""
# Within a part of the books, a batch that the part's edge cuts shows fewer calls than it has: it is left to the whole.
# Of a batch that was dropped whole all calls are in the archive; of one cut by a month's end the rows are kept.
_HASHES = """
WITH here AS (
  SELECT c.writer_id, c.batch_seq AS seq, c.position, ledger_call_bytes(c.*) AS bytes
  FROM ledger_call c WHERE c.id >= %(first)s AND c.id < %(last)s AND c.batch_seq %% %(parts)s = %(part)s
  UNION ALL
  SELECT a.writer_id, a.seq, r.position, r.bytes
  FROM ledger_archivedbatch a CROSS JOIN unnest(a.positions, a.rows) AS r(position, bytes)
  WHERE a.seq %% %(parts)s = %(part)s
), found AS (
  SELECT writer_id, seq, count(*) AS count, string_agg(bytes, ''::bytea ORDER BY position) AS bytes
  FROM here GROUP BY 1, 2
  UNION ALL
  SELECT writer_id, seq, count, NULL FROM ledger_archivedbatch
  WHERE positions IS NULL AND seq %% %(parts)s = %(part)s
), recorded AS (
  SELECT writer_id, seq, count, previous_hash, hash FROM ledger_batch WHERE seq %% %(parts)s = %(part)s
)
SELECT coalesce(f.writer_id, b.writer_id), coalesce(f.seq, b.seq), f.count, b.count
FROM found f FULL JOIN recorded b ON b.writer_id = f.writer_id AND b.seq = f.seq
WHERE b.seq IS NULL OR f.count > b.count
  OR (f.count = b.count AND b.hash <> ledger_chain_hash(b.previous_hash, f.bytes))
  OR (%(whole)s AND f.count IS DISTINCT FROM b.count)
ORDER BY 1, 2
"""
_ANCHORS = """
SELECT a.taken_at, a.writer_id, a.seq, encode(a.head, 'hex'), encode(b.hash, 'hex')
FROM ledger_anchor a LEFT JOIN ledger_batch b ON b.writer_id = a.writer_id AND b.seq = a.seq
WHERE a.head IS DISTINCT FROM CASE WHEN a.seq = 0 THEN decode(repeat('00', 32), 'hex') ELSE b.hash END
ORDER BY a.taken_at, a.writer_id
"""


def links(scope: Scope) -> Iterator[str]:
    """Each writer's batches follow each other without a gap up to the head in the writer's row."""
    for writer, seq, what in rows(_LINKS):
        yield f"batch {seq} of writer {writer} {what}"


def hashes(scope: Scope) -> Iterator[str]:
    """Every batch's hash is that of the calls that are there."""
    for writer, seq, found, recorded in rows(_HASHES, {**scope._asdict(), "whole": scope.is_whole}):
        if found is None or recorded is None or found != recorded:
            yield f"batch {seq} of writer {writer}: {found or 0} calls found, {recorded or 0} recorded"
        else:
            yield f"batch {seq} of writer {writer}: its hash is not that of its calls"


def anchors(scope: Scope) -> Iterator[str]:
    """Every head that was anchored is on its writer's chain, at the place where it was."""
    for taken_at, writer, seq, head, there in rows(_ANCHORS):
        found = "there is no such batch" if there is None else f"it is {there[:16]}… now"
        yield f"anchor of {taken_at}: writer {writer} stood at batch {seq} with {head[:16]}…; {found}"
