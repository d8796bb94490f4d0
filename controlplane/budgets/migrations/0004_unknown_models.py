import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("budgets", "0003_accuracy")]

    operations = [
        migrations.CreateModel(
            name="UnknownModels",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("once", models.BooleanField(default=True, unique=True)),
                ("policy", models.CharField(choices=[("estimate", "Estimate"), ("refuse", "Refuse"), ("allow", "Allow")], default="estimate", max_length=8)),
                ("rates", models.JSONField(blank=True, default=dict)),
                ("families", models.JSONField(blank=True, default=list)),
                ("set_by", models.CharField(default="", max_length=150)),
                ("set_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(condition=models.Q(("policy__in", ["estimate", "refuse", "allow"])), name="unknown_models_policy_known"),
                    models.CheckConstraint(condition=models.Q(("once", True)), name="unknown_models_once"),
                ],
            },
        ),
    ]
