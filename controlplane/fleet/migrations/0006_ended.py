"""Clients that were silent for long are forgotten but for their names."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("fleet", "0005_room_for_updates")]

    operations = [
        migrations.CreateModel(
            "EndedInstance",
            fields=[("incarnation", models.UUIDField(primary_key=True, serialize=False))],
        ),
    ]
