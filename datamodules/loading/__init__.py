"""From records to batches in the training process: order, samples, hand-over."""
