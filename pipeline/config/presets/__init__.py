"""Presets: parameters of the paper's examples, written over a commented template."""
