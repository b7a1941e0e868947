"""A late settlement minds what was said of the call in between; calls that did not end well have an index."""

from django.db import migrations, models

from ledger.sql import read


class Migration(migrations.Migration):
    dependencies = [("ledger", "0010_anchors")]

    operations = [
        migrations.AddIndex(
            model_name='call',
            index=models.Index(
                fields=['outcome', '-id'], condition=models.Q(('outcome', 'ok'), _negated=True), name='call_outcome'
            ),
        ),
        # Every function of the file is replaced by its newest text; ledger_settle_late is the one that changed.
        migrations.RunSQL(read("batches"), migrations.RunSQL.noop),
    ]
