"""What the database notes about the ledger while it works, in the same transactions: a schema of the harness's own.

Invariants that must hold at every instant cannot be read off the books afterwards. The triggers only add rows.
"""

from __future__ import annotations

AUDIT = """
CREATE SCHEMA faults;
CREATE TABLE faults.held (
  id uuid, request_id uuid, writer_id uuid, sheet_id bigint, bound_usd numeric, at timestamptz, by_live boolean);
CREATE TABLE faults.batches (writer_id uuid, seq bigint, at timestamptz, by_live boolean);
CREATE TABLE faults.overspent (
  limit_id bigint, used numeric, held numeric, amount numeric, at timestamptz DEFAULT clock_timestamp());
CREATE TABLE faults.lowered (limit_id bigint, at timestamptz DEFAULT clock_timestamp());

CREATE FUNCTION faults.note_hold() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO faults.held SELECT NEW.id, NEW.request_id, NEW.writer_id, NEW.price_sheet_id, NEW.bound_usd,
    clock_timestamp(), (SELECT state = 'live' FROM public.ledger_writer w WHERE w.id = NEW.writer_id);
  RETURN NULL;
END $$;
CREATE FUNCTION faults.note_batch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO faults.batches SELECT NEW.writer_id, NEW.seq, clock_timestamp(),
    (SELECT state = 'live' FROM public.ledger_writer w WHERE w.id = NEW.writer_id);
  RETURN NULL;
END $$;
-- Only what grows can overspend: a limit that was lowered below its use stays there until its calls have ended.
CREATE FUNCTION faults.note_window() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO faults.overspent (limit_id, used, held, amount)
    SELECT l.id, NEW.used, NEW.held, l.amount FROM public.ledger_limit l
    WHERE l.id = NEW.limit_id AND l.action = 'block' AND NEW.used + NEW.held > l.amount;
  RETURN NULL;
END $$;
CREATE FUNCTION faults.note_lowered() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO faults.lowered (limit_id) VALUES (NEW.id);
  RETURN NULL;
END $$;
CREATE TRIGGER faults_hold AFTER INSERT ON ledger_hold FOR EACH ROW EXECUTE FUNCTION faults.note_hold();
CREATE TRIGGER faults_batch AFTER INSERT ON ledger_batch FOR EACH ROW EXECUTE FUNCTION faults.note_batch();
CREATE TRIGGER faults_window AFTER UPDATE ON ledger_limitwindow FOR EACH ROW
  WHEN (NEW.used + NEW.held > OLD.used + OLD.held) EXECUTE FUNCTION faults.note_window();
CREATE TRIGGER faults_lowered AFTER UPDATE OF amount ON ledger_limit FOR EACH ROW
  WHEN (NEW.amount < OLD.amount) EXECUTE FUNCTION faults.note_lowered();
"""
