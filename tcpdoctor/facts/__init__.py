"""Named, dimensioned arithmetic on snapshots; pure."""
