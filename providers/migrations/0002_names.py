"""A public name is a model's or an alias, never both."""

from pathlib import Path

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "names.sql"
UNDO = """
DROP TRIGGER alias_name_is_free ON providers_alias;
DROP TRIGGER model_name_is_free ON providers_model;
DROP FUNCTION providers_name_is_free();
"""


class Migration(migrations.Migration):
    dependencies = [("providers", "0001_initial")]

    operations = [migrations.RunSQL(SQL.read_text(), UNDO)]
