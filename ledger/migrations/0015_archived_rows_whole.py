"""The places and the bytes of a cut batch are there together: NULL in one of them made the old rule unknown, so it passed."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('ledger', '0014_amounts_are_numbers'),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='archivedbatch',
            name='archivedbatch_rows_whole',
        ),
        migrations.AddConstraint(
            model_name='archivedbatch',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('positions__isnull', True), ('rows__isnull', True)), models.Q(('positions__isnull', False), ('rows__isnull', False), ('positions__len', models.F('count')), ('rows__len', models.F('count'))), _connector='OR'), name='archivedbatch_rows_whole'),
        ),
    ]
