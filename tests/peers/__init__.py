"""The behaviour tables of others, run against what decides here."""
