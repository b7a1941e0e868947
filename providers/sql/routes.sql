-- A route's name is in the same name space as models and aliases, and changes of routes reach every process.

CREATE OR REPLACE FUNCTION providers_name_is_free() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    taken_by text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('providers.name:' || NEW.name, 0));
    SELECT what INTO taken_by FROM (
        SELECT 'a model' AS what, 'providers_model' AS source FROM providers_model WHERE name = NEW.name
        UNION ALL SELECT 'an alias', 'providers_alias' FROM providers_alias WHERE name = NEW.name
        UNION ALL SELECT 'a route', 'providers_route' FROM providers_route WHERE name = NEW.name
    ) names WHERE source <> TG_TABLE_NAME LIMIT 1;
    IF taken_by IS NOT NULL THEN
        RAISE EXCEPTION 'The name "%" is taken by %', NEW.name, taken_by
            USING ERRCODE = 'unique_violation', TABLE = TG_TABLE_NAME, CONSTRAINT = 'name_of_model_or_alias';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER route_name_is_free BEFORE INSERT OR UPDATE OF name ON providers_route
    FOR EACH ROW EXECUTE FUNCTION providers_name_is_free();
ALTER TABLE providers_route ENABLE ALWAYS TRIGGER route_name_is_free;

CREATE TRIGGER bump_snapshot AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON providers_route
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_bump_snapshot();
CREATE TRIGGER bump_snapshot AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON providers_routetarget
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_bump_snapshot();
