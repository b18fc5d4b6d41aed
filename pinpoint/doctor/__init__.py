"""The doctor: reads a data set once, reports what is wrong with it, draws it, and advises options.

Called as `python -m pinpoint.doctor --config configs/custom.yaml --data.train_images DIR ...`.
"""
