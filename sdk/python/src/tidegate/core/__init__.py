"""Pure decisions, shared with the server: no clock, chance, I/O or dependency. Each takes values and returns values."""
