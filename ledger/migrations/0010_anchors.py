"""Anchors of the writers' chains."""

import django.db.models.deletion
from django.db import migrations, models

from ledger.sql import read

UNDO = "DROP FUNCTION ledger_take_anchors(double precision);"


class Migration(migrations.Migration):
    dependencies = [("ledger", "0009_dropped_months")]

    operations = [
        migrations.CreateModel(
            name='Anchor',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('taken_at', models.DateTimeField(db_index=True)),
                ('seq', models.BigIntegerField(help_text='How many batches the chain had.')),
                ('head', models.BinaryField(help_text='The hash of the last of them.')),
                ('writer', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='anchors', to='ledger.writer')),
            ],
            options={
                'ordering': ['-id'],
                'constraints': [
                    models.UniqueConstraint(fields=('writer', 'seq'), name='anchor_once'),
                    models.CheckConstraint(condition=models.Q(('seq__gt', 0)), name='anchor_of_a_batch'),
                ],
            },
        ),
        migrations.RunSQL(read("anchors"), UNDO),
    ]
