"""Pipelines for volumes: the anatomy found in the whole volume at low resolution, its points in windows."""
