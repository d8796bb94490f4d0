"""Closed leases are folded: what is left of them is up to which number of an incarnation; and slots that left their windows go."""

from django.db import migrations, models

_KINDS = ("open", "grant", "settle", "return", "correct", "deny", "close", "revoke", "expire", "carry", "fold")


class Migration(migrations.Migration):
    dependencies = [("budgets", "0011_left")]

    operations = [
        migrations.CreateModel(
            "LeaseFloor",
            fields=[
                ("incarnation", models.UUIDField(primary_key=True, serialize=False)),
                ("number", models.BigIntegerField()),
            ],
        ),
        migrations.AlterField(
            "ledgerentry",
            "kind",
            models.CharField(
                choices=[(kind, kind.capitalize()) for kind in _KINDS],
                max_length=8,
            ),
        ),
        migrations.AddField("account", "slots_since", models.DateTimeField(blank=True, null=True)),
    ]
