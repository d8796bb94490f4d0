"""A deterministic simulation of clients, network, database and providers around the real code of both sides (docs/proof.md)."""
