"""Options, exit codes, standard output; one file a command."""
