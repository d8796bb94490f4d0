"""Rollouts by the thousand: how often verdicts are wrong when somebody looks at every tick."""
