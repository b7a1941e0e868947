-- A published price is history: nothing changes or removes it, whoever asks. A price is corrected by a new sheet.
CREATE FUNCTION ledger_pricesheet_frozen() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  has_rates boolean;
BEGIN
  IF TG_OP = 'INSERT' THEN
    IF NEW.status <> 'draft' THEN
      RAISE EXCEPTION 'price sheet %: a sheet begins as a draft; add its rates, then publish it', NEW.id
        USING ERRCODE = 'restrict_violation', CONSTRAINT = 'pricesheet_begins_as_draft';
    END IF;
    RETURN NEW;
  END IF;
  IF OLD.status = 'published' THEN
    RAISE EXCEPTION 'price sheet % is published and cannot be changed or deleted: publish a new sheet', OLD.id
      USING ERRCODE = 'restrict_violation', CONSTRAINT = 'pricesheet_published_is_frozen';
  END IF;
  IF TG_OP = 'DELETE' THEN
    RETURN OLD;
  END IF;
  IF NEW.status = 'published' THEN
    has_rates := EXISTS (SELECT 1 FROM ledger_rate WHERE sheet_id = NEW.id);
    IF has_rates = NEW.discontinued THEN
      RAISE EXCEPTION 'price sheet %: a sheet has rates, or is discontinued and has none', NEW.id
        USING ERRCODE = 'check_violation', CONSTRAINT = 'pricesheet_rates_or_discontinued';
    END IF;
  END IF;
  RETURN NEW;
END $$;

CREATE FUNCTION ledger_rate_frozen() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  ids bigint[];
  frozen bigint;
BEGIN
  ids := CASE TG_OP WHEN 'INSERT' THEN ARRAY[NEW.sheet_id]
                    WHEN 'DELETE' THEN ARRAY[OLD.sheet_id]
                    ELSE ARRAY[OLD.sheet_id, NEW.sheet_id] END;
  -- FOR SHARE waits for a publish in flight; the foreign key's own lock would not. The status is read by a statement
  -- of its own: in one with the lock it would be tested first, and a row that fails the test is never locked.
  PERFORM 1 FROM ledger_pricesheet WHERE id = ANY (ids) ORDER BY id FOR SHARE;
  SELECT id INTO frozen FROM ledger_pricesheet WHERE id = ANY (ids) AND status = 'published' LIMIT 1;
  IF frozen IS NOT NULL THEN
    RAISE EXCEPTION 'price sheet % is published: its rates cannot be added, changed or deleted', frozen
      USING ERRCODE = 'restrict_violation', CONSTRAINT = 'rate_of_published_is_frozen';
  END IF;
  RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$;

CREATE FUNCTION ledger_prices_keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% holds published prices and cannot be truncated', TG_TABLE_NAME
    USING ERRCODE = 'restrict_violation', CONSTRAINT = 'prices_never_truncated';
END $$;

CREATE TRIGGER pricesheet_frozen BEFORE INSERT OR UPDATE OR DELETE ON ledger_pricesheet
  FOR EACH ROW EXECUTE FUNCTION ledger_pricesheet_frozen();
CREATE TRIGGER rate_frozen BEFORE INSERT OR UPDATE OR DELETE ON ledger_rate
  FOR EACH ROW EXECUTE FUNCTION ledger_rate_frozen();
CREATE TRIGGER pricesheet_never_truncated BEFORE TRUNCATE ON ledger_pricesheet
  FOR EACH STATEMENT EXECUTE FUNCTION ledger_prices_keep();
CREATE TRIGGER rate_never_truncated BEFORE TRUNCATE ON ledger_rate
  FOR EACH STATEMENT EXECUTE FUNCTION ledger_prices_keep();

-- Also for sessions that switch triggers off with session_replication_role.
ALTER TABLE ledger_pricesheet ENABLE ALWAYS TRIGGER pricesheet_frozen;
ALTER TABLE ledger_rate ENABLE ALWAYS TRIGGER rate_frozen;
ALTER TABLE ledger_pricesheet ENABLE ALWAYS TRIGGER pricesheet_never_truncated;
ALTER TABLE ledger_rate ENABLE ALWAYS TRIGGER rate_never_truncated;
