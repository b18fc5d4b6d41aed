"""YOLOv9 in the sizes t, s, m and c, whose public COCO weights are MIT-licensed."""
