-- The two functions that write the ledger, and the one that calls both in one transaction.
--
-- ledger_write(writer, seq, digest, lease_s, settles, holds)
--   1. the writer's row: fence, order, replay (compare-and-swap on seq; a repeat returns the stored answer)
--   2. every limit window the batch touches is locked, in id order: writers cannot deadlock
--   3. settle_batch: what ended gives back what it held, then
--   4. hold_batch: what begins reserves its upper bound, first in, first out.
-- Windows are created before they are locked; amounts and periods are read here, never passed in.

-- The start of the period that `p_at` lies in, in UTC.
CREATE OR REPLACE FUNCTION ledger_period_start(p_period text, p_at timestamptz) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE p_period
    WHEN 'total' THEN to_timestamp(0)
    ELSE date_trunc(p_period, p_at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' END
$$;

CREATE OR REPLACE FUNCTION ledger_period_end(p_period text, p_start timestamptz) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN p_period = 'total' THEN NULL
    ELSE ((p_start AT TIME ZONE 'UTC') + ('1 ' || p_period)::interval) AT TIME ZONE 'UTC' END
$$;

-- The bytes of a call that its batch's hash covers: every fact of the row, in a fixed order. Version 1.
CREATE OR REPLACE FUNCTION ledger_call_bytes(c ledger_call) RETURNS bytea
LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT convert_to(ROW(
    c.id, c.request_id, c.attempt, c.position, c.key_id, c.user_id, c.team_id, c.model_id, c.provider_id,
    c.tags, c.surface, c.requested_name, c.served_name, c.upstream_request_id, c.outcome, c.http_status, c.error_code,
    c.streamed, (extract(epoch FROM c.started_at) * 1000000)::bigint, (extract(epoch FROM c.finished_at) * 1000000)::bigint,
    c.first_token_ms, c.duration_ms, c.input_tokens, c.cache_read_tokens, c.cache_write_tokens, c.output_tokens,
    c.reasoning_tokens, c.meters, c.raw_usage, c.usage_source, c.usage_flags, c.service_tier, c.speed, c.region,
    c.variant, c.price_sheet_id, c.cost_usd, c.unpriced_reason, c.cost_source, c.stated_cost_usd, c.counted_usd,
    c.counted_tokens, c.windows)::text, 'UTF8')
$$;

CREATE OR REPLACE FUNCTION ledger_chain_hash(p_previous bytea, p_rows bytea) RETURNS bytea
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT sha256('\x01'::bytea || p_previous || p_rows) $$;

-- What `p_metric` counts of a hold or a call.
CREATE OR REPLACE FUNCTION ledger_need(p_metric text, p_usd numeric, p_tokens bigint) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE p_metric WHEN 'usd' THEN coalesce(p_usd, 0) WHEN 'tokens' THEN p_tokens::numeric ELSE 1::numeric END
$$;

-- Insert a call for every settle whose hold is still there, move held to used, add to the rollups.
-- Returns the batch's new head, or NULL when no call was inserted.
CREATE OR REPLACE FUNCTION settle_batch(
  p_writer uuid, p_slot int, p_batch bigint, p_head bytea, p_settles jsonb
) RETURNS bytea LANGUAGE plpgsql AS $$
DECLARE
  rows_bytes bytea;
  inserted int;
  late uuid[];
  new_head bytea;
BEGIN
  WITH s AS (
    SELECT * FROM ROWS FROM (jsonb_to_recordset(p_settles) AS (
      id uuid, served_name text, upstream_request_id text, outcome text, http_status int, error_code text,
      started_at timestamptz, finished_at timestamptz, first_token_ms int, duration_ms int,
      input_tokens bigint, cache_read_tokens bigint, cache_write_tokens bigint, output_tokens bigint,
      reasoning_tokens bigint, meters jsonb, raw_usage jsonb, usage_source text, usage_flags jsonb,
      service_tier text, speed text, region text, variant text,
      cost_usd numeric, unpriced_reason text, cost_source text, stated_cost_usd numeric, sheet bigint
    )) WITH ORDINALITY AS r
  ), gone AS (
    DELETE FROM ledger_hold h USING s WHERE h.id = s.id RETURNING h.*
  ), ended AS (
    SELECT s.*, g.request_id, g.attempt, g.key_id, g.user_id, g.team_id, g.model_id, g.provider_id, g.tags, g.surface,
      g.requested_name, g.streamed,
      -- A provider that served another model than was asked for is paid that model's price.
      coalesce(s.sheet, g.price_sheet_id) AS price_sheet_id, g.windows, g.bound_usd, g.bound_tokens,
      row_number() OVER (ORDER BY s.ordinality) AS place,
      -- An unknown cost counts as its upper bound until somebody settles it.
      coalesce(s.cost_usd, g.bound_usd, 0) AS counted_usd,
      CASE WHEN s.cost_usd IS NULL AND s.usage_source = 'none' THEN g.bound_tokens
           ELSE s.input_tokens + s.output_tokens END AS counted_tokens
    FROM s JOIN gone g USING (id)
  ), inserted AS (
    INSERT INTO ledger_call AS c (
      id, request_id, attempt, writer_id, batch_seq, position, key_id, user_id, team_id, model_id, provider_id, tags,
      surface, requested_name, served_name, upstream_request_id, outcome, http_status, error_code, streamed, started_at,
      finished_at, first_token_ms, duration_ms, input_tokens, cache_read_tokens, cache_write_tokens, output_tokens,
      reasoning_tokens, meters, raw_usage, usage_source, usage_flags, service_tier, speed, region, variant,
      price_sheet_id, cost_usd, unpriced_reason, cost_source, stated_cost_usd, counted_usd, counted_tokens, windows)
    SELECT e.id, e.request_id, e.attempt, p_writer, p_batch, e.place, e.key_id, e.user_id, e.team_id, e.model_id,
      e.provider_id, e.tags, e.surface, e.requested_name, e.served_name, e.upstream_request_id, e.outcome, e.http_status,
      e.error_code, e.streamed, e.started_at, e.finished_at, e.first_token_ms, e.duration_ms, e.input_tokens,
      e.cache_read_tokens, e.cache_write_tokens, e.output_tokens, e.reasoning_tokens, e.meters, e.raw_usage,
      e.usage_source, ARRAY(SELECT jsonb_array_elements_text(e.usage_flags)), e.service_tier, e.speed, e.region,
      e.variant, e.price_sheet_id, e.cost_usd, e.unpriced_reason, e.cost_source, e.stated_cost_usd, e.counted_usd,
      e.counted_tokens, e.windows
    FROM ended e ORDER BY e.place
    RETURNING c.position, ledger_call_bytes(c.*) AS bytes
  ), moved AS (
    UPDATE ledger_limitwindow w SET held = w.held - d.held, used = w.used + d.used
    FROM (
      SELECT touched.id, sum(ledger_need(l.metric, e.bound_usd, e.bound_tokens)) AS held,
        sum(CASE l.metric WHEN 'concurrency' THEN 0 ELSE ledger_need(l.metric, e.counted_usd, e.counted_tokens) END)
          AS used
      FROM ended e CROSS JOIN unnest(e.windows) AS touched(id)
        JOIN ledger_limitwindow x ON x.id = touched.id JOIN ledger_limit l ON l.id = x.limit_id
      GROUP BY touched.id
    ) d WHERE w.id = d.id
  ), rolled AS (
    INSERT INTO ledger_dailyspend AS r (
      day, user_id, team_id, key_id, model_id, provider_id, outcome, slot, calls, unpriced_calls, input_tokens,
      cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens, cost_usd)
    SELECT ledger_id_day(e.id), e.user_id, e.team_id, e.key_id, e.model_id, e.provider_id, e.outcome, p_slot, count(*),
      count(*) FILTER (WHERE e.cost_usd IS NULL), sum(e.input_tokens), sum(e.cache_read_tokens),
      sum(e.cache_write_tokens), sum(e.output_tokens), sum(e.reasoning_tokens), coalesce(sum(e.cost_usd), 0)
    FROM ended e GROUP BY 1, 2, 3, 4, 5, 6, 7 ORDER BY 1, 2, 3, 4, 5, 6, 7
    ON CONFLICT ON CONSTRAINT dailyspend_once DO UPDATE SET
      calls = r.calls + excluded.calls, unpriced_calls = r.unpriced_calls + excluded.unpriced_calls,
      input_tokens = r.input_tokens + excluded.input_tokens,
      cache_read_tokens = r.cache_read_tokens + excluded.cache_read_tokens,
      cache_write_tokens = r.cache_write_tokens + excluded.cache_write_tokens,
      output_tokens = r.output_tokens + excluded.output_tokens,
      reasoning_tokens = r.reasoning_tokens + excluded.reasoning_tokens, cost_usd = r.cost_usd + excluded.cost_usd
  )
  SELECT count(*), string_agg(i.bytes, ''::bytea ORDER BY i.position),
    (SELECT array_agg(s.id) FROM s WHERE NOT EXISTS (SELECT FROM gone g WHERE g.id = s.id))
  INTO inserted, rows_bytes, late FROM inserted i;

  IF jsonb_path_exists(p_settles, '$[*].claim ? (@ != null)') THEN
    PERFORM ledger_resolve_claims(p_settles);
  END IF;
  IF late IS NOT NULL THEN
    PERFORM ledger_settle_late(late, p_settles);
  END IF;
  IF inserted = 0 THEN
    RETURN NULL;
  END IF;
  new_head := ledger_chain_hash(p_head, rows_bytes);
  INSERT INTO ledger_batch (writer_id, seq, count, previous_hash, hash, committed_at)
    VALUES (p_writer, p_batch, inserted, p_head, new_head, clock_timestamp());
  RETURN new_head;
END $$;

-- Settles that find no hold. Swept before: the truth becomes an adjustment. Settled before: nothing to do.
CREATE OR REPLACE FUNCTION ledger_settle_late(p_late uuid[], p_settles jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE stranger uuid;
BEGIN
  SELECT l.id INTO stranger FROM unnest(p_late) AS l(id)
    WHERE NOT EXISTS (SELECT FROM ledger_call c WHERE c.id = l.id) LIMIT 1;
  IF stranger IS NOT NULL THEN
    RAISE EXCEPTION 'no hold and no call with id %: it was never held here', stranger USING ERRCODE = 'TB003';
  END IF;
  INSERT INTO ledger_adjustment (
    call_id, delta_usd, settles_unknown, counted_delta_usd, counted_delta_tokens, reason, note, reference, details,
    price_sheet_id)
  -- Whatever was said of the call in between, its cost and what it counts for end at what the provider reported.
  SELECT c.id, CASE WHEN s.cost_usd IS NULL THEN 0 ELSE s.cost_usd - coalesce(c.cost_usd, 0) - before.delta END,
    s.cost_usd IS NOT NULL AND c.cost_usd IS NULL AND NOT before.settled,
    CASE WHEN s.cost_usd IS NULL THEN 0 ELSE s.cost_usd - c.counted_usd - before.counted_usd END,
    CASE WHEN s.usage_source = 'none' AND s.cost_usd IS NULL THEN 0
         ELSE s.input_tokens + s.output_tokens - c.counted_tokens - before.counted_tokens END,
    'late_settlement', 'the outcome arrived after the hold was swept', '', e.settle, c.price_sheet_id
  FROM jsonb_array_elements(p_settles) AS e(settle)
    CROSS JOIN LATERAL jsonb_to_record(e.settle)
      AS s(id uuid, cost_usd numeric, input_tokens bigint, output_tokens bigint, usage_source text)
    JOIN ledger_call c ON c.id = s.id
    CROSS JOIN LATERAL (
      SELECT coalesce(sum(a.delta_usd), 0) AS delta, coalesce(sum(a.counted_delta_usd), 0) AS counted_usd,
        coalesce(sum(a.counted_delta_tokens), 0) AS counted_tokens, coalesce(bool_or(a.settles_unknown), false) AS settled
      FROM ledger_adjustment a WHERE a.call_id = c.id) AS before
  WHERE s.id = ANY (p_late) AND c.outcome = 'abandoned'
    AND NOT EXISTS (SELECT FROM ledger_adjustment a WHERE a.call_id = c.id AND a.reason = 'late_settlement');
END $$;

-- Claim the idempotency keys of holds that bring one. Returns the ordinals whose key is taken.
CREATE OR REPLACE FUNCTION ledger_claim(p_now timestamptz, p_holds jsonb) RETURNS int[] LANGUAGE plpgsql AS $$
DECLARE taken int[];
BEGIN
  DELETE FROM ledger_idempotencykey i USING jsonb_to_recordset(p_holds) AS h(key bigint, idempotency text)
    WHERE i.key_id = h.key AND i.text_sha256 = h.idempotency AND i.expires_at <= p_now;
  WITH wanted AS (
    SELECT h.* FROM ROWS FROM (jsonb_to_recordset(p_holds) AS (
      request_id uuid, key bigint, idempotency text, body_sha256 text)) WITH ORDINALITY AS h
    WHERE h.idempotency IS NOT NULL
  ), claimed AS (
    INSERT INTO ledger_idempotencykey AS i (
      key_id, text_sha256, body_sha256, request_id, state, headers, answer_encrypted, expires_at)
    SELECT DISTINCT ON (key, idempotency) key, idempotency, body_sha256, request_id, 'running', '{}'::jsonb, '',
      p_now + interval '24 hours'
    FROM wanted ORDER BY key, idempotency, ordinality
    -- A later attempt of the same request takes its own claim up again.
    ON CONFLICT ON CONSTRAINT idempotency_key_once DO UPDATE SET state = 'running'
      WHERE i.request_id = excluded.request_id RETURNING i.request_id
  )
  SELECT array_agg(w.ordinality::int) INTO taken FROM wanted w
    WHERE NOT EXISTS (SELECT FROM claimed c WHERE c.request_id = w.request_id);
  RETURN coalesce(taken, '{}');
END $$;

-- What becomes of the claims of calls that ended for good: the answer is kept, nobody knows, or it never happened.
CREATE OR REPLACE FUNCTION ledger_resolve_claims(p_settles jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM ledger_idempotencykey i USING jsonb_to_recordset(p_settles) AS s(id uuid, claim text)
    WHERE s.claim = 'release' AND i.state = 'running' AND i.request_id = ledger_request_of(s.id);
  UPDATE ledger_idempotencykey i SET state = s.claim, call_id = s.id, headers = coalesce(s.answer_headers, '{}'),
      answer_encrypted = coalesce(s.answer_encrypted, '')
    FROM jsonb_to_recordset(p_settles) AS s(id uuid, claim text, answer_headers jsonb, answer_encrypted text)
    WHERE s.claim IN ('done', 'indeterminate') AND i.request_id = ledger_request_of(s.id)
      AND (i.state = 'running' OR i.state = 'indeterminate' AND s.claim = 'done');
END $$;

-- The request of a call: its id with the attempt taken out.
CREATE OR REPLACE FUNCTION ledger_request_of(p_call uuid) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT encode(set_byte(uuid_send(p_call), 15, 0), 'hex')::uuid
$$;

-- Admit each hold if for ALL its limits used + held + need <= amount; insert the admitted.
-- `e_*` are the edges hold -> window, ordered by hold; `w_*` the windows, locked. Returns NULL or
-- {"refused": {"<ordinal>": {"limit": id, "why": "limit"|"unpriced"|"idempotency"}}, "room": {"<limit>": what is left}}, with the room
-- of request and token limits only: clients are told of those in headers.
CREATE OR REPLACE FUNCTION hold_batch(p_writer uuid, p_now timestamptz, p_holds jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  e_hold int[]; e_window bigint[]; e_limit bigint[]; e_need numeric[]; e_blocks boolean[]; e_priced boolean[];
  e_room_at int[];
  w_id bigint[]; w_room numeric[]; w_limit bigint[]; w_told boolean[];
  edges int; e int; first int; last int; hold int; refused_by int;
  refusals jsonb := NULL; refused int[] := '{}'; taken int[] := '{}'; room jsonb := NULL;
BEGIN
  IF jsonb_path_exists(p_holds, '$[*].idempotency ? (@ != null)') THEN
    taken := ledger_claim(p_now, p_holds);
    refused := taken;
    SELECT jsonb_object_agg(t.hold::text, '{"limit": null, "why": "idempotency"}'::jsonb) INTO refusals
      FROM unnest(taken) AS t(hold);
  END IF;
  SELECT array_agg(h.ordinality::int ORDER BY h.ordinality, w.id), array_agg(w.id ORDER BY h.ordinality, w.id),
    array_agg(l.id ORDER BY h.ordinality, w.id),
    array_agg(ledger_need(l.metric, h.usd, h.tokens) ORDER BY h.ordinality, w.id),
    array_agg(l.action = 'block' ORDER BY h.ordinality, w.id),
    array_agg(l.metric <> 'usd' OR h.usd IS NOT NULL ORDER BY h.ordinality, w.id)
  INTO e_hold, e_window, e_limit, e_need, e_blocks, e_priced
  FROM ROWS FROM (jsonb_to_recordset(p_holds) AS (usd numeric, tokens bigint, limits jsonb)) WITH ORDINALITY AS h
    CROSS JOIN LATERAL jsonb_array_elements_text(h.limits) AS x(id)
    JOIN ledger_limit l ON l.id = x.id::bigint AND l.enabled
    JOIN ledger_limitwindow w ON w.limit_id = l.id AND w.starts_at = ledger_period_start(l.period, p_now);

  edges := coalesce(cardinality(e_hold), 0);
  IF edges > 0 THEN
    -- What is left in each window now. A sliding minute also counts the part of the previous minute still in view.
    SELECT array_agg(w.id), array_agg(
        l.amount - w.used - w.held - CASE WHEN l.period = 'minute' THEN coalesce((
          SELECT (p.used + p.held) * (1 - extract(second FROM p_now) / 60)
          FROM ledger_limitwindow p WHERE p.limit_id = l.id AND p.starts_at = w.starts_at - interval '1 minute'), 0)
        ELSE 0 END), array_agg(l.id), array_agg(l.metric IN ('requests', 'tokens'))
      INTO w_id, w_room, w_limit, w_told
      FROM ledger_limitwindow w JOIN ledger_limit l ON l.id = w.limit_id WHERE w.id = ANY (e_window);
    SELECT array_agg(array_position(w_id, u.id) ORDER BY u.o) INTO e_room_at
      FROM unnest(e_window) WITH ORDINALITY AS u(id, o);

    first := 1;
    WHILE first <= edges LOOP
      hold := e_hold[first];
      last := first;
      WHILE last < edges AND e_hold[last + 1] = hold LOOP last := last + 1; END LOOP;
      IF hold = ANY (taken) THEN
        first := last + 1;
        CONTINUE;
      END IF;
      refused_by := 0;
      FOR e IN first .. last LOOP
        IF e_blocks[e] AND (NOT e_priced[e] OR e_need[e] > w_room[e_room_at[e]]) THEN
          refused_by := e;
          EXIT;
        END IF;
      END LOOP;
      IF refused_by > 0 THEN
        refused := refused || hold;
        refusals := coalesce(refusals, '{}') || jsonb_build_object(hold::text, jsonb_build_object(
          'limit', e_limit[refused_by], 'why', CASE WHEN e_priced[refused_by] THEN 'limit' ELSE 'unpriced' END));
      ELSE
        FOR e IN first .. last LOOP
          w_room[e_room_at[e]] := w_room[e_room_at[e]] - e_need[e];
        END LOOP;
      END IF;
      first := last + 1;
    END LOOP;

    UPDATE ledger_limitwindow w SET held = w.held + d.need
    FROM (SELECT u.id, sum(u.need) AS need FROM unnest(e_hold, e_window, e_need) AS u(hold, id, need)
          WHERE u.hold <> ALL (refused) GROUP BY u.id) d
    WHERE w.id = d.id;
    IF true = ANY (w_told) THEN
      SELECT jsonb_object_agg(u.id::text, u.room) INTO room
        FROM unnest(w_limit, w_room, w_told) AS u(id, room, told) WHERE u.told;
    END IF;
  END IF;

  IF cardinality(refused) > cardinality(taken) THEN
    -- A claim whose hold a limit refused never was; what an earlier attempt left unknown stays unknown.
    UPDATE ledger_idempotencykey i SET state = 'indeterminate'
      FROM ROWS FROM (jsonb_to_recordset(p_holds) AS (request_id uuid, idempotency text)) WITH ORDINALITY AS h
      WHERE i.request_id = h.request_id AND h.idempotency IS NOT NULL AND h.ordinality = ANY (refused)
        AND h.ordinality <> ALL (taken) AND i.call_id IS NOT NULL;
    DELETE FROM ledger_idempotencykey i
      USING ROWS FROM (jsonb_to_recordset(p_holds) AS (request_id uuid, idempotency text)) WITH ORDINALITY AS h
      WHERE i.request_id = h.request_id AND h.idempotency IS NOT NULL AND h.ordinality = ANY (refused)
        AND h.ordinality <> ALL (taken) AND i.call_id IS NULL;
  END IF;

  INSERT INTO ledger_hold (
    id, request_id, attempt, writer_id, key_id, user_id, team_id, model_id, provider_id, price_sheet_id, surface,
    requested_name, streamed, tags, bound_usd, bound_tokens, windows, dispatched, held_at, deadline)
  SELECT h.id, h.request_id, h.attempt, p_writer, h.key, h."user", h.team, h.model, h.provider, h.sheet, h.surface,
    h.name, h.streamed, h.tags, h.usd, h.tokens,
    coalesce((SELECT array_agg(u.id ORDER BY u.id) FROM unnest(e_hold, e_window) AS u(hold, id)
              WHERE u.hold = h.ordinality), '{}'),
    h.dispatched, p_now, p_now + make_interval(secs => h.deadline_s)
  FROM ROWS FROM (jsonb_to_recordset(p_holds) AS (
    id uuid, request_id uuid, attempt int, key bigint, "user" bigint, team bigint, model bigint, provider bigint,
    sheet bigint, surface text, name text, streamed boolean, tags jsonb, usd numeric, tokens bigint,
    dispatched boolean, deadline_s double precision)) WITH ORDINALITY AS h
  WHERE h.ordinality <> ALL (refused)
  ORDER BY h.ordinality;
  IF refusals IS NULL AND room IS NULL THEN
    RETURN NULL;
  END IF;
  RETURN jsonb_build_object('refused', coalesce(refusals, '{}'), 'room', coalesce(room, '{}'));
END $$;

CREATE OR REPLACE FUNCTION ledger_write(
  p_writer uuid, p_seq bigint, p_digest bytea, p_lease_s double precision, p_settles jsonb, p_holds jsonb
) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  w ledger_writer;
  now_ timestamptz := clock_timestamp();
  limits_ bigint[];
  windows_ bigint[];
  refusals jsonb;
  head_ bytea;
BEGIN
  SELECT * INTO w FROM ledger_writer WHERE id = p_writer FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'writer % is not registered', p_writer USING ERRCODE = 'TB001';
  ELSIF w.seq = p_seq AND w.last_digest = p_digest THEN
    RETURN w.last_answer;                       -- the commit's reply was lost: this batch is in the books already
  ELSIF w.state <> 'live' THEN
    RAISE EXCEPTION 'writer % is %: its lease ran out', p_writer, w.state USING ERRCODE = 'TB001';
  ELSIF w.seq <> p_seq - 1 THEN
    RAISE EXCEPTION 'writer % is at seq %, not %', p_writer, w.seq, p_seq - 1 USING ERRCODE = 'TB002';
  END IF;

  IF p_holds IS NOT NULL THEN
    SELECT array_agg(DISTINCT x.id::bigint) INTO limits_
      FROM jsonb_to_recordset(p_holds) AS h(limits jsonb), jsonb_array_elements_text(h.limits) AS x(id);
    IF limits_ IS NOT NULL THEN
      INSERT INTO ledger_limitwindow (limit_id, starts_at)
        SELECT l.id, ledger_period_start(l.period, now_) FROM ledger_limit l
        WHERE l.id = ANY (limits_) AND l.enabled AND NOT EXISTS (
          SELECT FROM ledger_limitwindow x
          WHERE x.limit_id = l.id AND x.starts_at = ledger_period_start(l.period, now_))
        ORDER BY l.id
        ON CONFLICT ON CONSTRAINT limitwindow_once DO NOTHING;
      SELECT array_agg(x.id) INTO windows_
        FROM ledger_limit l JOIN ledger_limitwindow x
          ON x.limit_id = l.id AND x.starts_at = ledger_period_start(l.period, now_)
        WHERE l.id = ANY (limits_);
    END IF;
  END IF;
  IF p_settles IS NOT NULL THEN
    SELECT array_agg(DISTINCT t.id) || coalesce(windows_, '{}') INTO windows_
      FROM ledger_hold h, unnest(h.windows) AS t(id)
      WHERE h.id IN (SELECT s.id FROM jsonb_to_recordset(p_settles) AS s(id uuid));
  END IF;
  IF windows_ IS NOT NULL THEN
    PERFORM FROM ledger_limitwindow WHERE id = ANY (windows_) ORDER BY id FOR NO KEY UPDATE;
  END IF;

  IF p_settles IS NOT NULL THEN
    head_ := settle_batch(p_writer, w.slot, w.batches + 1, w.head, p_settles);
  END IF;
  IF p_holds IS NOT NULL THEN
    refusals := hold_batch(p_writer, now_, p_holds);
  END IF;
  UPDATE ledger_writer SET seq = p_seq, last_digest = p_digest, last_answer = refusals,
    lease_until = clock_timestamp() + make_interval(secs => p_lease_s),
    batches = batches + (head_ IS NOT NULL)::int, head = coalesce(head_, head)
  WHERE id = p_writer;
  RETURN refusals;
END $$;

-- Register a process: a row of its own, in the lowest rollup slot no live writer has.
CREATE OR REPLACE FUNCTION ledger_register_writer(p_id uuid, p_host text, p_pid int, p_lease_s double precision) RETURNS int
LANGUAGE plpgsql AS $$
DECLARE slot_ int;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtext('ledger_register_writer'));
  SELECT min(s) INTO slot_ FROM generate_series(1, (SELECT count(*) + 1 FROM ledger_writer WHERE state = 'live')) AS s
    WHERE NOT EXISTS (SELECT FROM ledger_writer w WHERE w.state = 'live' AND w.slot = s);
  INSERT INTO ledger_writer (id, slot, host, pid, started_at, lease_until, state, head)
    VALUES (p_id, slot_, p_host, p_pid, clock_timestamp(), clock_timestamp() + make_interval(secs => p_lease_s),
            'live', decode(repeat('00', 32), 'hex'));
  RETURN slot_;
END $$;

-- Fence the writers whose lease ran out `p_grace_s` ago. Returns them. After this the database refuses their batches.
CREATE OR REPLACE FUNCTION ledger_fence(p_grace_s double precision) RETURNS SETOF uuid LANGUAGE sql AS $$
  UPDATE ledger_writer SET state = 'fenced'
  WHERE state = 'live' AND lease_until < clock_timestamp() - make_interval(secs => p_grace_s) RETURNING id
$$;

-- Adjustments move the rollups of their calls' days and the windows their calls counted in: once a statement, so that
-- many inserted at once touch each window and each rollup row once and not once each.
-- OFFSET 0 keeps the look-up of a call one probe of its month's primary key, however many adjustments there are.
CREATE OR REPLACE FUNCTION ledger_apply_adjustment() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  stranger uuid;
  touched bigint[];
BEGIN
  SELECT (array_agg(a.call_id) FILTER (WHERE c.id IS NULL))[1], array_agg(DISTINCT t.id) FILTER (WHERE t.id IS NOT NULL)
    INTO stranger, touched
    FROM added a
      LEFT JOIN LATERAL (SELECT l.id, l.windows FROM ledger_call l WHERE l.id = a.call_id OFFSET 0) c ON true
      LEFT JOIN LATERAL unnest(c.windows) AS t(id) ON true;
  IF stranger IS NOT NULL THEN
    RAISE EXCEPTION 'adjustment of call %, which is not in the ledger', stranger
      USING ERRCODE = 'foreign_key_violation', CONSTRAINT = 'adjustment_of_a_call';
  END IF;
  PERFORM FROM ledger_limitwindow WHERE id = ANY (touched) ORDER BY id FOR NO KEY UPDATE;
  WITH corrected AS MATERIALIZED (
    SELECT a.delta_usd, a.settles_unknown, a.counted_delta_usd, a.counted_delta_tokens, c.*
    FROM added a CROSS JOIN LATERAL (SELECT * FROM ledger_call l WHERE l.id = a.call_id OFFSET 0) c
  ), moved AS (
    UPDATE ledger_limitwindow w SET used = w.used + d.used
    FROM (
      SELECT x.id, sum(CASE l.metric WHEN 'usd' THEN k.counted_delta_usd ELSE k.counted_delta_tokens END) AS used
      FROM corrected k CROSS JOIN unnest(k.windows) AS t(id)
        JOIN ledger_limitwindow x ON x.id = t.id JOIN ledger_limit l ON l.id = x.limit_id
      WHERE l.metric IN ('usd', 'tokens') GROUP BY x.id
    ) d WHERE w.id = d.id
  )
  INSERT INTO ledger_dailyspend AS r (
      day, user_id, team_id, key_id, model_id, provider_id, outcome, slot, adjustments_usd, unpriced_calls)
    SELECT ledger_id_day(k.id), k.user_id, k.team_id, k.key_id, k.model_id, k.provider_id, k.outcome, 0,
      sum(k.delta_usd), -sum(k.settles_unknown::int)
    FROM corrected k GROUP BY 1, 2, 3, 4, 5, 6, 7 ORDER BY 1, 2, 3, 4, 5, 6, 7
    ON CONFLICT ON CONSTRAINT dailyspend_once DO UPDATE SET
      adjustments_usd = r.adjustments_usd + excluded.adjustments_usd,
      unpriced_calls = r.unpriced_calls + excluded.unpriced_calls;
  RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER adjustment_applies AFTER INSERT ON ledger_adjustment
  REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION ledger_apply_adjustment();
ALTER TABLE ledger_adjustment ENABLE ALWAYS TRIGGER adjustment_applies;

-- What a limit counts is fixed: its windows would otherwise mix dollars with tokens. Amount and switches may change.
CREATE OR REPLACE FUNCTION ledger_limit_is_fixed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'a limit''s subject, metric and period cannot be changed: make another limit'
    USING ERRCODE = 'check_violation', CONSTRAINT = 'limit_measure_fixed';
END $$;
CREATE OR REPLACE TRIGGER limit_measure_fixed BEFORE UPDATE ON ledger_limit FOR EACH ROW
  WHEN ((OLD.subject, OLD.key_id, OLD.user_id, OLD.team_id, OLD.model_id, OLD.metric, OLD.period)
    IS DISTINCT FROM (NEW.subject, NEW.key_id, NEW.user_id, NEW.team_id, NEW.model_id, NEW.metric, NEW.period))
  EXECUTE FUNCTION ledger_limit_is_fixed();
