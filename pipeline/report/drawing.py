"""Colours of all plots."""

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
GOOD, ANOMALOUS, INK, FAINT = "#2a7fb8", "#d1495b", "#1f2933", "#c9d1d9"
GRID, TICKS, MUTED = "#edf0f3", "#52606d", "#7b8794"
