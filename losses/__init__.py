"""Detection losses: similarities of boxes, size-aware weights, classification, distribution, the total."""
