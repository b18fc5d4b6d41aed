"""Reading, transforming and batching of detection data."""
