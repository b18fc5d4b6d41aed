"""Detection scores in original pixels: COCO, VisDrone, by size and by class."""
