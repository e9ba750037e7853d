"""The published systems, as their authors describe them, to compare with."""
