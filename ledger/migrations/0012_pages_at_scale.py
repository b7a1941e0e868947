"""Pages that stay fast on a large ledger; adjustments that are applied once a statement."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

from ledger.sql import read


class Migration(migrations.Migration):

    dependencies = [
        ('ledger', '0011_late_after_reconciliation'),
        ('providers', '0003_history'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AlterField(
            model_name='dailyspend',
            name='key',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='ledger.apikey'),
        ),
        migrations.AlterField(
            model_name='dailyspend',
            name='model',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='providers.model'),
        ),
        migrations.AlterField(
            model_name='dailyspend',
            name='provider',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='providers.provider'),
        ),
        migrations.AlterField(
            model_name='dailyspend',
            name='team',
            field=models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='ledger.team'),
        ),
        migrations.AlterField(
            model_name='dailyspend',
            name='user',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddIndex(
            model_name='call',
            index=models.Index(fields=['model', '-id'], name='call_model'),
        ),
        migrations.AddIndex(
            model_name='call',
            index=models.Index(
                fields=['user', 'outcome', '-id'], condition=models.Q(('outcome', 'ok'), _negated=True), name='call_user_outcome'
            ),
        ),
        migrations.AddIndex(
            model_name='dailyspend',
            index=models.Index(fields=['team', 'day'], name='dailyspend_team_day'),
        ),
        migrations.AddIndex(
            model_name='dailyspend',
            index=models.Index(fields=['model', 'day'], name='dailyspend_model_day'),
        ),
        migrations.AddIndex(
            model_name='dailyspend',
            index=models.Index(fields=['provider', 'day'], name='dailyspend_provider_day'),
        ),
        # ledger_apply_adjustment and its trigger are what changed: once a statement, where they ran once a row.
        migrations.RunSQL(read("batches"), migrations.RunSQL.noop),
    ]
