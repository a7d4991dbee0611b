"""What the words of TCP mean, as data: states, sysctls, options, errors, runtimes."""
