"""Images to predictions: `network` on any timm backbone, `yolov9`; `fusion` folds either for use."""
