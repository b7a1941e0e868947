-- Anchors: where every writer's chain stood at an instant. Whoever rewrites a chain must also rewrite these rows, and the
-- log lines that went elsewhere.

-- Anchor the heads that moved since they were last anchored, unless that was less than `p_interval_s` ago. Returns the
-- new rows; none when it is too early or another process is at it.
CREATE OR REPLACE FUNCTION ledger_take_anchors(p_interval_s double precision) RETURNS SETOF ledger_anchor
LANGUAGE plpgsql AS $$
BEGIN
  IF NOT pg_try_advisory_xact_lock(hashtext('ledger_take_anchors')) THEN
    RETURN;
  END IF;
  IF EXISTS (SELECT FROM ledger_anchor
             WHERE taken_at > clock_timestamp() - make_interval(secs => p_interval_s)) THEN
    RETURN;
  END IF;
  RETURN QUERY INSERT INTO ledger_anchor (taken_at, writer_id, seq, head)
    SELECT clock_timestamp(), w.id, w.batches, w.head FROM ledger_writer w
    WHERE w.batches > coalesce((SELECT max(a.seq) FROM ledger_anchor a WHERE a.writer_id = w.id), 0)
    ORDER BY w.id RETURNING *;
END $$;

DROP TRIGGER IF EXISTS append_only ON ledger_anchor;
DROP TRIGGER IF EXISTS append_only_truncate ON ledger_anchor;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON ledger_anchor
  FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();
SELECT ledger_protect('ledger_anchor');
