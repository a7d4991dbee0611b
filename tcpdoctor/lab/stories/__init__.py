"""The stories that scenarios tell, one module per family of rules."""
