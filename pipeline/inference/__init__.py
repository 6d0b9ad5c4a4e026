"""New images against what a run or a bundle has learned."""
