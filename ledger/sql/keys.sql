-- API keys outlive their use: calls and rollups point at them, so rows stay, their identity stays, and a revocation
-- cannot be taken back. Enabled ALWAYS: a replication role does not switch these off.

CREATE FUNCTION ledger_apikey_keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'API keys are never deleted: revoke the key instead'
        USING ERRCODE = 'restrict_violation', TABLE = 'ledger_apikey';
END $$;

CREATE TRIGGER apikey_never_deleted BEFORE DELETE ON ledger_apikey
    FOR EACH ROW EXECUTE FUNCTION ledger_apikey_keep();
ALTER TABLE ledger_apikey ENABLE ALWAYS TRIGGER apikey_never_deleted;

CREATE TRIGGER apikey_never_truncated BEFORE TRUNCATE ON ledger_apikey
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_apikey_keep();
ALTER TABLE ledger_apikey ENABLE ALWAYS TRIGGER apikey_never_truncated;

CREATE FUNCTION ledger_apikey_identity() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.id, NEW.public_id, NEW.secret_sha256, NEW.user_id)
        IS DISTINCT FROM (OLD.id, OLD.public_id, OLD.secret_sha256, OLD.user_id) THEN
        RAISE EXCEPTION 'The id, secret and user of API key % never change: rotate or revoke it', OLD.public_id
            USING ERRCODE = 'restrict_violation', TABLE = 'ledger_apikey';
    END IF;
    IF OLD.revoked_at IS NOT NULL AND NEW.revoked_at IS DISTINCT FROM OLD.revoked_at THEN
        RAISE EXCEPTION 'API key % is revoked for good: create a new one', OLD.public_id
            USING ERRCODE = 'restrict_violation', TABLE = 'ledger_apikey';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER apikey_identity_kept BEFORE UPDATE ON ledger_apikey
    FOR EACH ROW EXECUTE FUNCTION ledger_apikey_identity();
ALTER TABLE ledger_apikey ENABLE ALWAYS TRIGGER apikey_identity_kept;
