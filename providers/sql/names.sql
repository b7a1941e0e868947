-- One name space for what clients may ask for: a name is a model's or an alias, never both. A unique index cannot span
-- two tables, so each side looks at the other, one name at a time: the advisory lock makes two transactions that bring
-- the same name at once see each other.

CREATE FUNCTION providers_name_is_free() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    taken boolean;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('providers.name:' || NEW.name, 0));
    IF TG_TABLE_NAME = 'providers_alias' THEN
        SELECT EXISTS (SELECT FROM providers_model WHERE name = NEW.name) INTO taken;
    ELSE
        SELECT EXISTS (SELECT FROM providers_alias WHERE name = NEW.name) INTO taken;
    END IF;
    IF taken THEN
        RAISE EXCEPTION 'The name "%" is taken by %', NEW.name,
            CASE TG_TABLE_NAME WHEN 'providers_alias' THEN 'a model' ELSE 'an alias' END
            USING ERRCODE = 'unique_violation', TABLE = TG_TABLE_NAME, CONSTRAINT = 'name_of_model_or_alias';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER model_name_is_free BEFORE INSERT OR UPDATE OF name ON providers_model
    FOR EACH ROW EXECUTE FUNCTION providers_name_is_free();
ALTER TABLE providers_model ENABLE ALWAYS TRIGGER model_name_is_free;

CREATE TRIGGER alias_name_is_free BEFORE INSERT OR UPDATE OF name ON providers_alias
    FOR EACH ROW EXECUTE FUNCTION providers_name_is_free();
ALTER TABLE providers_alias ENABLE ALWAYS TRIGGER alias_name_is_free;
