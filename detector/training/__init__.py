"""What goes on around the steps of a training: averaged weights, checkpoints, pictures, progress."""
