"""What the words of TCP mean, as data: states and sysctls in TOML, read through importlib.resources."""
