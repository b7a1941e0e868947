"""A published price sheet and its rates cannot be changed, by anyone."""

from pathlib import Path

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "prices_frozen.sql"
UNDO = """
DROP TRIGGER rate_never_truncated ON ledger_rate;
DROP TRIGGER pricesheet_never_truncated ON ledger_pricesheet;
DROP TRIGGER rate_frozen ON ledger_rate;
DROP TRIGGER pricesheet_frozen ON ledger_pricesheet;
DROP FUNCTION ledger_prices_keep();
DROP FUNCTION ledger_rate_frozen();
DROP FUNCTION ledger_pricesheet_frozen();
"""


class Migration(migrations.Migration):
    dependencies = [("ledger", "0002_books")]

    operations = [migrations.RunSQL(SQL.read_text(), UNDO)]
