"""How good the landmarks are: metrics, click simulation and a report."""
