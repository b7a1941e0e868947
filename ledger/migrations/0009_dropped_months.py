"""What stays of dropped months is final; the application may run as a role that owns nothing."""

from django.db import migrations

from ledger.sql import read

UNDO = """
DROP FUNCTION ledger_grant_application(text);
DROP FUNCTION ledger_summarise_month(date, uuid, uuid);
ALTER FUNCTION ledger_make_partitions(timestamptz, int) SECURITY INVOKER RESET search_path;
"""


class Migration(migrations.Migration):
    dependencies = [("ledger", "0008_archive_and_reconcile")]

    operations = [migrations.RunSQL(read("archive"), UNDO)]
