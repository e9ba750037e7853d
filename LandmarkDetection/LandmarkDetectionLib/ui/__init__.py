"""The parts of the panel. Needs Qt through Slicer's `qt`; what can be decided without Qt is decided elsewhere."""
