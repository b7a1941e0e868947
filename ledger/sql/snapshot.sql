-- Every statement that changes what processes keep in memory bumps one number, which they poll.
INSERT INTO ledger_snapshotversion (id, version, changed_at) VALUES (1, 1, now());

CREATE OR REPLACE FUNCTION ledger_bump_snapshot() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE ledger_snapshotversion SET version = version + 1, changed_at = clock_timestamp() WHERE id = 1;
  RETURN NULL;
END $$;

DO $$
DECLARE t text;
BEGIN
  FOREACH t IN ARRAY ARRAY['providers_provider', 'providers_model', 'providers_alias', 'ledger_pricesheet',
                           'ledger_rate', 'ledger_limit', 'ledger_team'] LOOP
    EXECUTE format('CREATE TRIGGER bump_snapshot AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON %I '
                   'FOR EACH STATEMENT EXECUTE FUNCTION ledger_bump_snapshot()', t);
  END LOOP;
  -- Not for last_used_at or last_login: they change all the time and nobody keeps them in memory.
  CREATE TRIGGER bump_snapshot AFTER INSERT OR DELETE
      OR UPDATE OF user_id, team_id, scopes, allowed_models, expires_at, revoked_at, secret_sha256 ON ledger_apikey
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_bump_snapshot();
  CREATE TRIGGER bump_snapshot AFTER UPDATE OF is_active ON auth_user
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_bump_snapshot();
END $$;
