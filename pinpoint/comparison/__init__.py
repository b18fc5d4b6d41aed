"""compare.py: trains variants with several seeds, and tells differences from noise."""
