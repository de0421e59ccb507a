"""The model as four verbs: sample, score, choose, snapshot. Nobody else pads a tensor or moves one to a device."""
