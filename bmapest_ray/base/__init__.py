"""Units, errors, digests, named random generators: what every other room stands on."""
