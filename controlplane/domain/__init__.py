"""Pure decisions that only the server takes. No Django, clock, chance, log, environment or I/O."""
