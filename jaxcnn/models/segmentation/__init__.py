"""Networks for semantic segmentation: one file per family. `create_model` creates them by name."""
