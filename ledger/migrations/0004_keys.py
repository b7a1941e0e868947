"""API keys are never deleted, never change their identity, never come back from a revocation."""

from django.db import migrations

from ledger.sql import read

UNDO = """
DROP TRIGGER apikey_identity_kept ON ledger_apikey;
DROP TRIGGER apikey_never_truncated ON ledger_apikey;
DROP TRIGGER apikey_never_deleted ON ledger_apikey;
DROP FUNCTION ledger_apikey_identity();
DROP FUNCTION ledger_apikey_keep();
"""


class Migration(migrations.Migration):
    dependencies = [("ledger", "0003_prices_frozen")]

    operations = [migrations.RunSQL(read("keys"), UNDO)]
