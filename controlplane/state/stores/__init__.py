"""The nodes themselves: one class that speaks PostgreSQL, one that speaks Valkey, the same words for both."""
