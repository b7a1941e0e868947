"""NaN is no amount: PostgreSQL lets it pass as "not negative". Reads each table once while nobody writes to it."""

from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('ledger', '0013_fewer_indexes'),
        ('providers', '0005_health_checks'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddConstraint(
            model_name='adjustment',
            constraint=models.CheckConstraint(condition=models.Q(('counted_delta_usd__lt', 1000000000000), ('delta_usd__lt', 1000000000000)), name='adjustment_amounts_are_numbers', violation_error_message='An amount is a number.'),
        ),
        migrations.AddConstraint(
            model_name='call',
            constraint=models.CheckConstraint(condition=models.Q(('cost_usd__lt', 1000000000000), ('counted_usd__lt', 1000000000000), ('stated_cost_usd__lt', 1000000000000)), name='call_amounts_are_numbers', violation_error_message='An amount is a number.'),
        ),
        migrations.AddConstraint(
            model_name='dailyspend',
            constraint=models.CheckConstraint(condition=models.Q(('adjustments_usd__lt', 1000000000000), ('cost_usd__lt', 1000000000000)), name='dailyspend_amounts_are_numbers', violation_error_message='An amount is a number.'),
        ),
        migrations.AddConstraint(
            model_name='hold',
            constraint=models.CheckConstraint(condition=models.Q(('bound_usd__lt', 1000000000000)), name='hold_bound_is_a_number', violation_error_message='An amount is a number.'),
        ),
        migrations.AddConstraint(
            model_name='limit',
            constraint=models.CheckConstraint(condition=models.Q(('amount__lt', 1000000000000)), name='limit_amount_is_a_number', violation_error_message='An amount is a number.'),
        ),
        migrations.AddConstraint(
            model_name='limitwindow',
            constraint=models.CheckConstraint(condition=models.Q(('held__lt', 1000000000000), ('used__lt', 1000000000000)), name='limitwindow_amounts_are_numbers', violation_error_message='An amount is a number.'),
        ),
        migrations.AddConstraint(
            model_name='rate',
            constraint=models.CheckConstraint(condition=models.Q(('amount_usd__lt', 1000000000000), ('minimum__lt', 1000000000000), ('quantum__lt', 1000000000000)), name='rate_amounts_are_numbers', violation_error_message='An amount is a number.'),
        ),
    ]
