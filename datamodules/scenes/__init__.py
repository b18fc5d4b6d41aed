"""Generated aerial scenes: drawn, and written as a COCO data set."""
