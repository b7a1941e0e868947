-- What stays of dropped months is as fixed as the calls were.
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON ledger_archivedrollup
  FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON ledger_archivedwindow
  FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON ledger_archivedbatch
  FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();
-- A month may be archived anew while its calls are there; once they are gone, its row is all there is.
CREATE TRIGGER append_only BEFORE DELETE ON ledger_archivedmonth
  FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();
CREATE TRIGGER append_only_dropped BEFORE UPDATE ON ledger_archivedmonth
  FOR EACH ROW WHEN (OLD.dropped_at IS NOT NULL) EXECUTE FUNCTION ledger_refuse_change();
SELECT ledger_protect('ledger_archivedrollup');
SELECT ledger_protect('ledger_archivedwindow');
SELECT ledger_protect('ledger_archivedbatch');
SELECT ledger_protect('ledger_archivedmonth');

-- Keep the sums of the calls of [p_first, p_last) by rollup group, by window and by batch. Called where they are dropped.
CREATE FUNCTION ledger_summarise_month(p_month date, p_first uuid, p_last uuid) RETURNS void LANGUAGE sql AS $$
  WITH parts AS (
    SELECT ledger_id_day(id) AS day, user_id, team_id, key_id, model_id, provider_id, outcome, 1 AS calls,
      (cost_usd IS NULL)::int AS unpriced, input_tokens, cache_read_tokens, cache_write_tokens, output_tokens,
      reasoning_tokens, coalesce(cost_usd, 0) AS cost, 0::numeric AS adjusted
    FROM ledger_call WHERE id >= p_first AND id < p_last
    UNION ALL
    SELECT ledger_id_day(c.id), c.user_id, c.team_id, c.key_id, c.model_id, c.provider_id, c.outcome, 0,
      -a.settles_unknown::int, 0, 0, 0, 0, 0, 0, a.delta_usd
    FROM ledger_adjustment a JOIN ledger_call c ON c.id = a.call_id WHERE c.id >= p_first AND c.id < p_last
  )
  INSERT INTO ledger_archivedrollup (month, day, user_id, team_id, key_id, model_id, provider_id, outcome, calls,
    unpriced_calls, input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens, cost_usd,
    adjustments_usd)
  SELECT p_month, day, user_id, team_id, key_id, model_id, provider_id, outcome, sum(calls), sum(unpriced),
    sum(input_tokens), sum(cache_read_tokens), sum(cache_write_tokens), sum(output_tokens), sum(reasoning_tokens),
    sum(cost), sum(adjusted)
  FROM parts GROUP BY 2, 3, 4, 5, 6, 7, 8;

  WITH counted AS (
    SELECT t.id AS window_id, CASE l.metric WHEN 'usd' THEN c.counted_usd WHEN 'tokens' THEN c.counted_tokens
      WHEN 'requests' THEN 1 ELSE 0 END AS used
    FROM ledger_call c CROSS JOIN unnest(c.windows) AS t(id) JOIN ledger_limitwindow w ON w.id = t.id
      JOIN ledger_limit l ON l.id = w.limit_id WHERE c.id >= p_first AND c.id < p_last
    UNION ALL
    SELECT t.id, CASE l.metric WHEN 'usd' THEN a.counted_delta_usd WHEN 'tokens' THEN a.counted_delta_tokens ELSE 0 END
    FROM ledger_adjustment a JOIN ledger_call c ON c.id = a.call_id CROSS JOIN unnest(c.windows) AS t(id)
      JOIN ledger_limitwindow w ON w.id = t.id JOIN ledger_limit l ON l.id = w.limit_id
    WHERE c.id >= p_first AND c.id < p_last
  )
  INSERT INTO ledger_archivedwindow (month, window_id, used)
  SELECT p_month, window_id, sum(used) FROM counted GROUP BY window_id;

  INSERT INTO ledger_archivedbatch (month, writer_id, seq, count, positions, rows)
  SELECT p_month, c.writer_id, c.batch_seq, count(*),
    CASE WHEN count(*) < b.count THEN array_agg(c.position ORDER BY c.position) END,
    CASE WHEN count(*) < b.count THEN array_agg(ledger_call_bytes(c.*) ORDER BY c.position) END
  FROM ledger_call c JOIN ledger_batch b ON b.writer_id = c.writer_id AND b.seq = c.batch_seq
  WHERE c.id >= p_first AND c.id < p_last GROUP BY c.writer_id, c.batch_seq, b.count;
$$;

-- Making next month's partition is the owner's right; the application may have it done without being the owner.
DO $$
BEGIN
  EXECUTE format('ALTER FUNCTION ledger_make_partitions(timestamptz, int) SECURITY DEFINER SET search_path = %I, pg_temp',
    current_schema());
END $$;

-- What the application's role needs, and nothing that could bend the books: no UPDATE, DELETE or TRUNCATE where rows are
-- final, no ownership anywhere, so it can neither drop a table nor switch a trigger off. Run by the owner, again after
-- each migration.
CREATE FUNCTION ledger_grant_application(p_role text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  t record;
  final text[] := ARRAY['ledger_adjustment', 'ledger_anchor', 'ledger_batch'];
BEGIN
  EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', current_schema(), p_role);
  FOR t IN SELECT c.relname AS name, c.relname = ANY (final) OR c.relname ~ '(^ledger_call(_|$)|event$)' AS is_final,
      c.relname ~ '^(ledger_archived|django_migrations)' AS is_read_only
    FROM pg_class c WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')
  LOOP
    EXECUTE format('REVOKE ALL ON %I FROM %I', t.name, p_role);
    EXECUTE format('GRANT %s ON %I TO %I', CASE WHEN t.is_read_only THEN 'SELECT' WHEN t.is_final THEN 'SELECT, INSERT'
      ELSE 'SELECT, INSERT, UPDATE, DELETE' END, t.name, p_role);
  END LOOP;
  EXECUTE format('GRANT USAGE ON ALL SEQUENCES IN SCHEMA %I TO %I', current_schema(), p_role);
  -- Partitions that come later: calls go in through ledger_call, whose rights decide; reading one by its name is for reports.
  EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA %I GRANT SELECT ON TABLES TO %I', current_schema(), p_role);
END $$;
REVOKE ALL ON FUNCTION ledger_grant_application(text) FROM PUBLIC;
