"""The models. Each is a sub-package; `base` has the contract that they keep, and finds them by name."""
