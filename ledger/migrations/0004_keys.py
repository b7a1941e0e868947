"""API keys are never deleted, never change their identity, never come back from a revocation."""

from pathlib import Path

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "keys.sql"
UNDO = """
DROP TRIGGER apikey_identity_kept ON ledger_apikey;
DROP TRIGGER apikey_never_truncated ON ledger_apikey;
DROP TRIGGER apikey_never_deleted ON ledger_apikey;
DROP FUNCTION ledger_apikey_identity();
DROP FUNCTION ledger_apikey_keep();
"""


class Migration(migrations.Migration):
    dependencies = [("ledger", "0002_books")]

    operations = [migrations.RunSQL(SQL.read_text(), UNDO)]
