"""The proofs of tests/simulation on real PostgreSQL: the same answers, and nothing lost when many write at once."""
