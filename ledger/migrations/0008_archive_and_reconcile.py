"""Archived months and what stays of dropped ones; uploads of providers' exports."""

import django.contrib.postgres.fields
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('ledger', '0007_history'),
        ('providers', '0003_history'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='ArchivedBatch',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('month', models.DateField()),
                ('writer_id', models.UUIDField()),
                ('seq', models.BigIntegerField()),
                ('count', models.IntegerField()),
                ('positions', django.contrib.postgres.fields.ArrayField(base_field=models.IntegerField(), null=True, size=None)),
                ('rows', django.contrib.postgres.fields.ArrayField(base_field=models.BinaryField(), null=True, size=None)),
            ],
            options={
                'verbose_name_plural': 'archived batches',
                'constraints': [models.UniqueConstraint(fields=('writer_id', 'seq', 'month'), name='archivedbatch_once'), models.CheckConstraint(condition=models.Q(models.Q(('positions__isnull', True), ('rows__isnull', True)), models.Q(('positions__len', models.F('count')), ('rows__len', models.F('count'))), _connector='OR'), name='archivedbatch_rows_whole')],
            },
        ),
        migrations.CreateModel(
            name='ArchivedMonth',
            fields=[
                ('month', models.DateField(help_text='Its first day.', primary_key=True, serialize=False)),
                ('path', models.CharField(help_text='Where the file was written.', max_length=500)),
                ('sha256', models.CharField(max_length=64)),
                ('bytes', models.BigIntegerField()),
                ('calls', models.BigIntegerField()),
                ('archived_at', models.DateTimeField()),
                ('dropped_at', models.DateTimeField(help_text='NULL: the calls are still in the database.', null=True)),
            ],
            options={
                'ordering': ['-month'],
                'constraints': [models.CheckConstraint(condition=models.Q(('sha256__regex', '^[0-9a-f]{64}$')), name='archivedmonth_sha256'), models.CheckConstraint(condition=models.Q(('month__day', 1)), name='archivedmonth_first_day')],
            },
        ),
        migrations.CreateModel(
            name='ArchivedRollup',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('month', models.DateField()),
                ('day', models.DateField()),
                ('user_id', models.BigIntegerField()),
                ('team_id', models.BigIntegerField(null=True)),
                ('key_id', models.BigIntegerField()),
                ('model_id', models.BigIntegerField()),
                ('provider_id', models.BigIntegerField()),
                ('outcome', models.CharField(max_length=9)),
                ('calls', models.BigIntegerField()),
                ('unpriced_calls', models.BigIntegerField()),
                ('input_tokens', models.BigIntegerField()),
                ('cache_read_tokens', models.BigIntegerField()),
                ('cache_write_tokens', models.BigIntegerField()),
                ('output_tokens', models.BigIntegerField()),
                ('reasoning_tokens', models.BigIntegerField()),
                ('cost_usd', models.DecimalField(decimal_places=12, max_digits=24)),
                ('adjustments_usd', models.DecimalField(decimal_places=12, max_digits=24)),
            ],
            options={
                'indexes': [models.Index(fields=['day'], name='archivedrollup_day')],
                'constraints': [models.UniqueConstraint(fields=('day', 'user_id', 'team_id', 'key_id', 'model_id', 'provider_id', 'outcome'), name='archivedrollup_once', nulls_distinct=False)],
            },
        ),
        migrations.CreateModel(
            name='ArchivedWindow',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('month', models.DateField()),
                ('window_id', models.BigIntegerField()),
                ('used', models.DecimalField(decimal_places=12, max_digits=36)),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('month', 'window_id'), name='archivedwindow_once')],
            },
        ),
        migrations.CreateModel(
            name='ReconcileRun',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('names', models.JSONField(default=list, help_text='The names of the files.')),
                ('mapping', models.JSONField(help_text='How a CSV of another form is read.', null=True)),
                ('account', models.CharField(blank=True, help_text='Only lines of this project, workspace or key.', max_length=200)),
                ('sha256', models.CharField(help_text='Of what was read, and how: names its adjustments.', max_length=64)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('posted_at', models.DateTimeField(null=True)),
                ('posted_usd', models.DecimalField(decimal_places=12, max_digits=24, null=True)),
                ('posted_calls', models.IntegerField(null=True)),
                ('created_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('posted_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('provider', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='providers.provider')),
            ],
            options={
                'verbose_name': 'reconciliation',
                'ordering': ['-id'],
            },
        ),
        migrations.CreateModel(
            name='ReconcileFile',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=255)),
                ('content', models.BinaryField()),
                ('run', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='files', to='ledger.reconcilerun')),
            ],
            options={
                'ordering': ['id'],
            },
        ),
        migrations.AddConstraint(
            model_name='reconcilerun',
            constraint=models.CheckConstraint(condition=models.Q(('sha256__regex', '^[0-9a-f]{64}$')), name='reconcilerun_sha256'),
        ),
        migrations.AddConstraint(
            model_name='reconcilerun',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('posted_at__isnull', True), ('posted_calls__isnull', True), ('posted_usd__isnull', True)), models.Q(('posted_at__isnull', False), ('posted_calls__isnull', False), ('posted_usd__isnull', False)), _connector='OR'), name='reconcilerun_posted_whole'),
        ),
    ]
