-- ledger_call, partitioned by month on its own UUIDv7 id, so that the primary key stays the id alone.

-- The instant in a UUIDv7 (its first 48 bits are milliseconds since 1970).
CREATE OR REPLACE FUNCTION ledger_id_time(id uuid) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT to_timestamp(('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint / 1000.0)
$$;

-- The UTC day a call belongs to: the day of its request's id.
CREATE OR REPLACE FUNCTION ledger_id_day(id uuid) RETURNS date
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT (to_timestamp(('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint / 1000.0) AT TIME ZONE 'UTC')::date
$$;

-- The smallest id of an instant: a bound for id ranges and partitions.
CREATE OR REPLACE FUNCTION ledger_id_floor(at timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT (lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

ALTER TABLE ledger_call RENAME TO ledger_call_plain;
CREATE TABLE ledger_call (LIKE ledger_call_plain INCLUDING DEFAULTS INCLUDING CONSTRAINTS)
  PARTITION BY RANGE (id);
DROP TABLE ledger_call_plain;
ALTER TABLE ledger_call ADD CONSTRAINT ledger_call_pkey PRIMARY KEY (id);
-- One request, one attempt, one row: the id IS the request's id with the attempt as its last byte.
ALTER TABLE ledger_call ADD CONSTRAINT call_id_is_request_and_attempt CHECK (
  attempt BETWEEN 1 AND 255
  AND get_byte(uuid_send(request_id), 15) = 0
  AND uuid_send(id) = set_byte(uuid_send(request_id), 15, attempt)
);
CREATE INDEX call_user ON ledger_call (user_id, id DESC);
CREATE INDEX call_key ON ledger_call (key_id, id DESC);
CREATE INDEX call_upstream ON ledger_call (upstream_request_id) WHERE upstream_request_id <> '';
CREATE INDEX call_unpriced ON ledger_call (id DESC) WHERE cost_usd IS NULL;

ALTER TABLE ledger_hold ADD CONSTRAINT hold_id_is_request_and_attempt CHECK (
  attempt BETWEEN 1 AND 255
  AND get_byte(uuid_send(request_id), 15) = 0
  AND uuid_send(id) = set_byte(uuid_send(request_id), 15, attempt)
);
-- Small, hot, short-lived rows: leave room on the page for the next version.
ALTER TABLE ledger_limitwindow SET (fillfactor = 50);
ALTER TABLE ledger_dailyspend SET (fillfactor = 50);
ALTER TABLE ledger_writer SET (fillfactor = 50);
ALTER TABLE ledger_hold SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 2000);

CREATE OR REPLACE FUNCTION ledger_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'the ledger is append-only: % on % is refused', TG_OP, TG_TABLE_NAME
    USING ERRCODE = 'insufficient_privilege', HINT = 'Correct a call by writing an adjustment that points at it.';
END $$;

-- Make the partitions of `months` months from the one of `p_from` on. Returns how many were made.
CREATE OR REPLACE FUNCTION ledger_make_partitions(p_from timestamptz, p_months int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
  first_day timestamp := date_trunc('month', p_from AT TIME ZONE 'UTC');
  starts timestamp;
  name text;
  made int := 0;
BEGIN
  -- One maker at a time: two processes may start in the same second.
  PERFORM pg_advisory_xact_lock(hashtext('ledger_make_partitions'));
  FOR n IN 0 .. p_months - 1 LOOP
    starts := first_day + make_interval(months => n);
    name := 'ledger_call_' || to_char(starts, 'YYYY_MM');
    CONTINUE WHEN to_regclass(name) IS NOT NULL;
    EXECUTE format('CREATE TABLE %I PARTITION OF ledger_call FOR VALUES FROM (%L) TO (%L)', name,
      ledger_id_floor(starts AT TIME ZONE 'UTC'),
      ledger_id_floor((starts + interval '1 month') AT TIME ZONE 'UTC'));
    PERFORM ledger_protect(name);
    made := made + 1;
  END LOOP;
  RETURN made;
END $$;

-- Append-only, also against TRUNCATE and also for replication roles. Row triggers of a partitioned table are
-- cloned to its partitions; the TRUNCATE trigger is not.
CREATE OR REPLACE FUNCTION ledger_protect(p_table text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE t record;
BEGIN
  EXECUTE format('CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON %I '
                 'FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse_change()', p_table);
  FOR t IN SELECT tgname FROM pg_trigger WHERE tgrelid = p_table::regclass AND tgname LIKE 'append_only%' LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER %I', p_table, t.tgname);
  END LOOP;
END $$;

CREATE OR REPLACE TRIGGER append_only BEFORE UPDATE OR DELETE ON ledger_call
  FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();
CREATE OR REPLACE TRIGGER append_only BEFORE UPDATE OR DELETE ON ledger_adjustment
  FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();
CREATE OR REPLACE TRIGGER append_only BEFORE UPDATE OR DELETE ON ledger_batch
  FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();
SELECT ledger_protect('ledger_call');
SELECT ledger_protect('ledger_adjustment');
SELECT ledger_protect('ledger_batch');

-- Holds a row only when nobody made the month's partition: verify_ledger and readiness say so.
CREATE TABLE ledger_call_default PARTITION OF ledger_call DEFAULT;
SELECT ledger_protect('ledger_call_default');
SELECT ledger_make_partitions(now() - interval '1 month', 5);
