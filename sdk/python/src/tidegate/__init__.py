"""Tidegate's SDK: model calls governed inside your process."""
