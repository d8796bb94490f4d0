"""An instance keeps which windows were acknowledged before its last sync, so that one statement can tell and change it."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("fleet", "0006_ended")]

    operations = [
        migrations.AddField("instance", "windows_before", models.BigIntegerField(db_default=0)),
    ]
