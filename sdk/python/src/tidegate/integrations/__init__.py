"""Guards around other people's clients. Each module works with what it is given and imports no package that is not there."""
