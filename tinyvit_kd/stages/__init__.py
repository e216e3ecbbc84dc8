"""One file a command; the pieces meet here."""
