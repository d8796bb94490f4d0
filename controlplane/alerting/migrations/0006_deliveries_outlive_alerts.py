import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('alerting', '0005_metric_rules'),
    ]

    operations = [
        migrations.AlterField(
            model_name='delivery',
            name='change',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='deliveries', to='alerting.change'),
        ),
    ]
