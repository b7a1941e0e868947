"""Partitions, append-only triggers, the functions that write the ledger, the snapshot number."""

from django.conf import settings
from django.db import migrations

from ledger.sql import read


class Migration(migrations.Migration):
    dependencies = [
        ("ledger", "0001_initial"),
        ("providers", "0001_initial"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.RunSQL(read("partitions"), migrations.RunSQL.noop),
        migrations.RunSQL(read("batches"), migrations.RunSQL.noop),
        migrations.RunSQL(read("snapshot"), migrations.RunSQL.noop),
    ]
